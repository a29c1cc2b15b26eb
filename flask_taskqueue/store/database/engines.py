"""Engines of apps whose transactions the queue cannot be part of."""

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
