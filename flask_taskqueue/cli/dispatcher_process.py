"""One dispatcher process of ``flask taskqueue run``."""

from __future__ import annotations

import logging
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask

from ..core import signals
from ..core.delivery.outcome import Outcome
from ..core.errors import TransientError
from ..core.states import Record, State
from ..core.urls import redacted
from ..engine.pulse import Pulse, Recycling
from ..process.logs import get_logger
from ..process.signal_handlers import not_ignored, take
from ..process.threads import NoThreadError
from ..runtime import Runtime
from .output import echo

_logger = get_logger()

START_AGAIN = 1.0
"""The seconds after which a dispatcher that cannot start yet tries again."""


def run_dispatcher(
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
            is_over(START_AGAIN)
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
