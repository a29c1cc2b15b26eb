"""Databases with tables and no rows, which tests leave to each other: to make the tables takes
longer than most tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from flask_taskqueue.store.database.schema import CURRENT
from tests.apps import bench
from tests.databases import Servers, TestDatabase, fresh

_OURS = "taskqueue_schema"
"""The table whose row stays: the tables are of this version, and nobody's."""
_BEFORE = {
    "postgresql": [
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
        "current_database() AND pid != pg_backend_pid()",
    ],
    "mariadb": ["SET lock_wait_timeout = 5", "SET innodb_lock_wait_timeout = 5"],
}
"""What has nobody wait for connections that a test has left."""
_EMPTY = {("mariadb", "taskqueue_task"): "TRUNCATE TABLE"}
"""What empties a table otherwise: an insert whose key was deleted just now locks gaps."""


class Laid:
    """Databases with the tables of an application as `tests.apps` makes them."""

    def __init__(self, servers: Servers, directory: Path, stack: ExitStack) -> None:
        """What is made is there until ``stack`` is closed."""
        self._servers = servers
        self._directory = directory
        self._stack = stack
        self._free: dict[str, list[TestDatabase]] = {}
        self._columns: dict[str, dict[str, int]] = {}
        """How many columns each table has."""

    @contextmanager
    def lend(self, name: str, directory: Path) -> Iterator[TestDatabase]:
        """A database, for one test; a SQLite file is a copy, in ``directory``."""
        free = self._free.setdefault(name, [])
        database = free.pop() if free else self._make(name)
        if name == "sqlite":
            free.append(database)
            copy = directory / "test.db"
            shutil.copyfile(str(sa.make_url(database.url).database), copy)
            yield TestDatabase(name, f"sqlite:///{copy}")
            return
        yield database
        with suppress(
            sa.exc.DBAPIError
        ):  # what a test has left locked, or other than it was, is not used again
            if self._empty(database):
                free.append(database)

    def _make(self, name: str) -> TestDatabase:
        database = self._stack.enter_context(fresh(name, self._servers, self._directory))
        with bench(database.url) as one:
            one.store.ensure_queues()
        self._columns.setdefault(name, _columns_of(database))
        self._empty(database)
        return database

    def _empty(self, database: TestDatabase) -> bool:
        """Remove what a test has left; False if it has left a table other than it was."""
        engine = sa.create_engine(database.url, poolclass=sa.NullPool)
        quote = engine.dialect.identifier_preparer.quote
        with engine.begin() as connection:
            for setting in _BEFORE.get(database.name, ()):
                connection.exec_driver_sql(setting)
            found, wanted = _columns(connection), self._columns[database.name]
            for table in found:
                if table not in wanted:
                    connection.exec_driver_sql(f"DROP TABLE {quote(table)}")
                elif table != _OURS:
                    verb = _EMPTY.get((database.name, table), "DELETE FROM")
                    connection.exec_driver_sql(f"{verb} {quote(table)}")
            if {table: found.get(table) for table in wanted} != wanted:
                return False
            schema = sa.Table(
                _OURS,
                sa.MetaData(),
                *(sa.Column(name) for name in ("version", "oldest", "application", "fingerprints")),
            )
            stamp = {"version": CURRENT.version, "oldest": CURRENT.oldest}
            connection.execute(
                sa.update(schema).values(stamp | dict.fromkeys(("application", "fingerprints")))
            )
        return True


def _columns_of(database: TestDatabase) -> dict[str, int]:
    with sa.create_engine(database.url, poolclass=sa.NullPool).connect() as connection:
        return _columns(connection)


def _columns(connection: sa.Connection) -> dict[str, int]:
    """The tables, and how many columns each has."""
    if connection.dialect.name == "sqlite":
        query = (
            "SELECT m.name, count(*) FROM sqlite_master m JOIN pragma_table_info(m.name) GROUP "
            "BY m.name, m.type HAVING m.type = 'table'"
        )
    else:
        where = "current_schema()" if connection.dialect.name == "postgresql" else "database()"
        query = (
            "SELECT table_name, count(*) FROM information_schema.columns WHERE table_schema = "
            f"{where} GROUP BY table_name"
        )
    return {
        name: number
        for name, number in connection.exec_driver_sql(query)
        if not name.startswith("sqlite_")
    }
