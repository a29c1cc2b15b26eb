"""Streamed results that keep a connection of MariaDB or MySQL busy until all rows are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

import sqlalchemy as sa

from ...core.errors import BadTransactionStateError

_STREAMS = "taskqueue_streams"
_UNREAD = (
    "this session's transaction has a streamed result (yield_per, stream_results) whose rows are "
    "not all read, and until then its connection can do nothing else, so that the queue can "
    "neither ask it for changes nor be part of its transaction: read all rows first, for example "
    "with .all(), or use transactional=False"
)


def note_stream(connection: sa.Connection, cursor: Any) -> None:
    """Note the cursor of a result that is read while its rows are used."""
    connection.info[_STREAMS] = [
        *filter(_is_unread, connection.info.get(_STREAMS, ())),
        ref(cursor),
    ]


def refuse_stream(connection: sa.Connection) -> None:
    """Raise `BadTransactionStateError` if a statement now would lose the rest of a result."""
    if any(map(_is_unread, connection.info.get(_STREAMS, ()))):
        raise BadTransactionStateError(_UNREAD)


def _is_unread(stream: Callable[[], Any]) -> bool:
    """Return whether a cursor is there and not closed, which SQLAlchemy does at the last row."""
    cursor = stream()
    return cursor is not None and cursor.connection is not None
