"""``flask taskqueue queues``, ``stats`` and ``top``."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from flask.cli import AppGroup, with_appcontext

from ..api.statistics import capped, queue_counts, statistics, total
from ..core.dispatchers import DispatcherInfo
from ..core.queues.rates import rate_text
from ..core.queues.statistics import QueueStatistics
from ..core.times import duration, relative, to_datetime, to_micros
from ..runtime import Runtime
from ..store import QueueCounts
from .options import Duration, current_runtime, json_option, utc_option
from .output import echo, echo_json, echo_json_line, echo_table, moment, number_or_dash

_LONGEST = timedelta(days=30)
_SUMS = (
    *("scheduled", "in_flight", "forwarded", "waiting_for_key", "succeeded", "dead", "cancelled"),
    *("executed_last_minute", "executed_last_hour", "failed_last_hour"),
)
_LIVE = ("due", "running", "lost", "scheduled", "retrying", "waiting", "forwarded")
_ENDED = ("succeeded", "dead", "cancelled")


@dataclass(frozen=True, slots=True)
class _Status:
    """The queues with their statistics and counts, and the dispatchers that are alive."""

    queues: Sequence[QueueStatistics]
    counts: Mapping[str, QueueCounts]
    dispatchers: Sequence[DispatcherInfo]

    def documents(self) -> list[dict[str, Any]]:
        """Return the queues as documents; ``counts`` has the numbers of the dashboard."""
        return [
            {**asdict(row), "counts": _counts_document(self.counts[row.queue])}
            for row in self.queues
        ]

    def sums(self) -> dict[str, Any]:
        """Return the sums of all queues, and how long the oldest due task has waited."""
        found = total(self.counts, {row.queue for row in self.queues if row.is_paused})
        since = found.due_since
        return {
            **{name: sum(getattr(row, name) for row in self.queues) for name in _SUMS},
            "counts": _counts_document(found),
            "oldest_due_seconds": None
            if since is None
            else max(0.0, (datetime.now(UTC) - to_datetime(since)).total_seconds()),
            "dispatchers": len(self.dispatchers),
            "slots": sum(row.concurrency for row in self.dispatchers),
        }


def _counts_document(counts: QueueCounts) -> dict[str, Any]:
    since = counts.due_since
    return {
        **{name: getattr(counts, name) for name in (*_LIVE, *_ENDED)},
        "due_since": None if since is None else to_datetime(since),
    }


@click.group("queues", cls=AppGroup, invoke_without_command=True)
@json_option
@utc_option
@click.pass_context
@with_appcontext
def queues(context: click.Context, as_json: bool, in_utc: bool) -> None:
    """List the queues with their tasks and limits; add, change and delete queues."""
    if context.invoked_subcommand is not None:
        if in_utc:
            raise click.UsageError("--utc is for the list of queues: leave it out")
        context.default_map = {context.invoked_subcommand: {"as_json": as_json}}
        return
    status = _read(current_runtime())
    if as_json:
        echo_json(status.documents())
    else:
        echo_queues(status, in_utc)


@click.command("stats")
@click.option(
    "--since", type=Duration(), help="Also the attempts of this time, such as 24h; up to 30d."
)
@json_option
@with_appcontext
def stats(since: timedelta | None, as_json: bool) -> None:
    """Show totals of all queues: tasks by state, recent attempts, dispatchers."""
    runtime = current_runtime()
    if since is not None and since > _LONGEST:
        raise click.UsageError("attempts are counted for 30 days: give --since 30d or less")
    status = _read(runtime)
    sums = status.sums() | ({} if since is None else _since(runtime, since))
    if as_json:
        echo_json(sums)
        return
    oldest = sums["oldest_due_seconds"]
    lines = {
        **{name: capped(sums["counts"][name]) for name in _LIVE},
        **{name: f"{sums['counts'][name]:,}" for name in _ENDED},
        "attempts, last minute": f"{sums['executed_last_minute']:,}",
        "attempts, last hour": _attempts(sums, "last_hour"),
        **(
            {}
            if since is None
            else {f"attempts, last {duration(since.total_seconds())}": _attempts(sums, "since")}
        ),
        "oldest due": "-" if oldest is None else f"{duration(oldest)} ago",
        "dispatchers": f"{sums['dispatchers']}, with {sums['slots']} slots",
    }
    for label, value in lines.items():
        echo(f"{label:<22} {value}")


@click.command("top")
@click.option(
    "--interval",
    "-n",
    type=Duration(),
    default="2",
    show_default=True,
    help="Time between two refreshes, in seconds.",
)
@click.option(
    "--times",
    type=click.IntRange(min=1),
    help="End after this many refreshes; otherwise Ctrl-C ends it.",
)
@click.option(
    "--jsonl", "as_lines", is_flag=True, help="Print one JSON document per line and refresh."
)
@with_appcontext
def top(interval: Any, times: int | None, as_lines: bool) -> None:
    """Show queues and dispatchers, refreshed until Ctrl-C."""
    runtime = current_runtime()
    for number in itertools.count(1):
        status = _read(runtime)
        if as_lines:
            echo_json_line(
                {
                    "at": datetime.now(UTC),
                    "queues": status.documents(),
                    "dispatchers": list(map(asdict, status.dispatchers)),
                }
            )
        else:
            _show(status)
        if number == times:
            return
        sys.stdout.flush()
        time.sleep(interval.total_seconds())


def _read(runtime: Runtime) -> _Status:
    queues = statistics(runtime)
    with runtime.store.reading() as connection:
        counts = queue_counts(runtime, connection)
        alive = [found for found in runtime.store.dispatchers.list(connection) if found.is_alive]
    return _Status([row for row in queues if row.queue in counts], counts, alive)


def _since(runtime: Runtime, since: timedelta) -> dict[str, Any]:
    store = runtime.store
    with store.reading() as connection:
        first = store.schedules.now(connection) - since
        counts = store.charts.since(connection, to_micros(first))
    return {"since": first, "executed_since": counts.attempts, "failed_since": counts.failures}


def _attempts(sums: Mapping[str, int], when: str) -> str:
    return f"{sums[f'executed_{when}']:,}, of which {sums[f'failed_{when}']:,} failed"


def _show(status: _Status) -> None:
    click.clear()  # which does nothing where there is no terminal
    now = datetime.now(UTC)
    echo(f"{now:%H:%M:%S}Z")
    echo_queues(status)
    echo()
    if not status.dispatchers:
        echo("No dispatcher is alive.")
        return
    rows = [
        (
            f"{row.host}:{row.pid}",
            row.transport,
            f"{row.in_flight}/{row.concurrency}",
            ",".join(row.queues or ()) or "all",
            relative(row.started_at, now),
            relative(row.seen_at, now),
        )
        for row in status.dispatchers
    ]
    echo_table(("DISPATCHER", "TRANSPORT", "RUNNING", "QUEUES", "STARTED", "SEEN"), rows, right=[2])


def echo_queues(status: _Status, in_utc: bool = False) -> None:
    """Print a table of queues, with the numbers of the dashboard."""
    head = (
        "QUEUE",
        "DUE",
        "RUNNING",
        "SCHEDULED",
        "RETRYING",
        "DEAD",
        "1 H OK",
        "1 H FAILED",
        "RATE",
        "MAX CONCURRENT",
        "OLDEST DUE",
        "",
    )
    rows = [_cells(row, status.counts[row.queue], in_utc) for row in status.queues]
    echo_table(head, rows, right=range(1, 11))


def _cells(row: QueueStatistics, counts: QueueCounts, in_utc: bool) -> tuple[str, ...]:
    good = row.executed_last_hour - row.failed_last_hour
    numbers = (
        *(capped(getattr(counts, name)) for name in ("due", "running", "scheduled", "retrying")),
        *(f"{number:,}" for number in (counts.dead, good, row.failed_last_hour)),
    )
    oldest = None if counts.due_since is None else to_datetime(counts.due_since)
    limits = (rate_text(row.rate), number_or_dash(row.max_concurrent), moment(oldest, in_utc))
    return (row.queue, *numbers, *limits, ", ".join(_remarks(row, counts)))


def _remarks(row: QueueStatistics, counts: QueueCounts) -> Iterator[str]:
    if row.mode != "push":
        yield row.mode
    if row.paused_at is not None:
        yield "paused" + (f" by {row.paused_by}" if row.paused_by else "")
    if row.has_rate_0:
        yield "takes nothing: its rate is 0"
    elif row.paused_at is None and row.enforced_rate != row.rate:
        yield f"slowed to {rate_text(row.enforced_rate)}"
    if counts.lost:
        yield f"{capped(counts.lost)} lost"
    if counts.waiting:
        yield f"{capped(counts.waiting)} waiting for a key"
    if counts.forwarded:
        yield f"{capped(counts.forwarded)} forwarded"
