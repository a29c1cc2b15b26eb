"""The options of a task, checked one by one: what its user wrote, as the columns hold it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from .clock import LONGEST, duration_micros
from .durations import seconds
from .errors import ConfigurationError, InvalidDeadlineError, InvalidKeyError, InvalidTaskError
from .eta import aware_utc
from .fairness import PRIORITIES
from .names import check_key
from .queue_settings import MAX_DEADLINE
from .quoting import shown
from .retry import RetryOptions
from .spec import TaskOptions

_CONFLICTS = ("skip", "raise", "replace", "debounce")


def check_priority(priority: int) -> int:
    """A priority. Raises `InvalidTaskError`."""
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
        raise InvalidTaskError(f"priority is {shown(priority)}; it must be a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}")
    return int(priority)


def check_flag(what: str, flag: bool) -> bool:
    """True or False. Raises `InvalidTaskError` for anything else."""
    if not isinstance(flag, bool):
        raise InvalidTaskError(f"{what} is {shown(flag)}; it must be True or False")
    return flag


def expiry(expires: Any) -> dict[str, Any]:
    """When a task expires: an instant, or microseconds from when it is stored. Raises `InvalidTaskError`, `InvalidEtaError`."""
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
            f"expires is {shown(expires)}; it must be more than 0 seconds, at most a hundred years, or an aware datetime"
        )
    return {"expires_in": duration_micros(number)}


def lock(options: TaskOptions) -> dict[str, Any]:
    """The key a task shares with others: serial keys and concurrency keys are apart. Raises `InvalidKeyError`."""
    serial, concurrent = options.get("serial_key"), options.get("concurrency_key")
    limit = options.get("concurrency_limit", 1)
    if serial is not None and concurrent is not None:
        raise InvalidKeyError("serial_key and concurrency_key exclude each other: give one of them")
    if serial is not None:
        return {"lock_key": f"s:{check_key('serial_key', serial)}"}
    if concurrent is None:
        return {}
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 10_000:
        raise InvalidKeyError(f"concurrency_limit is {shown(limit)}; it must be a whole number from 1 to 10000")
    return {"lock_key": f"c:{check_key('concurrency_key', concurrent)}", "lock_limit": int(limit)}


def conflict(options: TaskOptions) -> Any:
    """What is to happen when its unique_key is taken. Raises `InvalidTaskError`."""
    wish = options.get("on_conflict", "skip")
    if not isinstance(wish, str) or wish not in _CONFLICTS:
        raise InvalidTaskError(f"on_conflict is {shown(wish)}; it must be one of {', '.join(map(repr, _CONFLICTS))}")
    if "on_conflict" in options and options.get("unique_key") is None:
        raise InvalidTaskError("on_conflict needs a unique_key")
    return str.__str__(wish)


def check_deadline(deadline: float | str | timedelta | None) -> float | None:
    """A deadline in seconds. Raises `InvalidDeadlineError`."""
    if deadline is None:
        return None
    try:
        number = seconds(deadline, what="deadline")
    except ConfigurationError as error:
        raise InvalidDeadlineError(str(error)) from error
    if not 0 < number <= MAX_DEADLINE:
        raise InvalidDeadlineError(f"deadline is {shown(deadline)}; it must be more than 0 seconds and at most 24 hours")
    return number


def retry_json(retry: RetryOptions | Mapping[str, Any] | None) -> str | None:
    """The retry law as it is stored. Raises `InvalidTaskRetryOptionsError`."""
    if retry is None:
        return None
    options = RetryOptions.of(retry)
    return "{}" if options is None else options.to_json()
