"""Connections of the queue's own, made as the app's engine makes its own, and never inherited."""

from __future__ import annotations

import os
import sqlite3
import time
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


_IDLE = 5.0
_USED_AT = "taskqueue_used_at"


def ping_idle(engine: sa.Engine) -> sa.Engine:
    """Ping each connection of an engine before it is used, if it has been idle for some seconds.

    SQLAlchemy's ``pool_pre_ping`` asks every time, which would slow down each turn of a drain.
    """
    module: Any = engine.dialect.loaded_dbapi

    @sa.event.listens_for(engine, "checkin")
    def _note(_connection: Any, record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def _ping(connection: Any, record: Any, _proxy: object) -> None:
        now = time.monotonic()
        if now - record.info.get(_USED_AT, now) < _IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except module.Error as error:
            raise sa.exc.DisconnectionError from error

    return engine


_PID = "taskqueue_pid"
_kept: list[Any] = []
"""The parent's connections; closing one or rolling it back would also happen to the parent."""


def replace_inherited() -> None:
    """Have every pool in a forked child replace its parent's connections when it meets them."""
    if not sa.event.contains(sa.Pool, "checkout", _replace):
        sa.event.listen(sa.Pool, "checkout", _replace, insert=True)


def keep(inherited: object) -> None:
    """Keep something of the parent's from being garbage collected."""
    _kept.append(inherited)


def _note(_connection: Any, record: Any) -> None:
    record.info[_PID] = os.getpid()


def _replace(connection: Any, record: Any, proxy: Any) -> None:
    if record.info.get(_PID) == os.getpid() or _is_in_memory(connection):
        return
    keep(connection)
    record.dbapi_connection = proxy.dbapi_connection = None  # after SQLAlchemy's own recipe
    raise sa.exc.DisconnectionError(
        "the connection is that of the process which this one was forked from"
    )


def _is_in_memory(connection: Any) -> bool:
    """Return whether the fork has copied the whole database."""
    return isinstance(connection, sqlite3.Connection) and not any(
        row[2] for row in connection.execute("PRAGMA database_list")
    )


sa.event.listen(sa.Pool, "connect", _note)
