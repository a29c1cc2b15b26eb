"""Filters, which choose the tasks to find or to change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import sqlalchemy as sa

from ...core.clock import SECOND
from ...core.ids import first_id
from ...core.names import is_token
from ...core.settings.checks import nearest
from ...core.states import State
from ..database.dialects.states import is_state

REASONS = (
    "success",
    "failure",
    "permanent",
    "timeout",
    "connection",
    "tls",
    "refused",
    "crash",
    "expired",
    "replaced",
)
"""The reasons for the result of a task's last attempt, or for its end."""

_STATUS = re.compile(r"([1-5])(xx|[0-9]{2})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LastStatus:
    """A filter by last reply: a status from ``low`` to ``high``, or a ``reason``."""

    low: int = 0
    high: int = 0
    reason: str | None = None

    @classmethod
    def parse(cls, text: str | int) -> LastStatus:
        """Parse a status ("502"), a class of them ("5xx") or a reason ("timeout").

        >>> LastStatus.parse("5xx")
        LastStatus(low=500, high=599, reason=None)

        Raises ValueError for anything else.
        """
        word = str(text).strip().lower()
        match = _STATUS.fullmatch(word)
        if match is not None:
            first = int(match[1]) * 100
            return cls(first, first + 99) if match[2] == "xx" else cls(int(word), int(word))
        if word not in REASONS:
            raise ValueError(
                f"status is {text!r}; it must be such as 502, a class such as 5xx, or a "
                f"reason{nearest(word, REASONS)}"
            )
        return cls(reason=word)


SEARCHED = 100_000
"""The number of the newest tasks that a search looks through, because no index helps it."""

_SKEW = 3600 * SECOND
"""The largest difference between the clock of a process that adds tasks and the database's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter of tasks; None leaves a field open, and all given fields must match.

    ``since`` is the earliest creation, in microseconds. ``search`` is a part of the id, the name,
    the URL or the last error, in upper or lower case; only the newest `SEARCHED` tasks are
    searched. ``before`` is a task id, ``batch`` a batch id.
    """

    ids: Sequence[str] | None = None
    state: State | None = None
    queue: str | None = None
    url: str | None = None
    name: str | None = None
    batch: str | None = None
    status: LastStatus | None = None
    since: int | None = None
    attempts_at_least: int | None = None
    search: str | None = None
    before: str | None = None

    def conditions(self, task: sa.Table) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for a row of the task table."""
        found = [*self._equal(task), *self._at_least(task)]
        if self.ids is not None:
            found.append(task.c.id.in_([task_id for task_id in self.ids if is_token(task_id)]))
        if self.before is not None:
            found.append(task.c.id < self.before if is_token(self.before) else sa.false())
        if self.status is not None:
            found.append(_has_status(task, self.status))
        if self.search is not None:
            found += [
                is_recent(task),
                says(task, self.search, (task.c.id, task.c.name, task.c.url)),
            ]
        return found

    def _equal(self, task: sa.Table) -> list[sa.ColumnElement[bool]]:
        equal = {"queue": self.queue, "url": self.url, "name": self.name, "batch_id": self.batch}
        found = [
            task.c[column] == value if is_token(value) else sa.false()
            for column, value in equal.items()
            if value is not None
        ]
        return found if self.state is None else [_has_state(task, self.state), *found]

    def _at_least(self, task: sa.Table) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.since is not None:
            # The id says about the same, and has the index that finds tasks.
            found += [
                task.c.id >= first_id(max(0, self.since - _SKEW)),
                task.c.created_at >= self.since,
            ]
        if self.attempts_at_least is not None:
            found.append(task.c.attempts >= self.attempts_at_least)
        return found


def _has_state(task: sa.Table, state: State) -> sa.ColumnElement[bool]:
    """Return whether a row has this state, even while it waits for a key.

    The index of live tasks does not have tasks that wait for a key.
    """
    return is_state(task, state) if state is State.LEASED else task.c.state == state.value


def _has_status(task: sa.Table, status: LastStatus) -> sa.ColumnElement[bool]:
    if status.reason is not None:
        return task.c.last_reason == status.reason
    return task.c.last_status.between(status.low, status.high)


def is_recent(task: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether a task is one of those that a search looks through."""
    other = task.alias("recent")
    oldest = (
        sa.select(other.c.id)
        .order_by(other.c.id.desc())
        .limit(1)
        .offset(SEARCHED - 1)
        .scalar_subquery()
    )
    return task.c.id >= sa.func.coalesce(oldest, "")


def says(
    task: sa.Table, text: str, tokens: Sequence[sa.ColumnElement[str]]
) -> sa.ColumnElement[bool]:
    """Return whether a text is in a task's last error or one of its ``tokens``, in any case."""
    if not text.isprintable():
        return sa.false()
    columns = (*tokens, task.c.last_error) if text.isascii() else (task.c.last_error,)
    return reduce(sa.or_, [column.icontains(text, autoescape=True) for column in columns])
