"""``flask taskqueue run``."""

from __future__ import annotations

import logging
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import click
from flask import Flask
from flask.cli import with_appcontext

from ..core import signals
from ..core.delivery.outcome import Outcome
from ..core.errors import TransientError
from ..core.humanize import count
from ..core.record import Record
from ..core.states import State
from ..core.urls import redacted
from ..engine.in_flight import renew_for
from ..engine.recycling import Wear, resident, usable_processors
from ..engine.supervisor import Pulse, Supervisor
from ..process.signal_handlers import take
from ..runtime import Runtime
from ..store import Wait
from ..web.app_checks import check_application
from ..web.autostart import disable_autostart
from .options import current_runtime

logger = logging.getLogger("flask_taskqueue")

_START_AGAIN = 1.0
_MOST = 64


class Processes(click.ParamType):  # type: ignore[type-arg]
    """A number of processes, or a word for that of the processors."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return (
            min(usable_processors(), _MOST)
            if value == "auto"
            else click.IntRange(1, _MOST).convert(value, param, ctx)
        )


@click.command("run")
@click.option(
    "--processes",
    type=Processes(),
    default="1",
    show_default=True,
    help="How many; auto: as many as processors are usable.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1000),
    help="Tasks at a time in each.  [default: TASKQUEUE_CONCURRENCY]",
)
@click.option("--queues", help="Only these queues, separated by commas.")
@click.option(
    "--transport", type=click.Choice(["wsgi", "http"]), help="[default: TASKQUEUE_TRANSPORT]"
)
@click.option("--base-url", help="Where the application answers, for the http transport.")
@click.option(
    "--max-tasks",
    type=click.IntRange(1),
    metavar="N",
    help="Replace a process that has made so many attempts.",
)
@click.option(
    "--max-memory",
    type=click.IntRange(1),
    metavar="MB",
    help="Replace a process that holds more memory than this.",
)
@click.option("--burst", is_flag=True, help="End when nothing is due.")
@with_appcontext
def run(
    processes: int,
    threads: int | None,
    queues: str | None,
    transport: str | None,
    base_url: str | None,
    max_tasks: int | None,
    max_memory: int | None,
    burst: bool,
) -> None:
    """Run dispatchers, supervised: one that dies is replaced, and its tasks are given back at once.

    One that is to be replaced takes no more tasks, and ends when those that it runs have ended.

    SIGTERM and Ctrl-C let running tasks end within TASKQUEUE_GRACE_PERIOD; a second one does not
    wait.
    """
    runtime = current_runtime()
    disable_autostart(runtime.app)
    options = {
        "concurrency": threads,
        "queues": _chosen(runtime, queues),
        "transport": transport,
        "base_url": base_url.rstrip("/") if base_url else None,
    }
    wear = Wear(max_tasks, None if max_memory is None else max_memory * 1_000_000)
    if burst and wear != Wear():
        raise click.UsageError(
            "--max-tasks and --max-memory are for processes that go on: leave them out with --burst"
        )
    if max_memory is not None and resident() is None:
        raise click.UsageError(
            "this system does not tell how much memory a process holds (/proc/self/statm): "
            "use --max-tasks"
        )
    _check(runtime, options)
    if burst:
        _burst(runtime, options)
        return
    _announce(runtime, processes, options)
    sys.exit(_supervise(runtime, processes, options, wear))


def _chosen(runtime: Runtime, queues: str | None) -> tuple[str, ...] | None:
    if queues is None:
        return None
    names = tuple(name.strip() for name in queues.split(",") if name.strip())
    for name in names:
        if name not in runtime.settings.queues:
            raise click.UsageError(
                f"there is no queue {name!r}; TASKQUEUE_QUEUES has "
                f"{', '.join(sorted(runtime.settings.queues))}"
            )
    return names


def _check(runtime: Runtime, options: dict[str, Any]) -> None:
    """Find out now, and once, what would stop every process: no tables, no secret, no base URL."""
    if runtime.store.database.in_memory:
        raise click.ClickException(
            "an in-memory SQLite database cannot be shared with another process: use a file"
        )
    check_application(runtime.app)
    runtime.store.ensure_queues()
    _, attempts = runtime.dispatcher(**options)
    attempts.close()
    runtime.store.database.close()


def _burst(runtime: Runtime, options: dict[str, Any]) -> None:
    check_application(runtime.app)
    click.echo(f"{runtime.drain(**options)} attempts.")


def _announce(runtime: Runtime, processes: int, options: dict[str, Any]) -> None:
    database = runtime.store.database.engine.url.render_as_string(hide_password=True)
    slots = options["concurrency"] or runtime.settings.concurrency
    transport = options["transport"] or runtime.settings.transport
    click.echo(f" * Task queue on {database}")
    click.echo(
        f" * {count(processes, 'process', 'processes')}, {count(slots, 'task')} at a time in "
        f"each, transport {transport}"
    )
    click.echo(" * Press Ctrl-C to finish what runs and quit")


def _supervise(runtime: Runtime, processes: int, options: dict[str, Any], wear: Wear) -> int:
    store, app = runtime.store, runtime.app

    def bury(identity: str, blameless: bool) -> None:
        give_back = store.leases.pardon if blameless else store.leases.expire
        try:
            store.transact(lambda connection: give_back(connection, identity), wait=Wait.BRIEFLY)
            store.transact(
                lambda connection: store.dispatchers.remove(connection, identity), wait=Wait.BRIEFLY
            )
        finally:
            store.database.close()

    def sustain(identity: str) -> None:
        try:
            renew_for(store, runtime.settings, identity)
        finally:
            store.database.close()

    def work(identity: str, lifeline: int, pulse: Pulse) -> int:
        return _child(
            app, lifeline, {**options, "identity": identity, "renewed": pulse.beat}, wear, pulse
        )

    return Supervisor(
        processes,
        work,
        bury=bury,
        sustain=sustain,
        grace=runtime.settings.grace_period,
        lease=runtime.settings.lease,
    ).run()


def _child(app: Flask, lifeline: int, options: dict[str, Any], wear: Wear, pulse: Pulse) -> int:
    """One dispatcher process: until it is told to stop, its supervisor is gone, or it is worn
    and what it runs has ended.
    """
    stop = threading.Event()
    # systemd and Heroku send it to every process, and the supervisor once more: only its SIGKILL
    # means at once.
    take(signal.SIGTERM, lambda *_: stop.set())
    take(
        signal.SIGINT, lambda *_: None
    )  # the terminal sends it to the supervisor too, which tells us
    take(signal.SIGHUP, lambda *_: None)
    runtime: Runtime = app.extensions["taskqueue"]
    signals.attempt_finished.connect(_tell, app)
    if not logger.hasHandlers():
        logger.addHandler(_beside_the_lines())

    def look(*_: object, **__: object) -> None:
        """In the drain, when an attempt has ended."""
        scheduler = runtime.scheduler
        if (
            scheduler is not None
            and not pulse.is_leaving
            and (worn := wear.reached(scheduler.dispatcher.ended)) is not None
        ):
            logger.info("dispatcher %s is replaced: %s", options["identity"], worn)
            scheduler.dispatcher.retire()
            pulse.leave()

    if wear != Wear():
        signals.attempt_finished.connect(look, app, weak=False)

    def is_over(seconds: float) -> bool:
        return stop.is_set() or bool(select.select([lifeline], [], [], seconds)[0])

    if _start(runtime, is_over, **options):
        while not (is_over(0.1) or (pulse.is_leaving and runtime.wait_idle(0))):
            continue
    runtime.stop()
    return 0


def _start(runtime: Runtime, is_over: Callable[[float], bool], **options: Any) -> bool:
    """Start as soon as the database is there; whether that was before it was all over."""
    while not is_over(0):
        try:
            runtime.start(**options)
            return True
        except TransientError as error:
            logger.warning("the dispatcher cannot start yet: %s", error)
            is_over(_START_AGAIN)
    return False


def _beside_the_lines() -> logging.Handler:
    """Where logging is not set up: shows warnings as Python would by itself, but for those of
    attempts, which have their lines.
    """
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: not hasattr(record, "attempt"))
    return handler


def _tell(_app: Flask, record: Record, outcome: Outcome, duration: float, **_: Any) -> None:
    """A line for the terminal, with the error of an attempt that failed."""
    good = outcome.state is State.SUCCEEDED
    then = (
        f" → retry in {outcome.delay:.1f} s"
        if outcome.delay is not None
        else ""
        if good
        else " → dead"
    )
    click.echo(
        f"{time.strftime('%H:%M:%S')}  {'✓' if good else '✕'} {record.queue:<10} "
        f"{redacted(record.url):<24} "
        f"{outcome.status or outcome.reason:>7}  {duration * 1000:7.1f} ms  try "
        f"{record.attempts}{then}   {record.id}"
        f"{f'   {outcome.error}' if outcome.error else ''}"
    )
