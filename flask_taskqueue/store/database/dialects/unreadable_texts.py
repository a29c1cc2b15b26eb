"""Texts of SQLite's that nobody can read: bytes that are not UTF-8, and BLOBs in place of texts.

The queue writes none, but SQLite takes whatever somebody writes into a column by hand. Such a value
reads as a text with escapes in it, ``\\xff``, and a BLOB as ``b'...'``, so that everything can be
shown. So does a text with a NUL, which SQLite's functions take for its end.

A statement would not find the row by what it reads as. So before a transaction changes anything,
that is written into the tables, and is judged like any other text: most often the task is malformed
by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

_INFO = "taskqueue_texts"
_BINARY = frozenset({"body", "reply_body"})
"""The columns that hold bytes."""
_READABLE, _IS_UNREADABLE = "taskqueue_readable", "taskqueue_is_unreadable"


class UnreadableTextError(Exception):
    """A transaction that changes something has read a text that is none."""


class Texts:
    """How one connection reads texts."""

    def __init__(self) -> None:
        self.strict: bool = False
        """Whether to raise `UnreadableTextError` instead of returning a readable text."""

    def read(self, connection: Any, record: Any) -> None:
        """Read the texts of a connection of the driver's, as it has just been made."""
        record.info[_INFO] = self
        connection.text_factory, connection.row_factory = self._text, self._row
        for name, function in ((_READABLE, _readable), (_IS_UNREADABLE, _is_unreadable)):
            connection.create_function(name, 1, function, deterministic=True)

    def _text(self, raw: bytes) -> str:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return self._readable(raw)
        return self._readable(raw) if "\0" in text else text

    def _row(self, cursor: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
        kinds = tuple(map(type, row))
        blobs = kinds.count(bytes)
        if not blobs or (blobs == 1 and cursor.description[kinds.index(bytes)][0] in _BINARY):
            return row
        names = (column[0] for column in cursor.description)
        return tuple(
            self._readable(value, blob=True)
            if isinstance(value, bytes) and name not in _BINARY
            else value
            for name, value in zip(names, row, strict=True)
        )

    def _readable(self, raw: bytes, *, blob: bool = False) -> str:
        if self.strict:
            raise UnreadableTextError
        return _readable(raw, blob=blob)


@contextmanager
def strictly(connection: sa.Connection) -> Iterator[None]:
    """Raise `UnreadableTextError` in this block for texts that nobody can read."""
    texts = connection.info.get(_INFO)
    if not isinstance(texts, Texts):  # a connection of the app's own, in memory
        yield
        return
    texts.strict = True
    try:
        yield
    finally:
        texts.strict = False


def make_readable(connection: sa.Connection, tables: Iterable[sa.Table]) -> None:
    """Replace all texts that nobody can read by those that they read as.

    A text that has to be unique, and is taken, gets a random suffix.
    """
    for table in tables:
        texts = [column for column in table.c if isinstance(column.type, sa.String)]
        if not texts:
            continue
        any_unreadable = sa.or_(*map(_unreadable, texts))
        for suffix in ("", sa.literal("~") + sa.func.hex(sa.func.randomblob(4))):
            written = {
                text.name: sa.case((_unreadable(text), _written(text) + suffix), else_=text)
                for text in texts
            }
            update = sa.update(table).prefix_with("OR IGNORE").where(any_unreadable).values(written)
            connection.execute(update)


def _unreadable(text: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return whether a column holds no text; usually the first look at its characters tells."""
    raw, kind = sa.cast(text, sa.LargeBinary), sa.func.typeof(text)
    ascii_only = sa.literal("*[^\x01-\x7f]*")
    unusual = sa.or_(text.op("GLOB")(ascii_only), sa.func.instr(raw, b"\x00") > 0)
    undecodable = sa.and_(unusual, sa.Function[Any](_IS_UNREADABLE, raw) != 0)
    return sa.or_(kind == "blob", sa.and_(kind == "text", undecodable))


def _written(text: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Return what a column reads as."""
    readable = sa.Function[Any](_READABLE, sa.cast(text, sa.LargeBinary), type_=sa.String())
    is_blob = sa.func.typeof(text) == "blob"
    return sa.case((is_blob, sa.literal("b'") + readable + "'"), else_=readable)


def _readable(raw: bytes, *, blob: bool = False) -> str:
    text = raw.decode(errors="backslashreplace").replace("\0", "\\x00")
    return f"b'{text}'" if blob else text


def _is_unreadable(raw: bytes) -> bool:
    return b"\0" in raw or raw != raw.decode(errors="ignore").encode()
