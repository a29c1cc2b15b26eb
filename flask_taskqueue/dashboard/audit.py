"""The audit log: an action and its entry commit together or not at all."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import g, request

from ..api.changes import audited, joins_session, make_change
from ..core.names import task_id
from ..runtime import Runtime
from .rendering import CompletedAction, PlannedAction

_LONGEST = 1000


def carry_out(runtime: Runtime, action: PlannedAction) -> CompletedAction:
    """Carry out an action and write its entry in the same transaction.

    An action of several transactions adds to its entry with each of them.
    """
    entry = _Entry(runtime, action)
    joined = joins_session(runtime, None)
    try:
        with audited(entry.write):
            result = action.do()
        if not entry.is_written:  # there was nothing to change
            make_change(runtime, lambda connection: entry.write(connection, 0), None, wakes=False)
    except BaseException:
        if joined:  # so that nobody commits a part of it with the session later
            runtime.binding.session().rollback()
        raise
    target = action.target(result) if callable(action.target) else action.target
    return CompletedAction(action.name, action.count(result), target)


class _Entry:
    """The row of an action in the audit log."""

    def __init__(self, runtime: Runtime, action: PlannedAction) -> None:
        self._audit = runtime.store.audit
        self._action = action
        self._id = task_id()
        self.is_written = False

    def write(self, connection: sa.Connection, result: Any) -> None:
        """Write the row, or add to it the number that one more transaction has changed."""
        action = self._action
        subject = action.subject(result) if callable(action.subject) else action.subject
        self._audit.add(
            connection,
            self._id,
            who=g.taskqueue_access.user,
            address=printable(request.remote_addr or "", 64).encode("ascii", "replace").decode(),
            action=action.name,
            subject=printable(subject, _LONGEST),
            changed=action.count(result),
        )
        self.is_written = True


def printable(text: str, longest: int) -> str:
    """Return the first ``longest`` characters, without any that a database may refuse."""
    return "".join(char if char.isprintable() else "?" for char in text[:longest])
