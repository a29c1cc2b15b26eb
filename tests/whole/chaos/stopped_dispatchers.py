"""Dispatchers are stopped (SIGTERM) and replaced while tasks run, some of which take longer
than the grace period.
"""

from __future__ import annotations

import time

from tests.whole import loop_app
from tests.whole.processes import descendants

from .history import Fault
from .scenario import Scenario
from .stage import Stage

GRACE = 0.5


def play(stage: Stage, *, tasks: int, times: int, limit: float) -> None:
    """Each stop ends within the grace period and two seconds, with exit code 0, and burns no
    attempt.
    """
    stage.add(loop_app.slow.spec(seconds=0.02) for _ in range(tasks))
    stage.add(loop_app.slow.spec(seconds=2 * GRACE) for _ in range(8))
    for _ in range(times):
        with stage.dispatchers(2) as running:
            stage.wait_begun(20)
            children = descendants(running.pid)
            since = time.monotonic()
            running.terminate()
            assert running.wait(GRACE + 10) == 0
            took = time.monotonic() - since
            stage.faults += [Fault("stop", since, since + took, child.pid) for child in children]
            assert took < GRACE + 2
            assert not any(child.is_running() for child in children)
    with stage.dispatchers(2):
        stage.wait_drained(limit)
    assert {row.attempts for row in stage.history().rows} == {1}
    assert "Traceback" not in stage.said()


STOPPED_DISPATCHERS = Scenario(
    name="stopped dispatchers",
    play=play,
    small={"tasks": 200, "times": 1, "limit": 30},
    full={"tasks": 2000, "times": 8, "limit": 60},
    settings={"GRACE_PERIOD": f"{GRACE:g}"},
)
