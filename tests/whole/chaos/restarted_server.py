"""A database server is stopped as by a crash and restarted, and all its connections are
terminated, while tasks run.
"""

from __future__ import annotations

import time

from tests.whole import loop_app
from tests.whole.processes import descendants

from .history import Fault
from .own_servers import OwnDatabase, own_server
from .scenario import Scenario
from .stage import Stage


def play(stage: Stage, *, tasks: int, times: int, pause: float, limit: float) -> None:
    """The same processes go on; what was in flight is attempted again, nothing else."""
    database = stage.database
    assert isinstance(database, OwnDatabase)
    stage.add(loop_app.slow.spec(seconds=0.02) for _ in range(tasks))
    stage.transactional |= {*stage.add(loop_app.count.spec() for _ in range(tasks))}
    with stage.dispatchers(2) as running:
        stage.wait_begun(20)
        children = {process.pid for process in descendants(running.pid)}
        for _ in range(times):
            for harm in (database.terminate_connections, lambda: database.restart(pause)):
                since = time.monotonic()
                harm()
                stage.faults.append(Fault("outage", since, time.monotonic()))
                stage.wait_begun(10)
        stage.wait_drained(limit)
        assert {process.pid for process in descendants(running.pid)} == children


RESTARTED_SERVER = Scenario(
    name="restarted server",
    play=play,
    small={"tasks": 150, "times": 1, "pause": 0.3, "limit": 40},
    full={"tasks": 1500, "times": 5, "pause": 2.0, "limit": 120},
    databases=("postgresql", "mariadb"),
    place=own_server,
    settings={"LEASE": "6"},
)
