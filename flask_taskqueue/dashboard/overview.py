"""The overview page: what happens now, and what happened in the last hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from flask import request

from ..api.statistics import queue_counts, total
from ..core.failures import Group, group
from ..core.queues.circuits import OpenCircuit
from ..core.queues.slowdowns import Slowdown, enforced
from ..core.times import SECOND, to_datetime, to_micros
from ..runtime import Runtime
from ..store import RANGES, SLOT, AttemptCounts, QueueCounts
from .handlers import percentile
from .rendering import Page

_RECENT = 500
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLine:
    """A row of the table of queues. Tasks that have not ended are counted up to 10,000."""

    queue: str
    rate: float | None
    enforced_rate: float | None
    bucket_size: int
    max_concurrent: int | None
    rate_per_key: float | None
    bucket_size_per_key: int
    paused_at: datetime | None
    paused_by: str | None
    is_pulled: bool
    due: int
    running: int
    lost: int
    scheduled: int
    retrying: int
    waiting: int
    forwarded: int
    dead: int
    succeeded: int
    cancelled: int
    due_since: datetime | None
    attempts_last_hour: int
    failed_last_hour: int
    minutes: Sequence[AttemptCounts]

    @property
    def is_paused(self) -> bool:
        """Whether no task of it starts."""
        return self.paused_at is not None or (self.rate == 0 and not self.is_pulled)


@dataclass(frozen=True, slots=True)
class Bar:
    """The attempts that ended within one span of a chart, and how many of them failed."""

    begins_at: datetime
    attempts: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Attempts over a range, span by span; the last span is not over yet."""

    range: str
    span: timedelta
    bars: Sequence[Bar]
    attempts: int
    failures: int


def page(runtime: Runtime) -> Page:
    """Show everything at a glance."""
    store = runtime.store
    runtime.see_queues()
    with store.reading() as connection:
        counts = queue_counts(runtime, connection)
        lines = queue_lines(runtime, connection, counts)
        p95 = percentile(store.charts.durations(connection), 0.95)
        failures = group(store.failures.latest(connection, _RECENT))[:_SHOWN]
        alive = [found for found in store.dispatchers.list(connection) if found.is_alive]
        now = store.schedules.now(connection)
        slowdowns = store.slowdowns.active(connection)
        circuits = store.circuits.open(connection)
        chart = _chart(runtime, connection, lines, now)
    data = {
        "now": now,
        "totals": totals(counts, lines),
        "p95": p95,
        "dispatchers_alive": len(alive),
        "chart": chart,
        "queues": lines,
        "slowed": [slowdown_row(slowdown, now) for slowdown in slowdowns.values()],
        "circuits": [asdict(OpenCircuit.of(circuit)) for circuit in circuits.values()],
        "failures": [failure_group(failure) for failure in failures],
    }
    return Page(
        template="overview.html", title="Overview", data=data, extra={"ranges": ["1h", *RANGES]}
    )


def queue_lines(
    runtime: Runtime, connection: sa.Connection, counts: Mapping[str, QueueCounts]
) -> list[QueueLine]:
    """Return a row for every queue that was ever configured, with its counts."""
    store = runtime.store
    minutes = store.charts.last_hour(connection)
    rows = store.queues.rows(connection)
    slowdowns = store.slowdowns.active(connection)
    now = to_micros(store.schedules.now(connection))
    return [
        _line(
            row,
            counts[row.name],
            minutes.get(row.name, [AttemptCounts()] * 60),
            enforced(row.rate, row.name, slowdowns, now),
        )
        for row in rows
    ]


def totals(counts: Mapping[str, QueueCounts], lines: Sequence[QueueLine]) -> dict[str, Any]:
    """Return the numbers of the tiles, for all queues together."""
    paused = {line.queue for line in lines if line.is_paused}
    found = total(counts, paused)
    return {
        **{name: getattr(found, name) for name in _COUNTED if name != "cancelled"},
        **{
            name: sum(getattr(line, name) for line in lines)
            for name in ("attempts_last_hour", "failed_last_hour")
        },
        "due_and_paused": total({name: counts[name] for name in paused}, paused).due,
        "due_since": None if found.due_since is None else to_datetime(found.due_since),
    }


def slowdown_row(slowdown: Slowdown, now: datetime) -> dict[str, Any]:
    """Return what pages show of a receiver that asked for less."""
    return {
        "target": slowdown.target,
        "name": slowdown.name,
        "said": slowdown.said,
        "rate": slowdown.rate_at(to_micros(now)),
        "slowed_at": to_datetime(slowdown.slowed_at),
        "over_at": to_datetime(slowdown.over_at),
    }


def failure_group(group: Group) -> dict[str, Any]:
    """Return what pages show of a group of failures."""
    signature = group.signature
    return {
        "id": signature.id,
        "queue": signature.queue,
        "url": signature.path,
        "reason": signature.reason,
        "status": signature.status,
        "error": group.error,
        "count": group.count,
        "first_at": to_datetime(group.first_at),
        "last_at": to_datetime(group.last_at),
        "tasks": len(group.tasks),
        "dead": len(group.dead),
        "retrying": len(group.retrying),
        "last_task": group.last_task,
    }


def _chart(
    runtime: Runtime, connection: sa.Connection, lines: Sequence[QueueLine], now: datetime
) -> Chart:
    """Return the chart of the range in the URL, or of the last hour if it names no range."""
    name = request.args.get("range", "")
    if name in RANGES:
        begins, counts = runtime.store.charts.bars(connection, RANGES[name])
        first, width = to_datetime(begins), timedelta(seconds=RANGES[name].slots * SLOT / SECOND)
    else:
        name, width, counts = (
            "1h",
            timedelta(minutes=1),
            _summed([line.minutes for line in lines]),
        )
        first = now - width * len(counts)
    bars = [
        Bar(first + number * width, minute.attempts, minute.failures)
        for number, minute in enumerate(counts)
    ]
    return Chart(
        range=name,
        span=width,
        bars=bars,
        attempts=sum(bar.attempts for bar in bars),
        failures=sum(bar.failures for bar in bars),
    )


_COUNTED = (
    *("due", "running", "lost", "scheduled", "retrying", "waiting", "forwarded"),
    *("dead", "succeeded", "cancelled"),
)


def _line(
    row: sa.Row[Any],
    counts: QueueCounts,
    minutes: Sequence[AttemptCounts],
    enforced: float | None,
) -> QueueLine:
    return QueueLine(
        queue=row.name,
        rate=row.rate,
        enforced_rate=enforced,
        bucket_size=row.bucket_size,
        max_concurrent=row.max_concurrent,
        rate_per_key=row.rate_per_key,
        bucket_size_per_key=row.bucket_size_per_key,
        paused_at=None if row.paused_at is None else to_datetime(row.paused_at),
        paused_by=row.paused_by,
        is_pulled=row.mode == "pull",
        **{name: getattr(counts, name) for name in _COUNTED},
        due_since=None if counts.due_since is None else to_datetime(counts.due_since),
        attempts_last_hour=sum(minute.attempts for minute in minutes),
        failed_last_hour=sum(minute.failures for minute in minutes),
        minutes=minutes,
    )


def _summed(series: Sequence[Sequence[AttemptCounts]]) -> list[AttemptCounts]:
    return [
        AttemptCounts(sum(each.attempts for each in column), sum(each.failures for each in column))
        for column in zip(*series, strict=True)
    ]
