"""Dispatchers are paused (SIGSTOP) for longer than their lease, and go on as if nothing had
happened.
"""

from __future__ import annotations

import random
import time

from tests.whole import loop_app
from tests.whole.processes import descendants

from .history import Fault
from .scenario import Scenario
from .stage import Stage

LEASE = 2.0


def play(stage: Stage, *, tasks: int, times: int, limit: float) -> None:
    """Pause a random process for one and a half leases, so many times, while slow tasks and
    transactional ones run.
    """
    stage.add(loop_app.slow.spec(seconds=0.25) for _ in range(tasks))
    stage.transactional |= {*stage.add(loop_app.count.spec() for _ in range(tasks))}
    with stage.dispatchers(3, "--threads", "4") as running:
        for _ in range(times):
            stage.wait_begun(20)
            victim = random.choice(descendants(running.pid))
            since = time.monotonic()
            victim.suspend()
            time.sleep(1.5 * LEASE)
            victim.resume()
            stage.faults.append(Fault("pause", since, time.monotonic(), victim.pid))
        stage.wait_drained(limit)


PAUSED_DISPATCHERS = Scenario(
    name="paused dispatchers",
    play=play,
    small={"tasks": 150, "times": 1, "limit": 30},
    full={"tasks": 1500, "times": 10, "limit": 120},
    settings={"LEASE": f"{LEASE:g}"},
)
