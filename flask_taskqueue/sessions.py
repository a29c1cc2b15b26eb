"""The application's session: whether it holds changes, and what follows its commit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from flask import Flask, current_app, has_app_context
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction

from .core.errors import BadTransactionStateError

_CHANGED = "taskqueue_changed"
_AFTER = "taskqueue_after"
_READS = re.compile(r"\s*(select|show|explain|pragma|values)\b", re.IGNORECASE)

_watched: WeakSet[Any] = WeakSet()
_no_commit: ContextVar[bool] = ContextVar("taskqueue_no_commit", default=False)


def watch(session: Any) -> None:
    """Follow the sessions of a Flask-SQLAlchemy extension; harmless when it is done twice."""
    if session not in _watched:  # sa.event.contains goes by ids, which come back when another application's session is gone
        _watched.add(session)
        sa.event.listen(session, "after_flush", _flushed)
        sa.event.listen(session, "do_orm_execute", _executing)
        sa.event.listen(session, "after_transaction_end", _ended)
        sa.event.listen(session, "before_commit", _committing)


def has_changes(session: Session) -> bool:
    """Whether the session holds changes that are not committed, flushed or not.

    Not seen are writes that bypass the session: on its connection, or by its legacy bulk methods.
    """
    return bool(session.info.get(_CHANGED) or session.new or session.dirty or session.deleted)


def is_current(app: Flask) -> bool:
    """Whether the caller is in a context of this application, which its session is bound to."""
    return has_app_context() and current_app._get_current_object() is app  # type: ignore[attr-defined]


def mark_changed(session: Session) -> None:
    """Say that the session's transaction holds a change that the session did not make itself."""
    session.info[_CHANGED] = True


def after_commit(session: Session, call: Callable[[], None]) -> None:
    """Call this once the transaction has ended (also when it was rolled back)."""
    session.info.setdefault(_AFTER, {})[call] = None


@contextmanager
def no_commit() -> Iterator[None]:
    """Within this a commit raises `BadTransactionStateError`; savepoints may come and go."""
    token = _no_commit.set(True)
    try:
        yield
    finally:
        _no_commit.reset(token)


def _flushed(session: Session, _context: object) -> None:
    session.info[_CHANGED] = True


def _executing(state: ORMExecuteState) -> None:
    writes = state.is_insert or state.is_update or state.is_delete
    if writes or (isinstance(state.statement, sa.TextClause) and not _READS.match(state.statement.text)):
        state.session.info[_CHANGED] = True


def _ended(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is not None:
        return
    session.info.pop(_CHANGED, None)
    for call in session.info.pop(_AFTER, ()):
        call()


def _committing(session: Session) -> None:
    if _no_commit.get() and not session.in_nested_transaction():
        raise BadTransactionStateError(
            "a transactional handler must not commit: its changes are committed together with the end of its "
            "task, after it has returned a 2xx. Leave the commit out, or use transactional=False"
        )
