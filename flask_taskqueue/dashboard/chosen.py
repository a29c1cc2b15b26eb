"""What a page of tasks is asked to show: the list, the filters, the place in it; all of it lives in the URL."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..core.clock import SECOND
from ..core.durations import seconds
from ..core.errors import ConfigurationError
from ..core.last_status import LastStatus
from ..core.sight import Sight
from ..store import Filter, Kind, Place, Visible

_OPEN, _URLS = ("group", "queue", "status", "attempts", "since"), ("url", "q")
FIELDS = (*_OPEN, *_URLS)
_LONGEST = 500
_LOOKED_FOR = re.compile(rf", (?:{'|'.join(_URLS)}) .*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The list, its filter, and the arguments as they were given. ``problems`` says which of them could not be used."""

    kind: Kind
    wanted: Filter
    visible: Visible
    given: Mapping[str, str]
    after: Place | None = None
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, arguments: Mapping[str, str], sight: Sight) -> Chosen:
        """What some arguments choose among what is seen. What cannot be used is left out, and told."""
        given = {name: value for name in FIELDS if (value := arguments.get(name, "").strip()[:_LONGEST])}
        problems: list[str] = []
        state = arguments.get("state", "all")
        if state not in list(Kind):
            problems.append(f"There is no list of {state[:40]!r}; this is every task.")
            state = Kind.ALL
        wanted = Filter(
            queue=given.get("queue"),
            status=_status(given, problems),
            attempts_at_least=_attempts(given, problems),
            since=_since(given, problems),
        )
        visible = Visible(sight=sight, url=given.get("url"), search=given.get("q"))
        return cls(Kind(state), wanted, visible, given, Place.parse(arguments.get("after", "")), problems)

    def among(self, ids: Sequence[str] | None) -> Chosen:
        """The same among these tasks only; None says that the group of errors whose they would be is not there any more."""
        problems = self.problems if ids is not None else [*self.problems, "There is no such group of errors any more."]
        return replace(self, wanted=replace(self.wanted, ids=ids or ()), problems=problems)

    @property
    def only_queue(self) -> bool:
        """Whether nothing but the queue is filtered by, so that the counts of the lists hold."""
        return not set(self.given) - {"queue"}

    def told(self) -> str:
        """What is chosen, for people; what may be of a URL comes last (see `without_urls`)."""
        given = {name: self.visible.sight.url(value) if name == "url" else value for name, value in self.given.items()}
        return ", ".join([f"{self.kind} tasks", *(f"{name} {given[name]}" for name in (*_OPEN, *_URLS) if name in given)])

    def arguments(self, **changes: str | None) -> dict[str, str]:
        """The arguments of a link to the same, with changes; without a place."""
        changed = {"state": self.kind.value, **self.given, **changes}
        return {name: value for name, value in changed.items() if value and (name, value) != ("state", "all")}


def without_urls(told: str) -> str:
    """What `Chosen.told` says, without what somebody looked for in URLs."""
    return _LOOKED_FOR.sub(", …", told)


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
