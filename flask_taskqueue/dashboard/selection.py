"""Selections: which tasks the arguments of a list choose."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..api.audit import selection_subject
from ..core.durations import seconds
from ..core.errors import ConfigurationError
from ..core.security.redaction import UrlRedaction
from ..core.times import SECOND
from ..store import Cursor, Filter, ListKind, Visible
from ..store.tasks.filters import LastStatus

FIELDS = ("group", "queue", "status", "attempts", "since", "url", "q")
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class TaskSelection:
    """The tasks that a list shows: its kind, its filter and the place it continues from.

    ``given`` has the arguments as they came, ``problems`` what was wrong with them.
    """

    kind: ListKind
    filter: Filter
    visible: Visible
    given: Mapping[str, str]
    after: Cursor | None = None
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, arguments: Mapping[str, str], sight: UrlRedaction) -> TaskSelection:
        """Read a selection from arguments; what cannot be used is left out and reported."""
        given = {
            name: value for name in FIELDS if (value := arguments.get(name, "").strip()[:_LONGEST])
        }
        problems: list[str] = []
        state = arguments.get("state", "all")
        if state not in list(ListKind):
            problems.append(f"There is no list of {state[:40]!r}; this is every task.")
            state = ListKind.ALL
        task_filter = Filter(
            queue=given.get("queue"),
            status=_status(given, problems),
            attempts_at_least=_attempts(given, problems),
            since=_since(given, problems),
        )
        visible = Visible(sight=sight, url=given.get("url"), search=given.get("q"))
        return cls(
            ListKind(state),
            task_filter,
            visible,
            given,
            Cursor.parse(arguments.get("after", "")),
            problems,
        )

    def among(self, ids: Sequence[str] | None) -> TaskSelection:
        """Return the same selection among these tasks; None if their group of errors is gone."""
        problems = (
            self.problems
            if ids is not None
            else [*self.problems, "There is no such group of errors any more."]
        )
        return replace(self, filter=replace(self.filter, ids=ids or ()), problems=problems)

    @property
    def only_queue(self) -> bool:
        """Whether it filters by queue at most, so that the counts of the lists are right."""
        return not set(self.given) - {"queue"}

    def label(self) -> str:
        """Describe the selection for the audit log."""
        given = {
            name: self.visible.sight.url(value) if name == "url" else value
            for name, value in self.given.items()
        }
        return selection_subject(
            self.kind.value, {name: given[name] for name in FIELDS if name in given}
        )

    def arguments(self, **changes: str | None) -> dict[str, str]:
        """Return the arguments of a link to the first page of the same list, with changes."""
        changed = {"state": self.kind.value, **self.given, **changes}
        return {
            name: value
            for name, value in changed.items()
            if value and (name, value) != ("state", "all")
        }


def _status(given: Mapping[str, str], problems: list[str]) -> LastStatus | None:
    if "status" not in given:
        return None
    try:
        return LastStatus.parse(given["status"])
    except ValueError as error:
        problems.append(str(error))
        return None


def _attempts(given: Mapping[str, str], problems: list[str]) -> int | None:
    text = given.get("attempts")
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 7:
        return int(text)
    problems.append(f"attempts is {text[:40]!r}; it must be a whole number")
    return None


def _since(given: Mapping[str, str], problems: list[str]) -> int | None:
    if "since" not in given:
        return None
    try:
        return time.time_ns() // 1000 - int(
            min(seconds(given["since"], what="since"), 1e9) * SECOND
        )
    except ConfigurationError as error:
        problems.append(str(error)[:200])
        return None
