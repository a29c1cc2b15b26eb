"""A probe row: visible to connections that lead to the same tables, and to no others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import sqlalchemy as sa

from ..core.errors import ConfigurationError, TransientError
from ..process.tracing import untraced
from .database.transaction import refusal
from .store import Store

_REMEDY = (
    "The queue's connections are made as the application's are, so what leads the session "
    "elsewhere comes later (a listener of begin, "
    "after_begin or engine_connect, a schema_translate_map, an engine that was replaced): do "
    "it when a connection is made, in a listener "
    "of connect or in SQLALCHEMY_ENGINE_OPTIONS, or give the queue a database of its own "
    "with TASKQUEUE_DATABASE_URI"
)


def refuse_elsewhere(
    store: Store, looking: Callable[[], AbstractContextManager[sa.Connection]]
) -> None:
    """Raise `ConfigurationError` unless a connection sees what the queue has committed.

    ``looking`` returns the connection. If a connection does not see it, no dispatcher of this queue
    would attempt a task that is added there. Raises `TransientError` if either database cannot be
    reached.
    """
    name = store.transact(store.dispatchers.add_probe_row)
    try:
        try:
            theirs = _place_unless_seen(store, name, looking)
        except TransientError:  # by a connection that lay idle in the app's pool, and was closed
            theirs = _place_unless_seen(store, name, looking)
    finally:
        store.transact(lambda connection: store.dispatchers.remove(connection, name))
    if theirs is None:
        return
    ours = store.read(store.database.dialect.place)
    raise ConfigurationError(
        f"the application's session looks at {theirs}, where it does not see what the queue "
        f"has stored at {ours}, so that tasks which are "
        f"added in its transactions would never be attempted. {_REMEDY}"
    )


def _place_unless_seen(
    store: Store, name: str, looking: Callable[[], AbstractContextManager[sa.Connection]]
) -> str | None:
    """Return where the connection leads, if it does not see the probe row."""
    dialect, place = store.database.dialect, "another database"
    try:
        with untraced(), looking() as connection:
            place = dialect.place(connection)
            return None if store.dispatchers.sees_probe_row(connection, name) else place
    except sa.exc.DBAPIError as error:
        if dialect.is_missing(error):
            return place
        raise TransientError(
            f"the application's session cannot look at the queue's tables at {place}: "
            f"{refusal(error)}"
        ) from error
    except sa.exc.TimeoutError as error:
        raise TransientError(
            "the application's engine has no connection free to look at the queue's tables with"
        ) from error
    except Exception as error:
        raise ConfigurationError(
            "the application's session cannot be used here, to see whether it looks at the "
            "queue's tables: a listener of its own raised "
            f"{type(error).__name__}: {error}. Have its listeners work where no request, no "
            "user and no tenant is known"
        ) from error
