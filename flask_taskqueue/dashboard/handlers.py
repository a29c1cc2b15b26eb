"""The handlers page: how many attempts each had lately, how many failed, how long they took."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from ..core.failures import destination_of
from ..core.times import SECOND, to_datetime
from ..runtime import Runtime
from ..store import MOST_ENDED, EndedAttempt
from ..web.handlers import handler_of
from .rendering import Page

_DAY = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class Destination:
    """Where tasks of one kind go: a handler with its rule, or a URL that no handler answers.

    ``url`` is the URL of all of them if they have the same one.
    """

    handler: str | None
    method: str
    rule: str
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerLine:
    """The figures of one handler; durations are in seconds, None if nothing succeeded."""

    handler: str | None
    method: str
    rule: str
    url: str | None
    queues: Sequence[str]
    attempts: int
    failures: int
    p50: float | None
    p95: float | None
    last_at: datetime


def page(runtime: Runtime) -> Page:
    """Show the figures of every handler of the last day, the most frequent first."""
    store = runtime.store
    with store.reading() as connection:
        latest = store.ended_attempts.latest(connection, _DAY)
        now = store.schedules.now(connection)
    since = to_datetime(latest.since)
    data = {
        "now": now,
        "since": since,
        "is_shortened": (now - since).total_seconds() < _DAY / SECOND - 60,
        "handlers": _lines(runtime, latest.attempts),
    }
    return Page(template="handlers.html", title="Handlers", data=data, extra={"most": MOST_ENDED})


def percentile(durations: Sequence[float], share: float) -> float | None:
    """Return the shortest of some sorted durations that this share of them does not exceed.

    >>> percentile([1, 2, 3, 4], 0.5), percentile([7], 0.95), percentile([], 0.5)
    (2, 7, None)
    """
    return durations[max(0, math.ceil(len(durations) * share) - 1)] if durations else None


def _lines(runtime: Runtime, attempts: Iterable[EndedAttempt]) -> list[HandlerLine]:
    @cache
    def destination_for(method: str, url: str, target: str | None) -> Destination:
        handler = None if target else handler_of(runtime.app, url, method)
        if handler is None:
            return Destination(None, method, destination_of(url, target))
        fixed = handler.rule if "<" not in handler.rule else None
        return Destination(handler.name, method, handler.rule, fixed)

    found: dict[Destination, list[EndedAttempt]] = defaultdict(list)
    for attempt in attempts:
        path = attempt.url.partition("?")[0]
        found[destination_for(attempt.method, path, attempt.target)].append(attempt)
    lines = [_line(destination, ended) for destination, ended in found.items()]
    return sorted(
        lines, key=lambda line: (-line.attempts, line.handler or "", line.rule, line.method)
    )


def _line(destination: Destination, attempts: Sequence[EndedAttempt]) -> HandlerLine:
    took = sorted(
        max(0, attempt.finished_at - attempt.started_at) / SECOND
        for attempt in attempts
        if attempt.reason == "success"
    )
    return HandlerLine(
        handler=destination.handler,
        method=destination.method,
        rule=destination.rule,
        url=destination.url,
        queues=sorted({attempt.queue for attempt in attempts}),
        attempts=len(attempts),
        failures=len(attempts) - len(took),
        p50=percentile(took, 0.5),
        p95=percentile(took, 0.95),
        last_at=to_datetime(max(attempt.finished_at for attempt in attempts)),
    )
