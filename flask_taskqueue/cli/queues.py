"""``flask taskqueue queues``, ``pause``, ``resume``, ``purge``, ``configure``."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from typing import Any

import click
from flask.cli import with_appcontext

from ..core.queue_statistics import QueueStatistics
from ..core.rates import rate_text
from ..operations import QueueOperations, statistics
from .current import current_runtime, explained
from .table import echo_table


def _queue(name: str) -> QueueOperations:
    return QueueOperations(name, current_runtime())


@click.command("queues")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with stable keys.")
@with_appcontext
def queues(as_json: bool) -> None:
    """Show each queue: what waits, what runs, what has ended, its limits."""
    with explained():
        found = statistics(current_runtime())
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], default=lambda value: value.isoformat(), indent=2))
        return
    head = ("QUEUE", "SCHEDULED", "RUNNING", "DEAD", "LAST MINUTE", "RATE", "AT ONCE", "")
    echo_table(head, [_row(one) for one in found], right=range(1, 7))


@click.command("pause")
@click.argument("queue")
@with_appcontext
def pause(queue: str) -> None:
    """Take nothing more from QUEUE, in any process; tasks can be added all the same."""
    with explained():
        changed = _queue(queue).pause(by=getpass.getuser())
    click.echo(f"{queue} is paused." if changed else f"{queue} was paused already.")


@click.command("resume")
@click.argument("queue")
@with_appcontext
def resume(queue: str) -> None:
    """Take from QUEUE again."""
    with explained():
        changed = _queue(queue).resume()
    click.echo(f"{queue} goes on." if changed else f"{queue} was not paused.")


@click.command("purge")
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_appcontext
def purge(queue: str, yes: bool) -> None:
    """Cancel every task of QUEUE that has not ended."""
    with explained():
        chosen = _queue(queue)
        tasks = chosen.statistics().tasks
        if tasks and not yes:
            click.confirm(f"Cancel {tasks} tasks of queue {queue}?", abort=True)
        click.echo(f"{chosen.purge()} tasks are cancelled.")


@click.command("configure")
@click.argument("queue")
@click.option("--rate", help="Such as 20/m, 5/s; none for no limit.")
@click.option("--bucket-size", type=int, help="How many may start at once after a pause.")
@click.option("--max-concurrent", help="How many may run at a time; none for no limit.")
@with_appcontext
def configure(queue: str, rate: str | None, bucket_size: int | None, max_concurrent: str | None) -> None:
    """Change limits of QUEUE for all dispatchers, until its configuration changes."""
    limits: dict[str, Any] = {}
    if rate is not None:
        limits["rate"] = None if rate == "none" else rate
    if bucket_size is not None:
        limits["bucket_size"] = bucket_size
    if max_concurrent is not None:
        limits["max_concurrent"] = None if max_concurrent == "none" else _number(max_concurrent)
    with explained():
        chosen = _queue(queue)
        chosen.configure(**limits)
        now = chosen.statistics()
    click.echo(f"{queue}: rate {rate_text(now.rate)}, bucket size {now.bucket_size}, at once {_limit(now.max_concurrent)}.")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(f"--max-concurrent is {text!r}; it must be a whole number, or none") from None


def _row(one: QueueStatistics) -> tuple[str, ...]:
    state = "paused" + (f" by {one.paused_by}" if one.paused_by else "") if one.is_paused else ""
    if not state and one.enforced_rate != one.rate:
        state = f"slowed to {rate_text(one.enforced_rate)}"
    numbers = (one.scheduled, one.in_flight, one.dead, one.executed_last_minute)
    return (one.queue, *map(str, numbers), rate_text(one.rate), _limit(one.max_concurrent), state)


def _limit(limit: int | None) -> str:
    return "-" if limit is None else str(limit)
