"""The retry policy: when a failed task is tried again, and when it is not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal

from .durations import seconds
from .errors import ConfigurationError, InvalidTaskRetryOptionsError, shown

_MIN_BACKOFF = 0.1
_MAX_BACKOFF = 3600.0
_LARGEST = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """How often and how long a failed task is tried again; the rules and names are App Engine's.

    ``task_retry_limit`` is how many times it is tried again (0: one attempt in all),
    ``task_age_limit`` the time since its first attempt within which it is tried again (seconds, or
    a text such as "2d"). With both limits, retries continue until both are exhausted, as App
    Engine's do; with ``limits="any"`` they stop at the first. With neither they continue for ever.

    The n-th retry waits ``min_backoff_seconds``, doubled ``max_doublings`` times, then growing by
    the last step, but never more than ``max_backoff_seconds``, counted from the end of the failed
    attempt. With ``jitter`` the wait is a random part of that ("full jitter").

    >>> retry = RetryOptions(min_backoff_seconds=10, max_backoff_seconds=300, max_doublings=3)
    >>> [retry.backoff(n).seconds for n in range(1, 8)]
    [10, 20, 40, 80, 160, 240, 300]

    Raises `InvalidTaskRetryOptionsError` for negative or contradicting values.
    """

    task_retry_limit: int | None = None
    task_age_limit: float | str | timedelta | None = None
    min_backoff_seconds: float = _MIN_BACKOFF
    max_backoff_seconds: float = _MAX_BACKOFF
    max_doublings: int = 16
    limits: Literal["both", "any"] = "both"
    jitter: bool = False

    def __post_init__(self) -> None:
        if self.task_age_limit is not None:
            self._set("task_age_limit", _duration("task_age_limit", self.task_age_limit))
        for name in ("min_backoff_seconds", "max_backoff_seconds"):
            self._set(name, _duration(name, getattr(self, name)))
        # As in queue.yaml: if only one is given, beyond the other's default, it moves that default
        # along.
        if self.min_backoff_seconds > self.max_backoff_seconds:
            if self.max_backoff_seconds == _MAX_BACKOFF:
                self._set("max_backoff_seconds", self.min_backoff_seconds)
            elif self.min_backoff_seconds == _MIN_BACKOFF:
                self._set("min_backoff_seconds", self.max_backoff_seconds)
        self._check()

    def backoff(self, retry: int) -> timedelta:
        """Return the wait before a retry, counted from 1, without jitter."""
        exponent = min(retry - 1, self.max_doublings)
        linear = max(1, retry - exponent)
        try:
            wait = self.min_backoff_seconds * math.ldexp(1.0, exponent) * linear
        except OverflowError:
            wait = math.inf
        return timedelta(seconds=min(self.max_backoff_seconds, wait))

    def delay(self, retry: int, random: Callable[[], float]) -> timedelta:
        """Return the wait before a retry; ``random`` returns numbers from 0 to 1."""
        return self.backoff(retry) * random() if self.jitter else self.backoff(retry)

    def allows(self, retry: int, age: timedelta) -> bool:
        """Return whether a retry may still be made.

        ``retry`` counts from 1; ``age`` is the time since the first attempt.
        """
        allowed = []
        if self.task_retry_limit is not None:
            allowed.append(self.task_retry_limit >= retry)
        if isinstance(self.task_age_limit, float):
            allowed.append(self.task_age_limit >= age.total_seconds())
        if not allowed:
            return True
        return any(allowed) if self.limits == "both" else all(allowed)

    def to_json(self) -> str:
        """Return the options that differ from the default, as JSON."""
        changed = {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if getattr(self, option.name) != option.default
        }
        return json.dumps(changed, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RetryOptions:
        """Return the options of `to_json`.

        Raises `InvalidTaskRetryOptionsError` for anything else.
        """
        try:
            found = json.loads(text)
        except (TypeError, ValueError) as error:
            raise InvalidTaskRetryOptionsError(f"retry options are not JSON: {error}") from error
        if not isinstance(found, dict):
            raise InvalidTaskRetryOptionsError("retry options are not a JSON object")
        return cls._of_mapping(found)

    @classmethod
    def of(cls, value: RetryOptions | Mapping[str, Any] | None) -> RetryOptions | None:
        """Return retry options, given as such or as a mapping of their names."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise InvalidTaskRetryOptionsError(
                f"retry is {shown(value)}; it must be RetryOptions or a mapping of their names"
            )
        return cls._of_mapping(value)

    @classmethod
    def _of_mapping(cls, given: Mapping[str, Any]) -> RetryOptions:
        names = [option.name for option in fields(cls)]
        for name in given:
            if name not in names:
                raise InvalidTaskRetryOptionsError(
                    f"there is no retry option {shown(name)}; there are {', '.join(names)}"
                )
        return cls(**given)

    def _set(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        for name in ("task_retry_limit", "max_doublings"):
            value = getattr(self, name)
            if name == "task_retry_limit" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
                raise InvalidTaskRetryOptionsError(
                    f"{name} is {shown(value)}; it must be a whole number, 0 or more, and at "
                    f"most {_LARGEST}"
                )
        if self.min_backoff_seconds > self.max_backoff_seconds:
            raise InvalidTaskRetryOptionsError(
                f"min_backoff_seconds is {self.min_backoff_seconds:g}, more than "
                f"max_backoff_seconds, {self.max_backoff_seconds:g}"
            )
        if self.limits not in ("both", "any") or not isinstance(self.jitter, bool):
            raise InvalidTaskRetryOptionsError(
                "limits must be 'both' or 'any', jitter True or False"
            )


def _duration(name: str, value: Any) -> float:
    try:
        number = seconds(value, what=name)
    except ConfigurationError as error:
        raise InvalidTaskRetryOptionsError(str(error)) from error
    if not 0 <= number < 1e9:
        raise InvalidTaskRetryOptionsError(
            f"{name} is {shown(value)}; it must be 0 or more, and less than 30 years"
        )
    return number
