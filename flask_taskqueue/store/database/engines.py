"""Engines: those of apps whose transactions the queue cannot join, and how one is closed."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.errors import ConfigurationError
from .dialects import Dialect

AUTOCOMMIT = (
    "the application's engine commits each statement at once (AUTOCOMMIT), so that neither a "
    "task and the rows it needs, nor a handler's "
    "changes and the end of its task, can be committed together: remove it from "
    "SQLALCHEMY_ENGINE_OPTIONS (or the bind's options), or give "
    "the queue a database of its own with TASKQUEUE_DATABASE_URI"
)


def refuse_unfit_engine(engine: sa.Engine, dialect: Dialect) -> None:
    """Raise `ConfigurationError` if an engine shows, without a connection, that it is unfit."""
    refusal = dialect.refusal(engine)
    if refusal is not None:
        raise ConfigurationError(str(refusal))
    levels = (
        engine.get_execution_options().get("isolation_level"),
        getattr(engine.dialect, "_on_connect_isolation_level", None),
    )
    if "AUTOCOMMIT" in levels:
        raise ConfigurationError(AUTOCOMMIT)


def close_engine(engine: sa.Engine) -> None:
    """Close every connection of an engine.

    SQLAlchemy leaves a connection that is in use to a pool that nobody has any more, where it stays
    open until it is collected as garbage. Here it is closed when it is given back.
    """
    pool = engine.pool
    engine.dispose()
    sa.event.listen(pool, "checkin", _close_given_back)


def _close_given_back(connection: object, record: sa.pool.ConnectionPoolEntry) -> None:
    if connection is not None:
        record.invalidate()
