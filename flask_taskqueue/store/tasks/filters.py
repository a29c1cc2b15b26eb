"""Filters: which tasks to find or to change, and what a search may look at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import sqlalchemy as sa

from ...core.names import first_id, is_token
from ...core.security.redaction import UrlRedaction
from ...core.settings.checks import nearest
from ...core.states import State
from ...core.times import SECOND
from ..database.dialects.claims import is_state

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
    searched. ``before`` is a task id, ``batch`` a batch id. ``untried_since`` is an instant, in
    microseconds, since which no attempt has begun.
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
    untried_since: int | None = None

    def conditions(self, task: sa.Table) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for a row of the task table."""
        found = [*self._equal(task), *self._at_least(task)]
        if self.ids is not None:
            found.append(task.c.id.in_([task_id for task_id in self.ids if is_token(task_id)]))
        if self.before is not None:
            found.append(task.c.id < self.before if is_token(self.before) else sa.false())
        if self.untried_since is not None:
            began = task.c.started_at
            found.append(sa.or_(began.is_(None), began < self.untried_since))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """A search in tasks as somebody sees them, for a URL and for a part of what is seen.

    The visible parts are id, name, last error and URL; None means no restriction.

    The database compares no hidden text: a row whose URL is shown otherwise than it is stored is
    always a candidate, whatever the search is for, and `fits` judges it by what is seen. So neither
    the results, nor the amount of work, reveals anything about the hidden parts.
    """

    sight: UrlRedaction
    url: str | None = None
    search: str | None = None

    @classmethod
    def of(cls, packed: dict[str, Any] | None) -> Visible | None:
        """Return the search that `packed` describes."""
        if packed is None:
            return None
        sight = UrlRedaction(packed["sight"]["queries"], tuple(packed["sight"]["redact"]))
        return cls(sight=sight, url=packed["url"], search=packed["search"])

    def packed(self) -> dict[str, Any]:
        """Return the same for JSON."""
        return asdict(self)

    @property
    def is_anything(self) -> bool:
        """Whether every task fits."""
        return self.url is None and self.search is None

    def conditions(self, task: sa.Table) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for the row of a candidate."""
        found: list[sa.ColumnElement[bool]] = []
        if self.url is not None:
            path = self.url.partition("?")[0]
            begins = task.c.url.startswith(path, autoescape=True) if is_token(path) else sa.false()
            same = task.c.url == self.url if is_token(self.url) else sa.false()
            found.append(
                sa.or_(same, sa.and_(begins, self._is_veiled(task)), task.c.url.contains("@"))
            )
        if self.search is not None:
            in_url = (
                task.c.url.icontains(self.search, autoescape=True)
                if is_token(self.search)
                else sa.false()
            )
            found += [is_recent(task), sa.or_(self._is_said(task), in_url, self._is_veiled(task))]
        return found

    def columns(self, task: sa.Table) -> list[sa.ColumnElement[Any]]:
        """Return the columns of a candidate that `fits` takes."""
        return [task.c.url, sa.case((self._is_said(task), 1), else_=0).label("is_said")]

    def fits(self, url: str, is_said: int) -> bool:
        """Return whether a candidate matches the search."""
        seen = self.sight.url(url)
        if self.url is not None and seen != self.url:
            return False
        return (
            self.search is None
            or bool(is_said)
            or (self.search.isprintable() and self.search.lower() in seen.lower())
        )

    def _is_said(self, task: sa.Table) -> sa.ColumnElement[bool]:
        """Return whether the search text is in the parts of a task that everybody sees."""
        return (
            sa.false() if self.search is None else says(task, self.search, (task.c.id, task.c.name))
        )

    def _is_veiled(self, task: sa.Table) -> sa.ColumnElement[bool]:
        """Return whether a URL may be shown otherwise than it is stored.

        Names of parameters may be escaped, so an escape counts.
        """
        url = task.c.url
        if not self.sight.queries:
            return sa.or_(*(url.contains(mark) for mark in "?#@"))
        hiding = [
            url.icontains(part, autoescape=True) for part in self.sight.redact if is_token(part)
        ]
        escaped = [url.contains(mark, autoescape=True) for mark in "%+"]
        return sa.or_(url.contains("@"), sa.and_(url.contains("?"), sa.or_(*hiding, *escaped)))
