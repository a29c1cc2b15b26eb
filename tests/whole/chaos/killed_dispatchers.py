"""Dispatchers are killed, again and again, while plain, transactional and serial tasks run."""

from __future__ import annotations

from .scenario import Scenario
from .stage import Stage


def play(stage: Stage, *, each: int, every: float, worked: int, limit: float) -> None:
    """``each`` tasks of each sort; ``every`` so many seconds a process is killed that has
    ``worked``.
    """
    stage.add_mixed(each)
    with stage.dispatchers(3) as running:
        stage.kill_until_drained(running, every=every, worked=worked, limit=limit)
    assert stage.faults, "nobody was killed"


KILLED_DISPATCHERS = Scenario(
    name="killed dispatchers",
    play=play,
    small={"each": 250, "every": 0.2, "worked": 40, "limit": 60},
    full={"each": 3000, "every": 0.3, "worked": 100, "limit": 300},
    # What a process held that was killed is given back at once; only what slips through that waits
    # for its lease.
    settings={"LEASE": "6"},
)
