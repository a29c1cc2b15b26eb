"""Inherited connections, which a forked child has from its parent and must not use."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import sqlalchemy as sa

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
