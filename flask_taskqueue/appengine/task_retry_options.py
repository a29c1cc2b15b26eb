"""Retry options, as App Engine's tasks have them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..core.retry import RetryOptions
from .errors import InvalidTaskRetryOptionsError, translated

_NAMES = (
    "min_backoff_seconds",
    "max_backoff_seconds",
    "task_age_limit",
    "max_doublings",
    "task_retry_limit",
)


class TaskRetryOptions:
    """When a failed task is attempted again.

    The arguments are those of `RetryOptions`, of which App Engine has ``min_backoff_seconds``,
    ``max_backoff_seconds``, ``task_age_limit`` (in seconds, rounded up), ``max_doublings`` and
    ``task_retry_limit``. Options of a task replace those of its queue as a whole. Raises
    `InvalidTaskRetryOptionsError` for negative and contradicting values, and TypeError for an
    unknown argument.
    """

    def __init__(self, **kwargs: Any) -> None:
        unknown = sorted(kwargs.keys() - set(_NAMES))
        if unknown:
            raise TypeError(f"retry options have no {', '.join(unknown)}")
        self._given: Mapping[str, Any] = {name: kwargs.get(name) for name in _NAMES}
        for name, value in self._given.items():
            if value is not None and value < 0:
                raise InvalidTaskRetryOptionsError(f"{name} is {value!r}; it cannot be negative")
        low, high = self.min_backoff_seconds, self.max_backoff_seconds
        if low is not None and high is not None and high < low:
            raise InvalidTaskRetryOptionsError(
                f"max_backoff_seconds is {high!r}, less than min_backoff_seconds, {low!r}"
            )

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in _NAMES)
        return f"TaskRetryOptions({told})"

    @property
    def min_backoff_seconds(self) -> Any:
        """The seconds before the first retry."""
        return self._given["min_backoff_seconds"]

    @property
    def max_backoff_seconds(self) -> Any:
        """The most seconds before a retry."""
        return self._given["max_backoff_seconds"]

    @property
    def task_age_limit(self) -> int | None:
        """The seconds after the first attempt in which retries are made."""
        given = self._given["task_age_limit"]
        return None if given is None else math.ceil(given)

    @property
    def max_doublings(self) -> Any:
        """How often the wait is doubled before it grows evenly."""
        return self._given["max_doublings"]

    @property
    def task_retry_limit(self) -> Any:
        """The number of retries."""
        return self._given["task_retry_limit"]

    def to_options(self) -> RetryOptions | None:
        """Return the retry policy of a task; None if nothing was given, for that of its queue.

        Raises `InvalidTaskRetryOptionsError`.
        """
        given = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        with translated():
            return RetryOptions(**given) if given else None
