"""The options of a task, checked one by one and converted to the values of its columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..durations import seconds
from ..errors import (
    ConfigurationError,
    InvalidDeadlineError,
    InvalidEtaError,
    InvalidKeyError,
    InvalidQueueModeError,
    InvalidTaskError,
    shown,
)
from ..names import check_key
from ..queues.lanes import PRIORITIES
from ..queues.rate_keys import check_rate_key, rate_keys_of
from ..retry import RetryOptions
from ..settings.queue import MAX_DEADLINE, QueueSettings
from ..times import FIRST, LAST, LONGEST, duration_micros
from .request import PULL
from .spec import HandlerOptions


def resolve_delay(
    eta: datetime | None,
    countdown: float | str | timedelta | None,
    *,
    now: datetime,
    max_eta: timedelta,
) -> timedelta | None:
    """Return how far away the time asked for is; None if none was asked for.

    It may lie in the past. Raises `InvalidTaskError` if both are given, or if the value is neither
    a datetime nor a duration, and `InvalidEtaError` for a naive eta and for more than ``max_eta``.
    """
    if eta is None and countdown is None:
        return None
    if eta is not None and countdown is not None:
        raise InvalidTaskError("eta and countdown exclude each other: give one of them")
    delay = _until(eta, now) if eta is not None else check_countdown(countdown)
    _check_readable(now, delay)
    if delay > max_eta:
        raise InvalidEtaError(
            f"the eta is {delay.total_seconds():.0f} s away; TASKQUEUE_MAX_ETA allows "
            f"{max_eta.total_seconds():.0f}"
        )
    return delay


def aware_utc(what: str, instant: datetime) -> datetime:
    """Return a datetime in UTC. Raises `InvalidEtaError` for a naive one.

    A datetime that has no date in UTC, such as ``datetime.max`` west of Greenwich, becomes the last
    one that has, or the first.
    """
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise InvalidEtaError(
            f"{what} {instant.isoformat()} is naive: attach its time zone, as in "
            "datetime.now(UTC) + timedelta(minutes=5)"
        )
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return FIRST if instant.year == 1 else LAST


def _until(eta: datetime, now: datetime) -> timedelta:
    if not isinstance(eta, datetime):
        raise InvalidTaskError(f"eta is {shown(eta)}; it must be a datetime")
    return aware_utc("eta", eta) - now


def _check_readable(now: datetime, delay: timedelta) -> None:
    try:
        now + delay
    except OverflowError:
        raise InvalidEtaError(
            f"the eta is {delay.total_seconds():.0f} s away, where the calendar has no date"
        ) from None


def check_countdown(countdown: float | str | timedelta | None) -> timedelta:
    """Return a countdown, which may be negative.

    Raises `InvalidTaskError`, and `InvalidEtaError` for one that is too long.
    """
    negative = isinstance(countdown, str) and countdown.startswith("-")
    try:
        number = seconds(countdown[1:] if negative else countdown, what="countdown")  # type: ignore[index, arg-type]
        return timedelta(seconds=-number if negative else number)
    except OverflowError as error:
        if isinstance(countdown, float) and countdown == -math.inf:
            raise InvalidTaskError("countdown is -inf; it must be finite") from error
        raise InvalidEtaError(
            f"countdown is {shown(countdown)}, further away than any eta may be"
        ) from error
    except ConfigurationError as error:
        raise InvalidTaskError(str(error)) from error


_CONFLICTS = ("skip", "raise", "replace", "debounce")


def check_priority(priority: int) -> int:
    """Return a priority. Raises `InvalidTaskError`."""
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
        raise InvalidTaskError(
            f"priority is {shown(priority)}; it must be a whole number from {PRIORITIES[0]} "
            f"to {PRIORITIES[-1]}"
        )
    return int(priority)


def check_flag(what: str, flag: bool) -> bool:
    """Return True or False. Raises `InvalidTaskError` for anything else."""
    if not isinstance(flag, bool):
        raise InvalidTaskError(f"{what} is {shown(flag)}; it must be True or False")
    return flag


def expiry(expires: Any) -> dict[str, Any]:
    """Return when a task expires: a datetime, or microseconds from when it is stored.

    Raises `InvalidTaskError` and `InvalidEtaError`.
    """
    if isinstance(expires, datetime):
        return {"expires_at": aware_utc("expires", expires)}
    if expires is None:
        return {}
    try:
        number = seconds(expires, what="expires")
    except ConfigurationError as error:
        raise InvalidTaskError(str(error)) from error
    if not 0 < number <= LONGEST:
        raise InvalidTaskError(
            f"expires is {shown(expires)}; it must be more than 0 seconds, at most a hundred "
            "years, or an aware datetime"
        )
    return {"expires_in": duration_micros(number)}


def check_due_before_expiry(
    delay: timedelta | None, expires: Mapping[str, Any], now: datetime
) -> None:
    """Raise `InvalidTaskError` if a task that is due only after ``delay`` expires before.

    ``expires`` is as `expiry` returns it. What was due before is left to the dispatcher.
    """
    if delay is None or delay <= timedelta(0) or not expires:
        return
    ends = (
        expires["expires_at"] - now
        if "expires_at" in expires
        else timedelta(microseconds=expires["expires_in"])
    )
    if ends <= delay:
        raise InvalidTaskError(
            f"the task would expire after {max(0.0, ends.total_seconds()):g} s, but is not due "
            f"before {delay.total_seconds():g} s have passed, so it would never run: give a later "
            "expires, or an earlier eta or countdown"
        )


_KEYS = ("serial_key", "concurrency_key", "rate_key")


def lock(
    options: HandlerOptions, queue: QueueSettings | None = None, *, is_added: bool = False
) -> dict[str, Any]:
    """Return the key that a task shares with others; the three kinds of keys are kept apart.

    Without the task's ``queue`` a rate key is only checked by itself; ``is_added`` says that it is
    none of the configured ones. Raises `InvalidKeyError`.
    """
    given = [name for name in _KEYS if options.get(name) is not None]
    if len(given) > 1:
        raise InvalidKeyError(f"{' and '.join(given)} exclude each other: give one of them")
    rated = options.get("rate_key")
    serial, concurrent = options.get("serial_key"), options.get("concurrency_key")
    limit = options.get("concurrency_limit", 1)
    if concurrent is None and options.get("concurrency_limit") is not None:
        raise InvalidKeyError("concurrency_limit needs a concurrency_key")
    if rated is not None:
        return _rate_lock(check_rate_key(rated), queue, is_added=is_added)
    if serial is not None:
        return {"lock_key": f"s:{check_key('serial_key', serial)}"}
    if concurrent is None:
        return {}
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 10_000:
        raise InvalidKeyError(
            f"concurrency_limit is {shown(limit)}; it must be a whole number from 1 to 10000"
        )
    return {"lock_key": f"c:{check_key('concurrency_key', concurrent)}", "lock_limit": int(limit)}


def _rate_lock(key: str, queue: QueueSettings | None, *, is_added: bool) -> dict[str, Any]:
    if queue is None:
        return {}
    if queue.rate_per_key is None:
        remedy = (
            f"give it one: flask taskqueue queues change {queue.name} --rate-per-key 10/m"
            if is_added
            else f"add one to TASKQUEUE_QUEUES, such as {{{queue.name!r}: {{'rate_per_key': "
            "'10/m'}}"
        )
        raise InvalidKeyError(
            f"rate_key is {shown(key)}, but queue {queue.name} has no rate for it: {remedy}"
        )
    return {"lock_key": rate_keys_of(queue.name) + key}


def conflict(options: HandlerOptions) -> Any:
    """Return what happens if the unique_key is taken. Raises `InvalidTaskError`."""
    wish = options.get("on_conflict", "skip")
    if not isinstance(wish, str) or wish not in _CONFLICTS:
        raise InvalidTaskError(
            f"on_conflict is {shown(wish)}; it must be one of {', '.join(map(repr, _CONFLICTS))}"
        )
    if "on_conflict" in options and options.get("unique_key") is None:
        raise InvalidTaskError("on_conflict needs a unique_key")
    return str.__str__(wish)


def check_deadline(deadline: float | str | timedelta | None) -> float | None:
    """Return a deadline in seconds. Raises `InvalidDeadlineError`."""
    if deadline is None:
        return None
    try:
        number = seconds(deadline, what="deadline")
    except ConfigurationError as error:
        raise InvalidDeadlineError(str(error)) from error
    if not 0 < number <= MAX_DEADLINE:
        raise InvalidDeadlineError(
            f"deadline is {shown(deadline)}; it must be more than 0 seconds and at most 24 hours"
        )
    return number


def retry_json(retry: RetryOptions | Mapping[str, Any] | None) -> str | None:
    """Return the retry policy as it is stored. Raises `InvalidTaskRetryOptionsError`."""
    if retry is None:
        return None
    options = RetryOptions.of(retry)
    return "{}" if options is None else options.to_json()


def check_mode(queue: QueueSettings, method: str) -> None:
    """Raise `InvalidQueueModeError` unless a queue is for tasks with this method."""
    if queue.is_pulled and method != PULL:
        raise InvalidQueueModeError(
            f"queue {queue.name!r} is a pull queue, whose tasks are leased and never sent: add the "
            "task to another queue, or with taskqueue.Task(method='PULL')"
        )
    if method == PULL and not queue.is_pulled:
        raise InvalidQueueModeError(
            f"queue {queue.name!r} is a push queue, whose tasks are sent: give it mode 'pull', or "
            "the task another method"
        )
