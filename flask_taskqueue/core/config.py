"""Settings: every ``TASKQUEUE_`` key, declared once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from .durations import seconds
from .errors import ConfigurationError, InvalidQueueNameError, InvalidTaskRetryOptionsError
from .names import check_queue_name
from .retry import RetryOptions

PREFIX = "TASKQUEUE_"
DAY = 86_400.0
MAX_DEADLINE = DAY
DEFAULT_RETRY = RetryOptions(task_age_limit=30 * DAY)

Parser = Callable[[str, Any], Any]


def _refuse(key: str, value: object, wanted: str) -> NoReturn:
    raise ConfigurationError(f"{key} is {value!r}; it must be {wanted}")


def _text(key: str, value: Any) -> str:
    return value if isinstance(value, str) and value else _refuse(key, value, "a text")


def _truth(key: str, value: Any) -> bool:
    return value if isinstance(value, bool) else _refuse(key, value, "True or False")


def _one_of(*choices: str) -> Parser:
    wanted = " or ".join(map(repr, choices))
    return lambda key, value: value if value in choices else _refuse(key, value, wanted)


def _count(low: int, high: int) -> Parser:
    def parse(key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            _refuse(key, value, f"a whole number from {low} to {high}")
        return value

    return parse


def _duration(low: float, high: float) -> Parser:
    def parse(key: str, value: Any) -> float:
        number = seconds(value, what=key)
        if not low <= number <= high:
            _refuse(key, value, f"a duration from {low:g} to {high:g} seconds")
        return number

    return parse


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Collection) or not all(isinstance(one, str) for one in value):
        _refuse(key, value, "a list of host names, such as ['api.example.com']")
    return tuple(one.lower() for one in value)


def _secret(key: str, value: Any) -> bytes:
    secret = value.encode() if isinstance(value, str) else value
    if not isinstance(secret, bytes) or len(secret) < 16:
        raise ConfigurationError(f"{key} must be a text or bytes of at least 16 characters")
    return secret


def _base_url(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.startswith(("http://", "https://")) or "@" in value or "?" in value:
        _refuse(key, value, "a URL such as 'https://app.example.com', without user, query and fragment")
    return value.rstrip("/")


def _retry(key: str, value: Any) -> RetryOptions:
    try:
        return RetryOptions.of(value) or DEFAULT_RETRY
    except (InvalidTaskRetryOptionsError, TypeError) as error:
        raise ConfigurationError(f"{key}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What ``TASKQUEUE_QUEUES`` says of one queue; None means the general setting."""

    name: str
    retry: RetryOptions | None = None
    deadline: float | None = None
    target: str | None = None


_QUEUE_KEYS: dict[str, Parser] = {
    "retry": _retry,
    "deadline": _duration(0.001, MAX_DEADLINE),
    "target": _base_url,
}


def _queues(key: str, value: Any) -> Mapping[str, QueueSettings]:
    if not isinstance(value, Mapping):
        _refuse(key, value, "a mapping from queue names to settings, such as {'mail': {'deadline': 60}}")
    return {**_default_queues(), **{name: _queue(key, name, given) for name, given in value.items()}}


def _queue(key: str, name: Any, given: Any) -> QueueSettings:
    try:
        check_queue_name(name)
    except InvalidQueueNameError as error:
        raise ConfigurationError(f"{key}: {error}") from error
    place = f"{key}[{name!r}]"
    if not isinstance(given, Mapping):
        _refuse(place, given, "a mapping of settings, {} for none")
    for one in given:
        if one not in _QUEUE_KEYS:
            raise ConfigurationError(f"{place} has no setting {one!r}{_nearest(one, _QUEUE_KEYS)}")
    return QueueSettings(name=name, **{one: _QUEUE_KEYS[one](f"{place}[{one!r}]", given[one]) for one in given})


def _default_queues() -> Mapping[str, QueueSettings]:
    return {"default": QueueSettings(name="default")}


