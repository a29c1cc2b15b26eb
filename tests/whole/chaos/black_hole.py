"""The database falls silent: connections stay, nothing comes through, until they are cut."""

from __future__ import annotations

import time

from tests.outages import Proxy
from tests.whole import loop_app
from tests.whole.processes import descendants

from .history import Fault
from .scenario import Scenario
from .stage import Stage


def play(stage: Stage, *, tasks: int, seconds: float, recovery: float, limit: float) -> None:
    """The dispatchers reach the database by a proxy that swallows everything for so long; the
    same processes go on.
    """
    stage.add(loop_app.slow.spec(seconds=0.02) for _ in range(tasks))
    stage.transactional |= {*stage.add(loop_app.count.spec() for _ in range(tasks))}
    proxy = Proxy(stage.database.url)
    try:
        with stage.dispatchers(2, environment={"LOOP_DATABASE": proxy.url}) as running:
            stage.wait_begun(20)
            children = {process.pid for process in descendants(running.pid)}
            since = time.monotonic()
            proxy.hold()
            time.sleep(seconds)
            proxy.let_go()
            until = time.monotonic()
            stage.faults.append(Fault("outage", since, until))
            stage.wait_begun(1, limit=recovery)
            stage.notes["went on after"] = f"{time.monotonic() - until:.1f} s"
            stage.wait_drained(limit)
            assert {process.pid for process in descendants(running.pid)} == children
    finally:
        proxy.switch(False)


BLACK_HOLE = Scenario(
    name="black hole",
    play=play,
    small={"tasks": 200, "seconds": 2.0, "recovery": 30, "limit": 40},
    full={"tasks": 2000, "seconds": 30.0, "recovery": 15, "limit": 120},
    databases=("postgresql", "mariadb"),
    settings={"LEASE": "6"},
)
