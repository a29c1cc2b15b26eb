"""The settings of queues whose engine is Cloud Tasks, and what such a queue may ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from ..queues.rates import BUCKET_SIZE, FASTEST
from ..retry import RetryOptions
from . import checks
from .declared import key as _key
from .queue import CLOUDTASKS, QueueSettings
from .routes import RouteSettings

SHORTEST_DEADLINE = 15.0
LONGEST_DEADLINE = 1800.0
MOST_CONCURRENT = 5_000
"""The most tasks of a queue that Cloud Tasks runs at one time."""
CERTS = "https://www.googleapis.com/oauth2/v1/certs"
"""Where Google publishes the certificates of the keys that sign its OIDC tokens."""


_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)


def _email(key: str, value: Any) -> str:
    """Check an email address, such as a service account has."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        checks.refuse(
            key, value, "an email address, such as 'tasks@my-project.iam.gserviceaccount.com'"
        )
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings(RouteSettings):
    """The checked settings of the engine Cloud Tasks; without such a queue none is needed."""

    cloudtasks_parent: str | None = _key(
        None,
        checks.location,
        "Where the queues with the engine Cloud Tasks are: ``projects/P/locations/L``.",
    )
    cloudtasks_service_account: str | None = _key(
        None,
        _email,
        "The service account as which Cloud Tasks calls the app, by its email address.",
    )
    cloudtasks_client: Callable[[], Any] | None = _key(  # noqa: RUF009 - None, or a function
        None,
        checks.function,
        "Returns the ``CloudTasksClient`` that tasks are handed over with; by default one with "
        "Google's default credentials.",
    )
    cloudtasks_certs_url: str = _key(
        CERTS,
        checks.base_url,
        "Where the certificates are that prove Cloud Tasks' calls; only an emulator has others "
        "than Google.",
    )


def check_engines(
    settings: EngineSettings,
    queues: Iterable[QueueSettings],
    *,
    base_url: str | None,
    deadline: float,
    retry: RetryOptions,
) -> None:
    """Check the queues whose engine is Cloud Tasks.

    ``deadline`` (in seconds) and ``retry`` are those of queues that have none of their own.

    Raises `ConfigurationError` for a setting that is missing, and for what Cloud Tasks cannot do.
    """
    for queue in queues:
        if queue.engine != CLOUDTASKS:
            continue
        for name, value in (
            ("TASKQUEUE_CLOUDTASKS_PARENT", settings.cloudtasks_parent),
            ("TASKQUEUE_CLOUDTASKS_SERVICE_ACCOUNT", settings.cloudtasks_service_account),
            ("TASKQUEUE_BASE_URL", base_url),
        ):
            if value is None:
                raise ConfigurationError(
                    f"queue {queue.name!r} has the engine 'cloudtasks', which needs {name}: set it"
                )
        _check_queue(queue, deadline, retry)


def _check_queue(queue: QueueSettings, deadline: float, retry: RetryOptions) -> None:
    place = f"TASKQUEUE_QUEUES[{queue.name!r}]"
    for name, given, possible in (
        ("priority", queue.priority, queue.priority == 0),
        ("target", queue.target, queue.target is None),
        ("rate_per_key", queue.rate_per_key, queue.rate_per_key is None),
        ("bucket_size", queue.bucket_size, queue.bucket_size == BUCKET_SIZE),
        ("rate", queue.rate, queue.rate is None or 0 < queue.rate <= FASTEST),
        (
            "max_concurrent",
            queue.max_concurrent,
            queue.max_concurrent is None or queue.max_concurrent <= MOST_CONCURRENT,
        ),
    ):
        if not possible:
            raise ConfigurationError(
                f"{place} has {name} {given!r}, which the engine 'cloudtasks' cannot do: leave "
                "it out, or change it"
            )
    wanted = queue.deadline or deadline
    if not SHORTEST_DEADLINE <= wanted <= LONGEST_DEADLINE:
        raise ConfigurationError(
            f"{place} has a deadline of {wanted:g} s; the engine 'cloudtasks' allows "
            f"{SHORTEST_DEADLINE:g} to {LONGEST_DEADLINE:g}"
        )
    if (queue.retry or retry).jitter:
        raise ConfigurationError(
            f"{place} has a retry policy with jitter, which the engine 'cloudtasks' cannot do: "
            "give the queue one without jitter"
        )


def refuse_limits(queue: QueueSettings, given: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` if limits of a queue cannot be changed while the app runs.

    Those of its engine would not be changed there, and those of a pull queue would have no effect;
    only None, for no limit, is allowed there.
    """
    idle = sorted(name for name, value in given.items() if value is not None)
    if queue.is_pulled and idle:
        raise ConfigurationError(
            f"{queue.name!r} is a pull queue, whose tasks are not sent, so {', '.join(idle)} would "
            "have no effect"
        )
    if queue.engine is not None:
        raise ConfigurationError(
            f"the limits of queue {queue.name!r} are those of its engine, Cloud Tasks: set them in "
            "TASKQUEUE_QUEUES, and write them there with flask taskqueue cloudtasks sync"
        )
