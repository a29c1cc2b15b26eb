"""Forwarded tasks: what Cloud Tasks can take over of a task, and the name that it has there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..errors import (
    InvalidDeadlineError,
    InvalidEtaError,
    InvalidKeyError,
    InvalidTaskError,
    InvalidTaskRetryOptionsError,
)
from ..names import is_task_id
from ..retry import RetryOptions
from ..settings.engines import LONGEST_DEADLINE, SHORTEST_DEADLINE
from ..settings.queue import QueueSettings
from ..times import duration_micros
from ..urls import leads_out
from .spec import NewTask

HORIZON = timedelta(days=30)
"""How far ahead Cloud Tasks lets a task be scheduled."""


def name_there(task_id: str, forwarded_for: int) -> str:
    """Return the name of a task in Cloud Tasks: the same whenever it is handed over for a time.

    So a task that is handed over twice is there once. The id is written backwards, because names
    that begin alike slow Cloud Tasks down, and the end of an id is random.
    """
    return f"{task_id[::-1]}-{forwarded_for:x}"


def id_of(name: str) -> str | None:
    """Return the id in a name of `name_there`, or None for another name."""
    backwards = name.partition("-")[0]
    return backwards[::-1] if is_task_id(backwards) else None


def check_forwardable(new: NewTask, queue: QueueSettings, deadline: float) -> None:
    """Check that Cloud Tasks can do all that a task asks for.

    ``deadline`` is that of its attempts, in seconds. Raises `InvalidTaskError` or a subclass,
    naming the option: nothing is left out silently.
    """
    where = f"queue {queue.name!r} has the engine Cloud Tasks"
    _check_order(new, where)
    if new.retry is not None and RetryOptions.from_json(new.retry).jitter:
        raise InvalidTaskRetryOptionsError(
            f"{where}, which knows no jitter: leave it out of the task's retry options"
        )
    if leads_out(new.request.url, new.target):
        raise InvalidTaskError(
            f"{where}, which calls only this app's own routes: give a path without a target, or "
            "use another queue"
        )
    if new.on_conflict in ("replace", "debounce"):
        raise InvalidTaskError(
            f"{where}, where a task that was handed over does not change: on_conflict must be "
            f"'skip' or 'raise', not {new.on_conflict!r}"
        )
    if not SHORTEST_DEADLINE <= deadline <= LONGEST_DEADLINE:
        raise InvalidDeadlineError(
            f"{where}, which allows deadlines from {SHORTEST_DEADLINE:g} to "
            f"{LONGEST_DEADLINE:g} seconds; that of the task is {deadline:g}"
        )
    ahead = timedelta(microseconds=new.delay)
    if new.eta is not None:
        ahead = new.eta - datetime.now(UTC)
    if duration_micros(ahead.total_seconds()) > duration_micros(HORIZON.total_seconds()):
        raise InvalidEtaError(
            f"{where}, which takes tasks at most {HORIZON.days} days ahead; the eta is "
            f"{ahead.total_seconds() / 86_400:.1f} days away"
        )


def _check_order(new: NewTask, where: str) -> None:
    if new.lock_key is not None:
        raise InvalidKeyError(
            f"{where}, which knows no serial_key, concurrency_key or rate_key: leave it out, or "
            "use another queue"
        )
    if new.priority:
        raise InvalidTaskError(
            f"{where}, which knows no priority: leave it out, or use another queue"
        )
