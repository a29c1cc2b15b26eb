"""Transactions that the app has begun outside of its session, and that hold SQLite's write lock."""

from __future__ import annotations

import os
import threading
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa

from .sqlite import SQLiteWrites


class _Begun(threading.local):
    """The connections on which this thread has begun transactions.

    Each has the number of changes that its driver had counted then.
    """

    def __init__(self) -> None:
        self.counts: WeakKeyDictionary[sa.Connection, int] = WeakKeyDictionary()


_begun = _Begun()
_engines: WeakSet[sa.Engine] = WeakSet()


def note_transactions(engine: sa.Engine) -> None:
    """Note from now on which thread begins each transaction of an engine; harmless if repeated."""
    if engine.dialect.name == "sqlite" and engine not in _engines:
        _engines.add(engine)
        sa.event.listen(engine, "begin", _note)


def has_written_here(file: str, *connections: sa.Connection) -> bool:
    """Return whether a transaction that this thread has begun has changed a SQLite file.

    It holds the write lock of the file then, until it ends. These ``connections`` do not count.
    """
    return any(
        connection not in connections and _has_written(connection, counted, file)
        for connection, counted in list(_begun.counts.items())
    )


def _has_written(connection: sa.Connection, counted: int, file: str) -> bool:
    if connection.closed or connection.invalidated or not connection.in_transaction():
        return False
    writes = SQLiteWrites(connection)
    return writes.count() != counted and writes.may_lock(file)


def _note(connection: sa.Connection) -> None:
    _begun.counts[connection] = SQLiteWrites(connection).count()


def _after_fork() -> None:
    global _begun
    _begun = _Begun()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
