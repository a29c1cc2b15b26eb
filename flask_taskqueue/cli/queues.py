"""``flask taskqueue pause``, ``resume`` and ``configure``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from flask.cli import with_appcontext

from ..api.queue import Queue
from ..core.queues.rates import rate_text
from .audit import logged, user_name
from .options import current_runtime, json_option
from .output import echo, echo_change, echo_json, number_or_dash


@click.command("pause")
@click.argument("queue")
@json_option
@with_appcontext
def pause(queue: str, as_json: bool) -> None:
    """Pause QUEUE in every process; tasks can still be added."""
    runtime = current_runtime()
    with logged(runtime, "pause", queue):
        changed = Queue(queue, runtime).pause(by=user_name())
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
    runtime = current_runtime()
    with logged(runtime, "resume", queue):
        changed = Queue(queue, runtime).resume()
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
@json_option
@with_appcontext
def configure(
    queue: str, rate: str | None, bucket_size: int | None, max_concurrent: str | None, as_json: bool
) -> None:
    """Change the limits of QUEUE for all dispatchers, until its configuration changes."""
    limits: dict[str, Any] = {}
    if rate is not None:
        limits["rate"] = None if rate == "none" else rate
    if bucket_size is not None:
        limits["bucket_size"] = bucket_size
    if max_concurrent is not None:
        limits["max_concurrent"] = None if max_concurrent == "none" else _number(max_concurrent)
    runtime = current_runtime()
    chosen = Queue(queue, runtime)
    changes = ", ".join(f"{name}={value}" for name, value in limits.items())
    with logged(runtime, "configure", f"{queue}: {changes or 'nothing'}"):
        chosen.configure(**limits)
    now = chosen.statistics()
    if as_json:
        echo_json(asdict(now))
        return
    echo(
        f"{queue}: rate {rate_text(now.rate)}, bucket size {now.bucket_size}, max concurrent "
        f"{number_or_dash(now.max_concurrent)}."
    )


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(
            f"--max-concurrent is {text!r}; it must be a whole number, or none"
        ) from None
