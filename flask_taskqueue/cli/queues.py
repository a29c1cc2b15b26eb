"""``flask taskqueue queues``, ``pause``, ``resume``, ``configure``, ``stats`` and ``top``."""

from __future__ import annotations

import getpass
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from flask.cli import with_appcontext

from ..api.queue import Queue
from ..api.statistics import statistics
from ..core.dispatchers import DispatcherInfo
from ..core.queues.rates import rate_text
from ..core.queues.statistics import QueueStatistics
from ..core.times import duration, relative, to_micros
from ..runtime import Runtime
from .options import Duration, current_runtime, json_option, utc_option
from .output import echo_change, echo_json, echo_json_line, echo_table, moment


def _queue(name: str) -> Queue:
    return Queue(name, current_runtime())


@click.command("queues")
@json_option
@utc_option
@with_appcontext
def queues(as_json: bool, in_utc: bool) -> None:
    """List the queues with their waiting, running and ended tasks, and their limits."""
    rows = statistics(current_runtime())
    if as_json:
        echo_json([asdict(row) for row in rows])
    else:
        echo_queues(rows, in_utc)


@click.command("pause")
@click.argument("queue")
@json_option
@with_appcontext
def pause(queue: str, as_json: bool) -> None:
    """Pause QUEUE in every process; tasks can still be added."""
    changed = _queue(queue).pause(by=getpass.getuser())
    echo_change(
        "pause",
        queue,
        changed,
        as_json,
        f"Paused {queue}." if changed else f"{queue} was already paused.",
    )


@click.command("resume")
@click.argument("queue")
@json_option
@with_appcontext
def resume(queue: str, as_json: bool) -> None:
    """Resume QUEUE."""
    changed = _queue(queue).resume()
    echo_change(
        "resume",
        queue,
        changed,
        as_json,
        f"Resumed {queue}." if changed else f"{queue} was not paused.",
    )


@click.command("configure")
@click.argument("queue")
@click.option("--rate", help="How many tasks may start, such as 20/m or 5/s; none for no limit.")
@click.option("--bucket-size", type=int, help="How many may start at the same time after a pause.")
@click.option("--max-concurrent", help="How many may run at the same time; none for no limit.")
@click.option("--rate-per-key", help="How many may start for each rate key; none for no limit.")
@click.option(
    "--bucket-size-per-key",
    type=int,
    help="How many may start at the same time for each rate key after a pause.",
)
@json_option
@with_appcontext
def configure(queue: str, as_json: bool, **given: Any) -> None:
    """Change the limits of QUEUE for all dispatchers, until its configuration changes."""
    limits: Any = {
        name: None if value == "none" else value
        for name, value in given.items()
        if value is not None
    }
    if limits.get("max_concurrent") is not None:
        limits["max_concurrent"] = _number(limits["max_concurrent"])
    chosen = _queue(queue)
    chosen.configure(**limits)
    now = chosen.statistics()
    if as_json:
        echo_json(asdict(now))
        return
    each = (
        ""
        if now.rate_per_key is None
        else f", rate per key {rate_text(now.rate_per_key)}, bucket size per key "
        f"{now.bucket_size_per_key}"
    )
    click.echo(
        f"{queue}: rate {rate_text(now.rate)}, bucket size {now.bucket_size}, max concurrent "
        f"{_limit(now.max_concurrent)}{each}."
    )


def echo_queues(rows: Sequence[QueueStatistics], in_utc: bool = False) -> None:
    """Print a table of queues."""
    head = (
        "QUEUE",
        "SCHEDULED",
        "RUNNING",
        "DEAD",
        "LAST MINUTE",
        "1 H OK",
        "1 H FAILED",
        "RATE",
        "MAX CONCURRENT",
        "OLDEST DUE",
        "",
    )
    echo_table(head, [_cells(row, in_utc) for row in rows], right=range(1, 10))


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(
            f"--max-concurrent is {text!r}; it must be a whole number, or none"
        ) from None


