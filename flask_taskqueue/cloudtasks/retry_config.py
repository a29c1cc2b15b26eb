"""The retry config of Cloud Tasks, which is the retry policy of App Engine in other words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..core.retry import RetryOptions
from ..core.rpc.messages import Fields
from ..core.rpc.status import invalid
from ..core.rpc.wire import duration_text

_ATTEMPTS = 100
"""What Cloud Tasks takes where the number of attempts is not given, or is 0."""
_NAMES = {"minBackoff": "min_backoff_seconds", "maxBackoff": "max_backoff_seconds"}


def retry_options(config: Fields) -> RetryOptions:
    """Return the retry policy that a config asks for, with Cloud Tasks' own defaults.

    Raises `RpcError`, and `InvalidTaskRetryOptionsError` for values that contradict each other.
    """
    attempts = config.get("maxAttempts") or _ATTEMPTS
    if attempts < -1:
        raise invalid(f"retryConfig.maxAttempts is {attempts}; it must be -1 (no limit) or more.")
    given: dict[str, Any] = {
        "task_retry_limit": None if attempts == -1 else attempts - 1,
        "task_age_limit": _seconds(config, "maxRetryDuration") or None,
        "max_doublings": config.get("maxDoublings", 16),
    }
    for name, option in _NAMES.items():
        if name in config:
            given[option] = _seconds(config, name)
    return RetryOptions(**given)


def changed_options(options: RetryOptions, config: Fields) -> RetryOptions:
    """Return a retry policy in which what a config gives is changed; None is Cloud Tasks' default.

    Raises as `retry_options`.
    """
    limit, age = options.task_retry_limit, options.task_age_limit
    known: Fields = {
        "maxAttempts": -1 if limit is None else limit + 1,
        "maxRetryDuration": timedelta(seconds=age if isinstance(age, float) else 0),
        "minBackoff": timedelta(seconds=options.min_backoff_seconds),
        "maxBackoff": timedelta(seconds=options.max_backoff_seconds),
        "maxDoublings": options.max_doublings,
    }
    changed = {**known, **config}
    return retry_options({name: value for name, value in changed.items() if value is not None})


def retry_config(options: RetryOptions) -> dict[str, Any]:
    """Return the config that shows a retry policy."""
    limit, age = options.task_retry_limit, options.task_age_limit
    return {
        "maxAttempts": -1 if limit is None else limit + 1,
        "maxRetryDuration": duration_text(age if isinstance(age, float) else 0),
        "minBackoff": duration_text(options.min_backoff_seconds),
        "maxBackoff": duration_text(options.max_backoff_seconds),
        "maxDoublings": options.max_doublings,
    }


def _seconds(config: Fields, name: str) -> float:
    value = config.get(name)
    if value is None:
        return 0.0
    seconds: float = value.total_seconds()
    if seconds < 0:
        raise invalid(f"retryConfig.{name} is {seconds:g}s; it must be 0s or more.")
    return seconds
