"""Transactions as their database knows them: marks in them, and limits on waiting for locks."""

from __future__ import annotations

from typing import Any, Protocol

import sqlalchemy as sa

BRIEF = "taskqueue_brief"
"""The execution option of an engine whose transactions wait only briefly for a writer on SQLite.

On the other databases every transaction of the queue does.
"""
SNAPSHOTS = ("REPEATABLE READ", "SERIALIZABLE")
"""The isolation levels at which a transaction sees the database as it was when it began."""
_SAVEPOINT = "taskqueue_handler"


class Mark(Protocol):
    """A mark in a transaction; the database loses it with that transaction, however it ends."""

    values: dict[str, Any]
    """What to bind in `Dialect.in_marked`."""

    def holds(self, connection: sa.Connection) -> bool:
        """Return whether the connection is still in the transaction of the mark; ask only once."""


class Savepoint:
    """A savepoint, which a commit, a rollback and a statement that commits implicitly release."""

    def __init__(self, connection: sa.Connection) -> None:
        self.values: dict[str, Any] = {}
        connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")

    def holds(self, connection: sa.Connection) -> bool:
        try:
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            return False
        return True


class TransactionId:
    """The number that the server gives to a transaction that writes."""

    IS_CURRENT = sa.func.txid_current() == sa.bindparam("transaction", type_=sa.BigInteger)
    _ASKED = "SELECT txid_current()"

    def __init__(self, connection: sa.Connection) -> None:
        self.values: dict[str, Any] = {
            "transaction": connection.exec_driver_sql(self._ASKED).scalar_one()
        }

    def holds(self, connection: sa.Connection) -> bool:
        found = connection.exec_driver_sql(self._ASKED).scalar_one()
        return bool(found == self.values["transaction"])


_DIRECT = "taskqueue_direct"


def limit_postgresql(engine: sa.Engine, milliseconds: int) -> sa.Engine:
    """Limit how long sessions wait for a lock, by a setting of each session.

    Behind a pooler such as PgBouncer a session is not ours alone, and others would inherit the
    setting. There, the process that answers differs from the one that was reported when we
    connected; each transaction then sets the limit for itself.
    """

    @sa.event.listens_for(engine, "connect")
    def _limit(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('lock_timeout', %s, false) WHERE pg_backend_pid() = %s",
                (f"{milliseconds}ms", connection.info.backend_pid),
            )
            record.info[_DIRECT] = cursor.fetchone() is not None
        connection.commit()

    @sa.event.listens_for(engine, "begin")
    def _limit_transaction(connection: sa.Connection) -> None:
        if not (
            connection.info.get(_DIRECT, False)  # it may be gone from one that was detached
            or connection.get_execution_options().get("taskqueue_reading", False)
        ):
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{milliseconds}ms'")

    return engine


def limit_mysql(engine: sa.Engine, seconds: int) -> sa.Engine:
    """Limit how long sessions wait for a lock, of a row or of a table."""

    @sa.event.listens_for(engine, "connect")
    def _limit(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(limits(seconds))
        cursor.close()

    return engine


def limits(seconds: int) -> str:
    """Return the statement that makes a session of MariaDB or MySQL wait no longer."""
    return f"SET SESSION innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}"
