"""``flask taskqueue run``."""

from __future__ import annotations

import logging
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from flask import Flask
from flask.cli import with_appcontext

from ..core import signals
from ..core.delivery.outcome import Outcome
from ..core.errors import TransientError, UnknownQueueError
from ..core.states import Record, State
from ..core.times import plural
from ..core.urls import redacted
from ..engine.in_flight import renew_for
from ..engine.pulse import Pulse, Recycling, resident
from ..engine.supervisor import Supervisor
from ..process.logs import get_logger
from ..process.signal_handlers import not_ignored, take
from ..process.threads import NoThreadError
from ..runtime import QueueLookup, Runtime
from ..store import Store, Wait
from ..web.starting.app_checks import check_application
from ..web.starting.autostart import disable_autostart
from .options import Processes, current_runtime
from .output import echo

_logger = get_logger()

_START_AGAIN = 1.0


@click.command("run")
@click.option(
    "--processes",
    type=Processes(),
    default="1",
    is_flag=False,
    flag_value="auto",
    show_default=True,
    help="How many; auto, or --processes alone: one per usable processor.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1000),
    help="Tasks at a time in each process.  [default: TASKQUEUE_CONCURRENCY]",
)
@click.option("--queues", help="Run only these queues, separated by commas.")
@click.option(
    "--transport", type=click.Choice(["wsgi", "http"]), help="[default: TASKQUEUE_TRANSPORT]"
)
@click.option("--base-url", help="The URL of the app, for the http transport.")
@click.option(
    "--max-tasks",
    type=click.IntRange(1),
    metavar="N",
    help="Replace a process after this many attempts.",
)
@click.option(
    "--max-memory",
    type=click.IntRange(1),
    metavar="MB",
    help="Replace a process that uses more memory than this.",
)
@click.option("--burst", is_flag=True, help="Exit when no task is due.")
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
    """Run dispatchers under a supervisor.

    A process that dies is replaced, and its tasks are given back immediately. A process that
    reaches --max-tasks or --max-memory is replaced: it takes no more tasks, and ends when its
    running ones have ended.

    SIGTERM and Ctrl-C let running tasks end within TASKQUEUE_GRACE_PERIOD; a second signal does
    not wait.
    """
    runtime = current_runtime()
    disable_autostart(runtime.app)
    options = {
        "concurrency": threads,
        "queues": _chosen(runtime, queues),
        "transport": transport,
        "base_url": base_url.rstrip("/") if base_url else None,
    }
    recycling = Recycling(max_tasks, None if max_memory is None else max_memory * 1_000_000)
    if burst and recycling != Recycling():
        raise click.UsageError(
            "--max-tasks and --max-memory have no effect with --burst: leave them out"
        )
    if max_memory is not None and resident() is None:
        raise click.UsageError(
            "this system does not say how much memory a process uses (/proc/self/statm): "
            "use --max-tasks instead"
        )
    _check(runtime, options)
    if burst:
        _burst(runtime, options)
        return
    _announce(runtime, processes, options)
    sys.exit(_supervise(runtime, processes, options, recycling))


def _chosen(runtime: Runtime, queues: str | None) -> tuple[str, ...] | None:
    if queues is None:
        return None
    names = tuple(name.strip() for name in queues.split(",") if name.strip())
    find_queue = QueueLookup(runtime)
    for name in names:
        try:
            find_queue(name)
        except UnknownQueueError as error:
            raise click.UsageError(str(error)) from error
    return names


def _check(runtime: Runtime, options: dict[str, Any]) -> None:
    """Fail now, once, for whatever would stop every process: no tables, secret or base URL."""
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
    echo(f"{plural(runtime.drain(**options), 'attempt')}.")


def _announce(runtime: Runtime, processes: int, options: dict[str, Any]) -> None:
    database = runtime.store.database.engine.url.render_as_string(hide_password=True)
    slots = options["concurrency"] or runtime.settings.concurrency
    transport = options["transport"] or runtime.settings.transport
    echo(f" * Task queue on {database}")
    echo(
        f" * {plural(processes, 'process', 'processes')}, {plural(slots, 'task')} at a time in "
        f"each, transport {transport}"
    )
    echo(" * Press Ctrl-C to finish what runs and quit")


