"""Connections of the queue's own, made just as the app's engine makes its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa

from ....core.errors import ConfigurationError

_NOTHING: Mapping[str, object] = MappingProxyType({})
_unset: ContextVar[Mapping[str, object]] = ContextVar("taskqueue_connect_args", default=_NOTHING)
"""The arguments for the driver, beside the app's, while the queue makes a connection."""

_prepared: WeakSet[sa.Dialect] = WeakSet()


def create_engine(
    source: sa.Engine | sa.URL,
    connect_args: Mapping[str, object],
    is_stale: Callable[[sa.exc.DBAPIError], bool],
    **options: Any,
) -> sa.Engine:
    """Return an engine with its own pool, whose connections lead where those of ``source`` do.

    If ``source`` is the app's engine, it makes each connection afresh, with everything that takes
    part in making one: ``creator``, and all listeners of ``do_connect``, ``connect``,
    ``first_connect`` and ``checkout`` that exist at that moment. ``connect_args`` are passed to the
    driver unless the URL or the app sets them; a function of the app's that connects by itself does
    not receive them.

    After an error that ``is_stale`` no connection of the pool is used again: they may all lead to a
    server that is now read-only, while new ones lead to another.
    """
    if isinstance(source, sa.URL):
        unset = {name: value for name, value in connect_args.items() if name not in source.query}
        engine = sa.create_engine(source, connect_args=unset, hide_parameters=True, **options)
    else:
        engine = _engine_beside(source, connect_args, options)

    @sa.event.listens_for(engine, "handle_error")
    def _throw_away(context: sa.ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if (
            context.connection is not None
            and isinstance(error, sa.exc.DBAPIError)
            and is_stale(error)
        ):
            context.is_disconnect = True

    return engine


def _engine_beside(
    source: sa.Engine, connect_args: Mapping[str, object], options: Mapping[str, Any]
) -> sa.Engine:
    if source.dialect not in _prepared:
        _prepared.add(source.dialect)
        sa.event.listen(source, "do_connect", _set_unset, insert=True)
    creator = partial(_connect, source, connect_args)
    return sa.create_engine(
        source.url,
        creator=creator,
        module=source.dialect.loaded_dbapi,
        hide_parameters=True,
        **options,
    )


def _connect(source: sa.Engine, connect_args: Mapping[str, object]) -> Any:
    """Return a connection of the driver's that nobody else has."""
    token = _unset.set(connect_args)
    try:
        proxy = _new_pool(source).connect()
    finally:
        _unset.reset(token)
    proxy.detach()
    connection: Any = proxy.dbapi_connection
    try:
        # a listener may have set something in a transaction that the driver began by itself
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def _new_pool(source: sa.Engine) -> sa.Pool:
    """Return an empty pool that makes connections as the engine's own does, with its listeners."""
    try:
        return source.pool.recreate()
    except NotImplementedError as error:
        raise ConfigurationError(
            f"the application's engine has a pool of type {type(source.pool).__name__}, "
            "which has no recreate(), so that the queue cannot "
            "connect as the application does: use another poolclass, or give the queue a "
            "database of its own with TASKQUEUE_DATABASE_URI"
        ) from error


def _set_unset(
    _dialect: sa.Dialect, _record: object, _arguments: Sequence[object], parameters: dict[str, Any]
) -> None:
    for name, value in _unset.get().items():
        parameters.setdefault(name, value)
