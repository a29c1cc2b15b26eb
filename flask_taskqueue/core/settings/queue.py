"""The settings of one queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

from ..errors import ConfigurationError, InvalidQueueNameError, UnknownQueueError, shown
from ..names import check_queue_name
from ..queues.lanes import PRIORITIES
from ..queues.rates import BUCKET_SIZE
from ..retry import RetryOptions
from . import checks

DAY = 86_400.0
MAX_DEADLINE = DAY
CLOUDTASKS = "cloudtasks"
"""The engine of queues whose tasks Google's Cloud Tasks delivers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """The settings of one queue; None means the general setting, or no limit.

    ``rate`` is in tasks per second, ``bucket_size`` is how many can start at once after a pause,
    ``max_concurrent`` how many can run at one time, in all processes together. ``rate_per_key`` and
    ``bucket_size_per_key`` are the same for each ``rate_key`` by itself. ``deadline`` and
    ``tombstone_ttl`` (how long the name of a task that has ended stays taken) are in seconds. With
    the ``mode`` "pull" its tasks are not sent, but leased, as App Engine's pull queues are.
    ``engine`` is who delivers its tasks: "cloudtasks", or None for this extension's dispatchers.
    """

    name: str
    rate: float | None = None
    bucket_size: int = BUCKET_SIZE
    max_concurrent: int | None = None
    rate_per_key: float | None = None
    bucket_size_per_key: int = BUCKET_SIZE
    priority: int = 0
    tombstone_ttl: float | None = None
    retry: RetryOptions | None = None
    deadline: float | None = None
    target: str | None = None
    engine: str | None = None
    mode: str = "push"

    @property
    def is_pulled(self) -> bool:
        """Whether its tasks are leased by those who do them, so that dispatchers leave them."""
        return self.mode == "pull"

    @property
    def limits(self) -> Mapping[str, Any]:
        """The limits that may be changed while dispatchers run."""
        return {
            "rate": self.rate,
            "bucket_size": self.bucket_size,
            "max_concurrent": self.max_concurrent,
            "rate_per_key": self.rate_per_key,
            "bucket_size_per_key": self.bucket_size_per_key,
        }

    @property
    def configured(self) -> str:
        """The limits as a text, which shows whether the configuration has changed.

        Without a rate per key it reads as it did when queues had none, so that limits which were
        changed at run time outlast the upgrade.
        """
        left_out = ("rate_per_key", "bucket_size_per_key") if self.rate_per_key is None else ()
        told = {name: limit for name, limit in self.limits.items() if name not in left_out}
        if self.is_pulled:
            told["mode"] = self.mode
        if self.engine is not None:
            told["engine"] = self.engine
        return json.dumps(told, separators=(",", ":"))


def check_queue_options(place: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a queue, checked, those that are None left out.

    ``place`` says whose they are. Raises `ConfigurationError`.
    """
    return checks.mapping_of(_CHECKS, place, given)


def check_configured(name: str, queues: Mapping[str, QueueSettings], what: str) -> None:
    """Check that the queue of a declaration is configured. Raises `UnknownQueueError`.

    Code that declares something needs its queue wherever it runs, so an added one will not do.
    """
    if not isinstance(name, str) or name not in queues:
        raise UnknownQueueError(
            f"{what} is for queue {shown(name)}, which is not configured: add it to "
            f"TASKQUEUE_QUEUES, which has {', '.join(sorted(queues))}"
        )


class LimitOptions(TypedDict, total=False):
    """The limits of a queue that can be changed while dispatchers run; None means no limit.

    ``rate`` and ``rate_per_key`` are in tasks per second, or a text such as "20/m".
    """

    rate: float | str | None
    bucket_size: int
    max_concurrent: int | None
    rate_per_key: float | str | None
    bucket_size_per_key: int


class QueueOptions(LimitOptions, total=False):
    """The settings of a queue that is added while the app runs; None means as if left out.

    They are those of ``TASKQUEUE_QUEUES``. ``priority`` is that of its tasks, ``deadline`` how long
    an attempt may take, ``retry`` the retry policy, ``target`` another base URL for paths, and
    ``tombstone_ttl`` how long the name of a task that has ended stays taken.
    """

    priority: int | None
    deadline: float | str | timedelta | None
    retry: RetryOptions | Mapping[str, Any] | None
    target: str | None
    tombstone_ttl: float | str | timedelta | None


LIMITS: Mapping[str, checks.Check] = {
    "rate": checks.rate,
    "bucket_size": checks.count(1, 10_000),
    "max_concurrent": checks.count(1, 100_000),
    "rate_per_key": checks.rate,
    "bucket_size_per_key": checks.count(1, 10_000),
}
_CHECKS: Mapping[str, checks.Check] = {
    **LIMITS,
    "priority": checks.count(PRIORITIES[0], PRIORITIES[-1]),
    "tombstone_ttl": checks.duration(0, 3650 * DAY),
    "retry": checks.retry,
    "deadline": checks.duration(0.001, MAX_DEADLINE),
    "target": checks.base_url,
}
_CONFIGURED: Mapping[str, checks.Check] = {
    **_CHECKS,
    "mode": checks.one_of("push", "pull"),
    "engine": checks.one_of(CLOUDTASKS),
}
_PULLED = frozenset({"mode", "retry", "tombstone_ttl"})
"""The settings that a pull queue can have."""


def parse_queues(key: str, value: Any) -> Mapping[str, QueueSettings]:
    """Return the queues of a mapping from names to settings. Raises `ConfigurationError`."""
    if not isinstance(value, Mapping):
        checks.refuse(
            key, value, "a mapping from queue names to settings, such as {'mail': {'rate': '20/m'}}"
        )
    return {
        **default_queues(),
        **{name: parse_queue(key, name, given) for name, given in value.items()},
    }


def parse_queue(key: str, name: Any, given: Any) -> QueueSettings:
    """Return one queue. Raises `ConfigurationError` that names it and what is wrong."""
    try:
        check_queue_name(name)
    except InvalidQueueNameError as error:
        raise ConfigurationError(f"{key}: {error}") from error
    place = f"{key}[{name!r}]"
    queue = QueueSettings(name=name, **checks.mapping_of(_CONFIGURED, place, given))
    idle = sorted(given.keys() - _PULLED) if queue.is_pulled else []
    if idle:
        raise ConfigurationError(
            f"{place} is a pull queue, whose tasks are not sent, so {', '.join(idle)} would have "
            "no effect: leave it out"
        )
    return queue


def default_queues() -> Mapping[str, QueueSettings]:
    """Return the queue that always exists."""
    return {"default": QueueSettings(name="default")}