def _supervise(
    runtime: Runtime, processes: int, options: dict[str, Any], recycling: Recycling
) -> int:
    app = runtime.app

    def work(identity: str, lifeline: int, pulse: Pulse) -> int:
        return _child(
            app,
            lifeline,
            {**options, "identity": identity, "renewed": pulse.beat, "replaced": pulse.replaced},
            recycling,
            pulse,
        )

    return Supervisor(
        processes,
        work,
        release_dead_worker=partial(_release_dead_worker, runtime.store),
        sustain=partial(_sustain, runtime),
        ending=lambda name: echo(f" * {name}: finishing what runs, then quitting"),
        grace=runtime.settings.grace_period,
        lease=runtime.settings.lease,
    ).run()


def _release_dead_worker(store: Store, identity: str, killed_externally: bool) -> None:
    give_back = store.leases.release_killed if killed_externally else store.leases.expire
    try:
        store.transact(lambda connection: give_back(connection, identity), wait=Wait.BRIEFLY)
        store.transact(
            lambda connection: store.dispatchers.remove(connection, identity), wait=Wait.BRIEFLY
        )
    finally:
        store.database.close()


def _sustain(runtime: Runtime, identity: str) -> None:
    try:
        renew_for(runtime.store, runtime.settings, identity)
    finally:
        runtime.store.database.close()


def _child(
    app: Flask, lifeline: int, options: dict[str, Any], recycling: Recycling, pulse: Pulse
) -> int:
    """Run one dispatcher process and return its exit code.

    It ends when it receives SIGTERM, when its supervisor is gone, or when it is worn and its
    running tasks have ended.
    """
    stop = threading.Event()
    # systemd and Heroku send SIGTERM to every process, and the supervisor sends it once more: so a
    # second one must not hurry. Only the supervisor's SIGKILL does.
    take(signal.SIGTERM, lambda *_: stop.set())
    # The terminal sends these to the supervisor too, which then stops this process.
    for number in not_ignored(signal.SIGINT, signal.SIGHUP):
        take(number, lambda *_: None)
    runtime: Runtime = app.extensions["taskqueue"]
    signals.attempt_finished.connect(_echo_attempt, app)
    if not _logger.hasHandlers():
        _logger.logger.addHandler(_warnings_handler())
    if recycling != Recycling():
        _watch_recycling(runtime, options["identity"], recycling, pulse)

    def is_over(seconds: float) -> bool:
        return stop.is_set() or bool(select.select([lifeline], [], [], seconds)[0])

    if _start(runtime, is_over, **options):
        while not (is_over(0.1) or (pulse.is_leaving and runtime.wait_idle(0))):
            if pulse.is_leaving:
                runtime.retire()
    runtime.stop()
    return 0


def _watch_recycling(runtime: Runtime, identity: str, recycling: Recycling, pulse: Pulse) -> None:
    """Have the process replaced once it is worn, which the drain checks after each attempt."""

    def check_recycling(*_: object, **__: object) -> None:
        scheduler = runtime.scheduler
        if (
            scheduler is not None
            and not pulse.is_worn
            and (why := recycling.reached(scheduler.dispatcher.ended)) is not None
        ):
            _logger.info("dispatcher %s is replaced: %s", identity, why)
            pulse.wear_out(why)

    signals.attempt_finished.connect(check_recycling, runtime.app, weak=False)


def _start(runtime: Runtime, is_over: Callable[[float], bool], **options: Any) -> bool:
    """Start as soon as the database can be reached and there are threads.

    Returns False if the end came first.
    """
    while not is_over(0):
        try:
            runtime.start(**options)
            return True
        except (TransientError, NoThreadError) as error:
            _logger.warning("the dispatcher cannot start yet: %s", error)
            is_over(_START_AGAIN)
    return False


def _warnings_handler() -> logging.Handler:
    """Return a handler for an app without logging: it shows warnings, except those of attempts.

    Attempts have their own lines on stdout.
    """
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: not hasattr(record, "attempt"))
    return handler


def _echo_attempt(_app: Flask, record: Record, outcome: Outcome, duration: float, **_: Any) -> None:
    """Print a line about an attempt, with its error if it failed."""
    good = outcome.state is State.SUCCEEDED
    then = (
        f" → retry in {outcome.delay:.1f} s"
        if outcome.delay is not None
        else ""
        if good
        else " → dead"
    )
    echo(
        f"{time.strftime('%H:%M:%S')}  {'✓' if good else '✕'} {record.queue:<10} "
        f"{redacted(record.url):<24} "
        f"{outcome.status or outcome.reason:>7}  {duration * 1000:7.1f} ms  try "
        f"{record.attempts}{then}   {record.id}"
        f"{f'   {outcome.error}' if outcome.error else ''}"
    )
