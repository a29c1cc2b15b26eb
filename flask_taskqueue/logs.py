"""The log: one line per attempt."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime, timedelta

from .core.delivery.outcome import Outcome
from .core.record import Record
from .core.states import State
from .core.urls import redacted
from .store import AttemptResult

logger = logging.getLogger("flask_taskqueue")
_reported = logging.getLogger("flask_taskqueue.reported")
"""Of tasks whose exception an error tracker has been told of already."""

_LEVELS = {
    State.SUCCEEDED: logging.INFO,
    State.SCHEDULED: logging.WARNING,
    State.DEAD: logging.ERROR,
}


def log_attempt(result: AttemptResult, lost: bool) -> None:
    """Log an attempt that is recorded: a success as information, a failed attempt as a warning, a
    dead task as an error.

    So failures are seen where logging was never set up: Python prints warnings to stderr then.

    The death of a task by an exception that has been reported already is logged by a logger of its
    own, which Sentry ignores, so that it is reported once.

    Never in it: bodies, headers, query strings. What an attempt was is in the record's attributes
    too: task_id, task_name, queue, url, attempt, status, outcome, duration_ms, latency_ms (from the
    eta to the begin of the first attempt; None at later ones) and next_eta (of the next attempt).
    """
    record, outcome = result.record, result.outcome
    level = logging.WARNING if lost else _LEVELS[outcome.state]
    log = _logger(result) if level == logging.ERROR else logger
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


def _logger(result: AttemptResult) -> logging.Logger:
    """What the death of a task is logged by."""
    if not result.reported:
        return logger
    sentry = sys.modules.get("sentry_sdk.integrations.logging")
    if sentry is not None:
        sentry.ignore_logger(_reported.name)
    return _reported


def _latency(record: Record) -> float | None:
    """Milliseconds from the eta, or the creation if that was later, to the first attempt."""
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


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
