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
        chosen = Queue(queue, runtime)
        changed = chosen.resume()
    echo_change(
        "resume",
        queue,
        changed,
        as_json,
        _resumed(chosen, changed),
    )


def _resumed(queue: Queue, changed: bool) -> str:
    """Say what resuming a queue did, and what else lets none of its tasks start."""
    told = f"Resumed {queue.name}." if changed else f"{queue.name} was not paused."
    if not queue.statistics().has_rate_0:
        return told
    return (
        f"{told} Its rate is 0, so it takes nothing: flask taskqueue configure {queue.name} "
        "--rate 5/s, or --rate none"
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
    runtime = current_runtime()
    chosen = Queue(queue, runtime)
    changes = ", ".join(f"{name}={value}" for name, value in limits.items())
    with logged(runtime, "configure", f"{queue}: {changes or 'nothing'}"):
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
    echo(
        f"{queue}: rate {rate_text(now.rate)}, bucket size {now.bucket_size}, max concurrent "
        f"{number_or_dash(now.max_concurrent)}{each}."
    )


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(
            f"--max-concurrent is {text!r}; it must be a whole number, or none"
        ) from None
