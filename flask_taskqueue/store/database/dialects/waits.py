"""Limits on waiting for locks, which an app may hold for long."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

BRIEF = "taskqueue_brief"
"""The execution option of an engine whose transactions wait only briefly for a writer on SQLite.

On the other databases every transaction of the queue does.
"""
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
            connection.info[_DIRECT]
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
