"""The audit log: an action and its entry there are one, or neither is."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import g, request

from ..api.changes import audited, joins_session, make_change
from ..core.ids import task_id
from ..runtime import Runtime
from .rendering import Deed, Done

_LONGEST = 1000


def carry_out(runtime: Runtime, deed: Deed) -> Done:
    """Do it; each transaction that changes something for it writes the entry as well, and
    commits with it or not at all.
    """
    entry = _Entry(runtime, deed)
    joined = joins_session(runtime, None)
    try:
        with audited(entry.write):
            result = deed.do()
        if not entry.is_written:  # nothing had to be changed
            make_change(runtime, lambda connection: entry.write(connection, 0), None, wakes=False)
    except BaseException:
        if joined:  # whoever commits the session later must not commit a part
            runtime.binding.session().rollback()
        raise
    return Done(
        deed.action, deed.count(result), deed.place(result) if callable(deed.place) else deed.place
    )


class _Entry:
    """The row of an action."""

    def __init__(self, runtime: Runtime, deed: Deed) -> None:
        self._audit = runtime.store.audit
        self._deed = deed
        self._id = task_id()
        self.is_written = False

    def write(self, connection: sa.Connection, result: Any) -> None:
        """Write it, or add to it what one more transaction has changed: the numbers they
        return, or once what is no number.
        """
        deed = self._deed
        subject = deed.subject(result) if callable(deed.subject) else deed.subject
        self._audit.add(
            connection,
            self._id,
            who=g.taskqueue_access.user,
            address=printable(request.remote_addr or "", 64).encode("ascii", "replace").decode(),
            action=deed.action,
            subject=printable(subject, _LONGEST),
            changed=deed.count(result),
        )
        self.is_written = True


def printable(text: str, longest: int) -> str:
    """As much of a text as has room, with nothing in it that a database may refuse."""
    return "".join(one if one.isprintable() else "?" for one in text[:longest])
