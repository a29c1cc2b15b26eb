"""What a page of tasks is asked to show: the list, the filters, the place in it; all of it lives in the URL."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.clock import SECOND
from ..core.durations import seconds
from ..core.errors import ConfigurationError
from ..core.last_status import LastStatus
from ..store import Filter, Kind, Place

FIELDS = ("queue", "url", "status", "attempts", "since", "q")
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Chosen:
    """The list, its filter, and the arguments as they were given. ``problems`` says which of them could not be used."""

    kind: Kind
    wanted: Filter
    given: Mapping[str, str]
    after: Place | None = None
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> Chosen:
        """What some arguments choose. What cannot be used is left out, and told."""
        given = {name: value for name in FIELDS if (value := arguments.get(name, "").strip()[:_LONGEST])}
        problems: list[str] = []
        state = arguments.get("state", "all")
        if state not in list(Kind):
            problems.append(f"There is no list of {state[:40]!r}; this is every task.")
            state = Kind.ALL
        wanted = Filter(
            queue=given.get("queue"),
            url=given.get("url"),
            status=_status(given, problems),
            attempts_at_least=_attempts(given, problems),
            since=_since(given, problems),
            search=given.get("q"),
        )
        return cls(Kind(state), wanted, given, Place.parse(arguments.get("after", "")), problems)

    @property
    def only_queue(self) -> bool:
        """Whether nothing but the queue is filtered by, so that the counts of the lists hold."""
        return not set(self.given) - {"queue"}

    def arguments(self, **changes: str | None) -> dict[str, str]:
        """The arguments of a link to the same, with changes; without a place."""
        changed = {"state": self.kind.value, **self.given, **changes}
        return {name: value for name, value in changed.items() if value and (name, value) != ("state", "all")}


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
        return time.time_ns() // 1000 - int(min(seconds(given["since"], what="since"), 1e9) * SECOND)
    except ConfigurationError as error:
        problems.append(str(error)[:200])
        return None
