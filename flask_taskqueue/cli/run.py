"""``flask taskqueue run``."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click
from flask.cli import with_appcontext

from ..core.errors import TransientError, UnknownQueueError
from ..core.settings.checks import base_url as check_base_url
from ..core.times import plural
from ..engine.in_flight import renew_for
from ..engine.pulse import Pulse, Recycling, resident
from ..engine.supervisor import Supervisor
from ..runtime import QueueLookup, Runtime
from ..store import Store, Wait
from ..web.starting.app_checks import check_application
from ..web.starting.autostart import disable_autostart
from .dispatcher_process import START_AGAIN, run_dispatcher
from .options import Processes, current_runtime, failure
from .output import echo

Result = TypeVar("Result")


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
    not wait. At its start the command waits for a database that cannot be reached; with --burst it
    exits with 69.
    """
    runtime = current_runtime()
    disable_autostart(runtime.app)
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

    def checked_options() -> dict[str, Any]:
        options = {
            "concurrency": threads,
            "queues": _chosen(runtime, queues),
            "transport": transport,
            "base_url": check_base_url("--base-url", base_url) if base_url else None,
        }
        _check(runtime, options)
        return options

    options = checked_options() if burst else _once_reachable(checked_options)
    if burst:
        _burst(runtime, options)
        return
    _announce(runtime, processes, options)
    sys.exit(_supervise(runtime, processes, options, recycling))


def _chosen(runtime: Runtime, queues: str | None) -> tuple[str, ...] | None:
    if queues is None:
        return None
    names = tuple(name.strip() for name in queues.split(",") if name.strip())
    if not names:
        raise click.UsageError("--queues names no queue: name some, or leave it out to run all")
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


def _once_reachable(check: Callable[[], Result]) -> Result:
    """Return the result of a check as soon as the database can be reached.

    SIGTERM ends the process meanwhile, even if it is the first of a container.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    told = ""
    try:
        while True:
            try:
                return check()
            except TransientError as error:
                why = failure(error).message
                if why != told:
                    echo(f"Waiting for the database: {why}", err=True)
                told = why
                time.sleep(START_AGAIN)
    finally:
        signal.signal(signal.SIGTERM, before)


def _burst(runtime: Runtime, options: dict[str, Any]) -> None:
    check_application(runtime.app)
    echo(f"{plural(runtime.drain(last=True, **options), 'attempt')}.")


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
        return run_dispatcher(
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