def _cells(row: QueueStatistics, in_utc: bool) -> tuple[str, ...]:
    state = "paused" + (f" by {row.paused_by}" if row.paused_by else "") if row.is_paused else ""
    if not state and row.enforced_rate != row.rate:
        state = f"slowed to {rate_text(row.enforced_rate)}"
    good = row.executed_last_hour - row.failed_last_hour
    numbers = (
        row.scheduled,
        row.in_flight,
        row.dead,
        row.executed_last_minute,
        good,
        row.failed_last_hour,
    )
    limits = (rate_text(row.rate), _limit(row.max_concurrent), moment(row.oldest_eta, in_utc))
    return (row.queue, *map(str, numbers), *limits, state)


def _limit(limit: int | None) -> str:
    return "-" if limit is None else str(limit)


_LONGEST = timedelta(days=30)
_SUMS = ("scheduled", "in_flight", "waiting_for_key", "succeeded", "dead", "cancelled")
_ATTEMPTS = ("executed_last_minute", "executed_last_hour", "failed_last_hour")


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
    queues, dispatchers = _read(runtime)
    sums = _sums(queues, dispatchers) | ({} if since is None else _since(runtime, since))
    if as_json:
        echo_json(sums)
        return
    oldest = sums["oldest_due_seconds"]
    lines = {
        **{name.replace("_", " "): f"{sums[name]:,}" for name in _SUMS},
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
        click.echo(f"{label:<22} {value}")


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
        queues, dispatchers = _read(runtime)
        if as_lines:
            echo_json_line(
                {
                    "at": datetime.now(UTC),
                    "queues": list(map(asdict, queues)),
                    "dispatchers": list(map(asdict, dispatchers)),
                }
            )
        else:
            _show(queues, dispatchers)
        if number == times:
            return
        sys.stdout.flush()
        time.sleep(interval.total_seconds())


def _read(runtime: Runtime) -> tuple[Sequence[QueueStatistics], Sequence[DispatcherInfo]]:
    queues = statistics(runtime)
    with runtime.store.reading() as connection:
        return queues, [
            found for found in runtime.store.dispatchers.list(connection) if found.is_alive
        ]


def _sums(
    queues: Sequence[QueueStatistics], dispatchers: Sequence[DispatcherInfo]
) -> dict[str, Any]:
    now = datetime.now(UTC)
    due = [row.oldest_eta for row in queues if row.oldest_eta is not None and row.oldest_eta <= now]
    return {
        **{name: sum(getattr(row, name) for row in queues) for name in (*_SUMS, *_ATTEMPTS)},
        "oldest_due_seconds": (now - min(due)).total_seconds() if due else None,
        "dispatchers": len(dispatchers),
        "slots": sum(row.concurrency for row in dispatchers),
    }


def _since(runtime: Runtime, since: timedelta) -> dict[str, Any]:
    store = runtime.store
    with store.reading() as connection:
        first = store.schedules.now(connection) - since
        counts = store.charts.since(connection, to_micros(first))
    return {"since": first, "executed_since": counts.attempts, "failed_since": counts.failures}


def _attempts(sums: Mapping[str, int], when: str) -> str:
    return f"{sums[f'executed_{when}']:,}, of which {sums[f'failed_{when}']:,} failed"


def _show(queues: Sequence[QueueStatistics], dispatchers: Sequence[DispatcherInfo]) -> None:
    click.clear()  # which does nothing where there is no terminal
    now = datetime.now(UTC)
    click.echo(f"{now:%H:%M:%S}Z")
    echo_queues(queues)
    click.echo()
    if not dispatchers:
        click.echo("No dispatcher is alive.")
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
        for row in dispatchers
    ]
    echo_table(("DISPATCHER", "TRANSPORT", "RUNNING", "QUEUES", "STARTED", "SEEN"), rows, right=[2])
