"""``flask taskqueue queues``, ``pause``, ``resume``, ``purge``, ``configure``."""

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
from ..core.clock import to_micros
from ..core.dispatchers import DispatcherInfo
from ..core.humanize import relative, span
from ..core.queues.rates import rate_text
from ..core.queues.statistics import QueueStatistics
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
    """Show each queue: what waits, what runs, what has ended, its limits."""
    found = statistics(current_runtime())
    if as_json:
        echo_json([asdict(one) for one in found])
    else:
        echo_queues(found, in_utc)


@click.command("pause")
@click.argument("queue")
@json_option
@with_appcontext
def pause(queue: str, as_json: bool) -> None:
    """Take nothing more from QUEUE, in any process; tasks can be added all the same."""
    changed = _queue(queue).pause(by=getpass.getuser())
    echo_change(
        "pause",
        queue,
        changed,
        as_json,
        f"{queue} is paused." if changed else f"{queue} was paused already.",
    )


@click.command("resume")
@click.argument("queue")
@json_option
@with_appcontext
def resume(queue: str, as_json: bool) -> None:
    """Take from QUEUE again."""
    changed = _queue(queue).resume()
    echo_change(
        "resume",
        queue,
        changed,
        as_json,
        f"{queue} goes on." if changed else f"{queue} was not paused.",
    )


@click.command("configure")
@click.argument("queue")
@click.option("--rate", help="Such as 20/m, 5/s; none for no limit.")
@click.option("--bucket-size", type=int, help="How many may start at once after a pause.")
@click.option("--max-concurrent", help="How many may run at a time; none for no limit.")
@json_option
@with_appcontext
def configure(
    queue: str, rate: str | None, bucket_size: int | None, max_concurrent: str | None, as_json: bool
) -> None:
    """Change limits of QUEUE for all dispatchers, until its configuration changes."""
    limits: dict[str, Any] = {}
    if rate is not None:
        limits["rate"] = None if rate == "none" else rate
    if bucket_size is not None:
        limits["bucket_size"] = bucket_size
    if max_concurrent is not None:
        limits["max_concurrent"] = None if max_concurrent == "none" else _number(max_concurrent)
    chosen = _queue(queue)
    chosen.configure(**limits)
    now = chosen.statistics()
    if as_json:
        echo_json(asdict(now))
        return
    click.echo(
        f"{queue}: rate {rate_text(now.rate)}, bucket size {now.bucket_size}, at once "
        f"{_limit(now.max_concurrent)}."
    )


def echo_queues(found: Sequence[QueueStatistics], in_utc: bool = False) -> None:
    """A table of queues."""
    head = (
        "QUEUE",
        "SCHEDULED",
        "RUNNING",
        "DEAD",
        "LAST MINUTE",
        "1 H OK",
        "1 H FAILED",
        "RATE",
        "AT ONCE",
        "OLDEST DUE",
        "",
    )
    echo_table(head, [_row(one, in_utc) for one in found], right=range(1, 10))


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(
            f"--max-concurrent is {text!r}; it must be a whole number, or none"
        ) from None


def _row(one: QueueStatistics, in_utc: bool) -> tuple[str, ...]:
    state = "paused" + (f" by {one.paused_by}" if one.paused_by else "") if one.is_paused else ""
    if not state and one.enforced_rate != one.rate:
        state = f"slowed to {rate_text(one.enforced_rate)}"
    good = one.executed_last_hour - one.failed_last_hour
    numbers = (
        one.scheduled,
        one.in_flight,
        one.dead,
        one.executed_last_minute,
        good,
        one.failed_last_hour,
    )
    limits = (rate_text(one.rate), _limit(one.max_concurrent), moment(one.oldest_eta, in_utc))
    return (one.queue, *map(str, numbers), *limits, state)


def _limit(limit: int | None) -> str:
    return "-" if limit is None else str(limit)


_LONGEST = timedelta(days=30)
_SUMS = ("scheduled", "in_flight", "waiting_for_key", "succeeded", "dead", "cancelled")
_ATTEMPTS = ("executed_last_minute", "executed_last_hour", "failed_last_hour")


@click.command("stats")
@click.option(
    "--since", type=Duration(), help="Also the attempts of so long, such as 24h; up to 30d."
)
@json_option
@with_appcontext
def stats(since: timedelta | None, as_json: bool) -> None:
    """Show the sums of all queues: tasks by state, attempts of the last hour, who dispatches."""
    runtime = current_runtime()
    if since is not None and since > _LONGEST:
        raise click.UsageError("attempts are counted for 30 days; give --since 30d, or less")
    queues, dispatchers = _look(runtime)
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
            else {f"attempts, last {span(since.total_seconds())}": _attempts(sums, "since")}
        ),
        "oldest due": "-" if oldest is None else f"{span(oldest)} ago",
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
    help="Seconds between two looks.",
)
@click.option(
    "--times", type=click.IntRange(min=1), help="End after so many looks; otherwise Ctrl-C ends it."
)
@click.option("--jsonl", "as_lines", is_flag=True, help="A JSON document per line and look.")
@with_appcontext
def top(interval: Any, times: int | None, as_lines: bool) -> None:
    """Show queues and dispatchers as they change."""
    runtime = current_runtime()
    for number in itertools.count(1):
        queues, dispatchers = _look(runtime)
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


def _look(runtime: Runtime) -> tuple[Sequence[QueueStatistics], Sequence[DispatcherInfo]]:
    queues = statistics(runtime)
    with runtime.store.reading() as connection:
        return queues, [one for one in runtime.store.dispatchers.list(connection) if one.is_alive]


def _sums(
    queues: Sequence[QueueStatistics], dispatchers: Sequence[DispatcherInfo]
) -> dict[str, Any]:
    now = datetime.now(UTC)
    due = [one.oldest_eta for one in queues if one.oldest_eta is not None and one.oldest_eta <= now]
    return {
        **{name: sum(getattr(one, name) for one in queues) for name in (*_SUMS, *_ATTEMPTS)},
        "oldest_due_seconds": (now - min(due)).total_seconds() if due else None,
        "dispatchers": len(dispatchers),
        "slots": sum(one.concurrency for one in dispatchers),
    }


def _since(runtime: Runtime, since: timedelta) -> dict[str, Any]:
    store = runtime.store
    with store.reading() as connection:
        first = store.schedules.now(connection) - since
        found = store.charts.since(connection, to_micros(first))
    return {"since": first, "executed_since": found.attempts, "failed_since": found.failures}


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
            f"{one.host}:{one.pid}",
            one.transport,
            f"{one.in_flight}/{one.concurrency}",
            ",".join(one.queues or ()) or "all",
            relative(one.started_at, now),
            relative(one.seen_at, now),
        )
        for one in dispatchers
    ]
    echo_table(("DISPATCHER", "TRANSPORT", "RUNNING", "QUEUES", "STARTED", "SEEN"), rows, right=[2])
