"""Reports of attempts: the log line and the signals of each."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime, timedelta

from blinker import NamedSignal
from flask import Flask

from ..core import signals
from ..core.delivery.outcome import Outcome
from ..core.states import Record, State
from ..core.urls import redacted
from ..process.logs import SafeLogger, get_logger
from ..store import AttemptResult

_logger = get_logger()
_reported = get_logger("flask_taskqueue.reported")
"""The logger for tasks whose exception an error tracker has already received."""

_LEVELS = {
    State.SUCCEEDED: logging.INFO,
    State.SCHEDULED: logging.WARNING,
    State.DEAD: logging.ERROR,
}


def send_guarded(signal: NamedSignal, app: Flask, **values: object) -> None:
    """Send a signal of something that is done, from a thread that must go on.

    Every receiver is called; what one raises is logged. Without receivers this costs next to
    nothing.
    """
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(app):
        try:
            receiver(app, **values)
        except Exception:  # it is the app's code, and the others are to be told all the same
            _logger.exception("a receiver of the signal %s raised", signal.name)


def report_attempt(app: Flask, result: AttemptResult, lost: bool) -> None:
    """Log a recorded attempt, and send its signals."""
    log_attempt(result, lost)
    outcome = result.outcome
    send_guarded(
        signals.attempt_finished,
        app,
        record=result.record,
        outcome=outcome,
        duration=result.duration,
        lost=lost,
    )
    if lost or not outcome.state.is_finished:
        return
    signal = signals.task_dead if outcome.state is State.DEAD else signals.task_succeeded
    send_guarded(signal, app, record=result.record, outcome=outcome)


def log_attempt(result: AttemptResult, lost: bool) -> None:
    """Log a success as information, a failed attempt as a warning, a dead task as an error.

    Failures are therefore visible even if logging was never set up, because Python then prints
    warnings to stderr. If the exception that ended a dead task has already been reported, the death
    is logged by a separate logger that Sentry ignores, so that the exception is reported only once.

    The line never contains bodies, headers or query strings. The record's attributes describe the
    attempt too: task_id, task_name, queue, url, attempt, status, outcome, duration_ms, latency_ms
    (from the eta to the beginning of the first attempt; None for later attempts) and next_eta (of
    the next attempt).
    """
    record, outcome = result.record, result.outcome
    level = logging.WARNING if lost else _LEVELS[outcome.state]
    log = _logger_of(result) if level == logging.ERROR else _logger
    if not log.isEnabledFor(level):
        return
    extra = {
        "task_id": _printable(record.id),
        "task_name": None if record.name is None else _printable(record.name),
        "queue": _printable(record.queue),
        "url": _printable(redacted(record.url)),
        "attempt": record.attempts,
        "status": outcome.status,
        "outcome": "late" if lost else outcome.reason,
        "duration_ms": round(result.duration * 1000, 1),
        "latency_ms": _latency(record),
        "next_eta": None
        if lost or outcome.delay is None
        else (datetime.now(UTC) + timedelta(seconds=outcome.delay)).isoformat(),
    }
    log.log(
        level,
        "%s %s %s attempt %d: %s in %.1f ms%s",
        _printable(record.id),
        _printable(record.method),
        extra["url"],
        record.attempts,
        outcome.status if outcome.status is not None else outcome.reason,
        result.duration * 1000,
        _consequence(outcome, lost),
        extra=extra,
    )


def _logger_of(result: AttemptResult) -> SafeLogger:
    """Return the logger for the death of a task."""
    if not result.reported:
        return _logger
    sentry = sys.modules.get("sentry_sdk.integrations.logging")
    if sentry is not None:
        sentry.ignore_logger(_reported.name)
    return _reported


def _latency(record: Record) -> float | None:
    """Return the milliseconds from the eta to the beginning of the first attempt.

    They count from the creation if that was later than the eta. None for later attempts.
    """
    if record.attempts != 1 or record.started_at is None:
        return None
    return max(0, record.started_at - max(record.eta, record.created_at)) / 1000


def _consequence(outcome: Outcome, lost: bool) -> str:
    if lost:
        return ", too late: the lease was lost or the task deleted"
    if outcome.state is State.SUCCEEDED:
        return ""
    if outcome.delay is None:
        return f", dead: {outcome.error}"
    return f", again in {outcome.delay:.1f} s: {outcome.error}"


def _printable(value: object) -> str:
    """Return a value of a row in one line; SQLite keeps what is no text, too."""
    return "".join(character if character.isprintable() else "?" for character in str(value))
