"""The audit log: an action and its entry commit together or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..core.names import task_id
from ..runtime import Runtime
from .changes import audited, joins_session, make_change

_LONGEST = 1000
_URLS = ("url", "q")
_SOUGHT_URLS = re.compile(rf", (?:{'|'.join(_URLS)}) .*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever acts, and the address, or for a command the host, that it comes from."""

    who: str | None
    address: str


def changed_by(result: Any) -> int:
    """Return how much a change did: its result if that is a number, else 1."""
    return int(result) if isinstance(result, int) else 1


class AuditEntry:
    """The row of an action in the audit log.

    ``subject`` says what the action applies to, and ``count`` how much a transaction of it changed;
    both may depend on the result of the change.
    """

    def __init__(
        self,
        runtime: Runtime,
        actor: Actor,
        action: str,
        subject: str | Callable[[Any], str],
        count: Callable[[Any], int] = changed_by,
    ) -> None:
        self._runtime = runtime
        self._actor = actor
        self._action = action
        self._subject = subject
        self._count = count
        self._id = task_id()
        self.is_written = False

    def write(self, connection: sa.Connection, result: Any) -> None:
        """Write the row, or add to it what one more transaction has changed."""
        subject = self._subject(result) if callable(self._subject) else self._subject
        who = self._actor.who
        self._runtime.store.audit.add(
            connection,
            self._id,
            who=None if who is None else printable(who, 100),
            address=printable(self._actor.address, 64).encode("ascii", "replace").decode(),
            action=self._action,
            subject=printable(subject, _LONGEST),
            changed=self._count(result),
        )
        self.is_written = True

    def add(self, changed: int) -> None:
        """Write the row, or add to it, in a transaction of its own.

        This is for actions whose changes are not made by `make_change`: the row is written, with 0,
        before the first of them, and each is added after it was committed.
        """
        self._runtime.store.transact(lambda connection: self.write(connection, changed))


@contextmanager
def recorded(runtime: Runtime, entry: AuditEntry) -> Iterator[AuditEntry]:
    """Write an entry in the transaction of the change that is made within.

    An action of several transactions adds to its entry with each of them. One that changes nothing
    is written in the end. If it fails and was part of the session's transaction, that is rolled
    back.
    """
    joined = joins_session(runtime, None)
    try:
        with audited(entry.write):
            yield entry
        if not entry.is_written:  # there was nothing to change
            make_change(runtime, lambda connection: entry.write(connection, 0), None, wakes=False)
    except BaseException:
        if joined:  # so that nobody commits a part of it with the session later
            runtime.binding.session().rollback()
        raise


def selection_subject(tasks: str, given: Mapping[str, object]) -> str:
    """Describe the tasks that an action applies to; ``given`` are the filters by name.

    What may hold part of a URL comes last (see `without_urls`).
    """
    plain = [name for name in given if name not in _URLS]
    ordered = [*plain, *(name for name in _URLS if name in given)]
    return ", ".join([f"{tasks} tasks", *(f"{name} {given[name]}" for name in ordered)])


def without_urls(subject: str) -> str:
    """Return a `selection_subject` without the text that somebody searched for in URLs."""
    return _SOUGHT_URLS.sub(", …", subject)


def printable(text: str, longest: int) -> str:
    """Return the first ``longest`` characters, without any that a database may refuse."""
    return "".join(char if char.isprintable() else "?" for char in text[:longest])
