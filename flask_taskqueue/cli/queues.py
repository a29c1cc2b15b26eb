"""``flask taskqueue queues``, ``pause``, ``resume``, ``purge``, ``configure``."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from flask.cli import with_appcontext

from ..api.queue import Queue, statistics
from ..core.queue_statistics import QueueStatistics
from ..core.rates import rate_text
from .current import current_runtime
from .options import json_option, utc_option
from .output import echo_change, echo_json, moment
from .table import echo_table


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
    echo_change("pause", queue, changed, as_json, f"{queue} is paused." if changed else f"{queue} was paused already.")


@click.command("resume")
@click.argument("queue")
@json_option
@with_appcontext
def resume(queue: str, as_json: bool) -> None:
    """Take from QUEUE again."""
    changed = _queue(queue).resume()
    echo_change("resume", queue, changed, as_json, f"{queue} goes on." if changed else f"{queue} was not paused.")


@click.command("configure")
@click.argument("queue")
@click.option("--rate", help="Such as 20/m, 5/s; none for no limit.")
@click.option("--bucket-size", type=int, help="How many may start at once after a pause.")
@click.option("--max-concurrent", help="How many may run at a time; none for no limit.")
@json_option
@with_appcontext
def configure(queue: str, rate: str | None, bucket_size: int | None, max_concurrent: str | None, as_json: bool) -> None:
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
    click.echo(f"{queue}: rate {rate_text(now.rate)}, bucket size {now.bucket_size}, at once {_limit(now.max_concurrent)}.")


def echo_queues(found: Sequence[QueueStatistics], in_utc: bool = False) -> None:
    """A table of queues."""
    head = ("QUEUE", "SCHEDULED", "RUNNING", "DEAD", "LAST MINUTE", "1 H OK", "1 H FAILED", "RATE", "AT ONCE", "OLDEST DUE", "")
    echo_table(head, [_row(one, in_utc) for one in found], right=range(1, 10))


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(f"--max-concurrent is {text!r}; it must be a whole number, or none") from None


def _row(one: QueueStatistics, in_utc: bool) -> tuple[str, ...]:
    state = "paused" + (f" by {one.paused_by}" if one.paused_by else "") if one.is_paused else ""
    if not state and one.enforced_rate != one.rate:
        state = f"slowed to {rate_text(one.enforced_rate)}"
    good = one.executed_last_hour - one.failed_last_hour
    numbers = (one.scheduled, one.in_flight, one.dead, one.executed_last_minute, good, one.failed_last_hour)
    limits = (rate_text(one.rate), _limit(one.max_concurrent), moment(one.oldest_eta, in_utc))
    return (one.queue, *map(str, numbers), *limits, state)


def _limit(limit: int | None) -> str:
    return "-" if limit is None else str(limit)