def _key(default: Any, parse: Parser, doc: str) -> Any:
    metadata = {"parse": parse, "doc": doc}
    return field(default_factory=default, metadata=metadata) if callable(default) else field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one application, checked. A key left out, or set to None, has its default."""

    database_uri: str | None = _key(None, _text, "A database of the queue's own, as an SQLAlchemy URL; not with ``db``.")
    bind_key: str | None = _key(None, _text, "The Flask-SQLAlchemy bind that holds the queue's tables.")
    table_prefix: str = _key("taskqueue_", _text, "What the tables' names begin with.")
    create_tables: bool | None = _key(
        None, _truth, "Whether missing tables are created at first use; by default in debug, in testing and in the queue's own file."
    )
    dispatcher: str = _key("auto", _one_of("auto", "on", "off"), "Whether serving processes run a dispatcher: auto, on or off.")
    transport: str = _key("wsgi", _one_of("wsgi", "http"), "How the app's own paths are called: wsgi (in process) or http.")
    base_url: str | None = _key(None, _base_url, "Where the app answers, for the http transport; may hold a path prefix.")
    poll_interval: float = _key(1.0, _duration(0.01, 3600), "Seconds between two looks at the table when nothing wakes the dispatcher.")
    concurrency: int = _key(8, _count(1, 1000), "How many tasks one process attempts at a time.")
    lease: float = _key(30.0, _duration(1, 3600), "Seconds a dispatcher that died keeps its tasks; renewed every third of it.")
    grace_period: float = _key(25.0, _duration(0, 3600), "Seconds that running tasks have to end when the process is stopped.")
    deadline: float = _key(30.0, _duration(0.001, MAX_DEADLINE), "Seconds one attempt may take in all, at most 24 hours.")
    connect_timeout: float = _key(5.0, _duration(0.001, 3600), "Seconds a connection of the http transport may take to be made.")
    queues: Mapping[str, QueueSettings] = _key(
        _default_queues, _queues, "The queues beside ``default``, each with its retry, deadline and target."
    )
    retry: RetryOptions = _key(  # noqa: RUF009 - a field with a frozen default
        DEFAULT_RETRY, _retry, "The retry law of queues and tasks that have none; gives up after 30 days."
    )
    max_body: int = _key(102_400, _count(0, 33_554_432), "The most bytes a task may have: method, URL, headers and body.")
    max_eta: float = _key(30 * DAY, _duration(0, 3650 * DAY), "How far away, in seconds, an eta may be.")
    reply_excerpt: int = _key(16_384, _count(0, 1_048_576), "The most bytes of a reply that are read and kept.")
    keep_succeeded: float = _key(DAY, _duration(0, math.inf), "Seconds that succeeded and cancelled tasks are kept.")
    keep_dead: float = _key(30 * DAY, _duration(0, math.inf), "Seconds that dead tasks are kept.")
    secret: bytes | None = _key(None, _secret, "What signatures are derived from; by default ``SECRET_KEY`` and its fallbacks.")
    allowed_hosts: tuple[str, ...] = _key(
        (), _names, "The hosts that absolute URLs and targets may name; ``*.example.com`` covers subdomains."
    )

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """The settings in a Flask configuration.

        Raises `ConfigurationError` for an unknown ``TASKQUEUE_`` key, with the nearest match, and
        for a value that cannot be used.
        """
        parsers = {PREFIX + one.name.upper(): one for one in fields(cls)}
        given = {key: value for key, value in config.items() if key.startswith(PREFIX)}
        for key in given:
            if key not in parsers:
                raise ConfigurationError(f"{key} is not a setting of Flask-TaskQueue{_nearest(key, parsers)}")
        return cls(**{parsers[key].name: parsers[key].metadata["parse"](key, value) for key, value in given.items() if value is not None})


def _nearest(word: object, known: Collection[str]) -> str:
    matches = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; there are {', '.join(sorted(known))}"
