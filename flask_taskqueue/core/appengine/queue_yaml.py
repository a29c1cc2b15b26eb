"""App Engine's queue.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..durations import seconds
from ..errors import InvalidQueueNameError, InvalidUrlError
from ..names import check_queue_name
from ..queues.rates import BUCKET_SIZE, parse_rate
from ..settings import checks
from ..settings.queue import LIMITS
from ..settings.services import service_url
from ..urls import is_absolute, redacted
from .yaml_reader import Entry, Reader, read_yaml

_STORAGE_LIMIT = re.compile(r"[0-9]+(?:\.[0-9]*)?[BKMGT]?", re.ASCII)
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_AGE = re.compile(r"[0-9]+(?:\.[0-9]*)?[smhd]", re.ASCII)
_BASE_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[^\s?#@\\]*)?", re.ASCII
)
_TOO_LONG = 1e9


def parse_queue_yaml(
    text: str, *, file: str, services: Mapping[str, str | None]
) -> dict[str, dict[str, Any]]:
    """Return the queues of a queue.yaml, by name, each in the form that ``TASKQUEUE_QUEUES`` takes.

    >>> text = "queue: [{name: mail, rate: 20/m, max_concurrent_requests: 2}]"
    >>> parse_queue_yaml(text, file="queue.yaml", services={})
    {'mail': {'bucket_size': 5, 'rate': '20/m', 'max_concurrent': 2}}

    The grammar is App Engine's. ``acl``, ``total_storage_limit`` and ``resume_paused_queues`` are
    checked and have no effect. A ``target`` is the name of one of the ``services``, or a base URL.
    A file without the queue ``default`` leaves that as it is: App Engine's would have 5/s.
    As there, ``retry_parameters`` without limits mean retries without end. Without a ``rate`` a
    queue has no limit, as with Cloud Tasks, which has 500/s. What only a push queue has is checked
    and has no effect in a pull queue.

    Raises `ConfigurationError` naming ``file``, the line and the key.
    """
    queue: Mapping[str, Reader] = {**_QUEUE, "target": target_reader(services)}
    readers = {**_FILE, "queue": lambda entry: _queues(entry, queue)}
    queues: dict[str, dict[str, Any]] = read_yaml(text, file=file, readers=readers).get("queue", {})
    return queues


def target_reader(services: Mapping[str, str | None]) -> Reader:
    """Return a reader of the base URL that tasks go to; it reads None for this app.

    It raises `ConfigurationError` for what is neither a service nor a base URL.
    """

    def read(entry: Entry) -> str | None:
        given = entry.text()
        if is_absolute(given):
            if not _BASE_URL.fullmatch(given):
                entry.refuse(
                    f"it is {redacted(given)!r}; it must be a base URL such as "
                    "'https://app.example.com', without user, query and fragment, or a name of "
                    "TASKQUEUE_SERVICES"
                )
            return checks.base_url(entry.what, given)
        try:
            return service_url(services, given)
        except InvalidUrlError as error:
            entry.refuse(str(error))

    return read


def retry_parameters(
    entry: Entry, *, kind: str = "task", most: int = 1_000_000_000
) -> dict[str, Any]:
    """Return the arguments of `RetryOptions`, read from a block of retry parameters.

    The names of its limits begin with ``kind``; ``most`` is the highest retry limit allowed.

    If only one backoff is given and it lies beyond the default of the other, `RetryOptions` moves
    that default along.
    """
    readers: Mapping[str, Reader] = {
        f"{kind}_retry_limit": lambda limit: checks.count(0, most)(limit.what, limit.whole()),
        f"{kind}_age_limit": _age,
        "min_backoff_seconds": _backoff,
        "max_backoff_seconds": _backoff,
        "max_doublings": lambda limit: checks.count(0, 1_000_000_000)(limit.what, limit.whole()),
    }
    entries = entry.entries(readers)
    values = {key: readers[key](found) for key, found in entries.items()}
    low, high = values.get("min_backoff_seconds"), values.get("max_backoff_seconds")
    if low is not None and high is not None and low > high:
        entries["min_backoff_seconds"].refuse(
            f"it is {low:g}, more than max_backoff_seconds, {high:g}"
        )
    return {key.replace(f"{kind}_", "task_"): value for key, value in values.items()}


def _queues(entry: Entry, readers: Mapping[str, Reader]) -> dict[str, dict[str, Any]]:
    names: dict[str, Entry] = {}
    queues = {}
    for item in entry.items():
        values = item.read(readers, needed={"name": "mail"})
        pulled = values.get("mode") == "pull"
        at, name = values["name"], values["name"].text()
        if name in names:
            at.refuse(f"there is a queue {name!r} already, in line {names[name].line}")
        names[name] = at
        queues[name] = {
            ours: values[theirs]
            for theirs, ours in (_TAKEN_PULLED if pulled else _TAKEN).items()
            if theirs in values
        }
        if not pulled:
            queues[name].setdefault("bucket_size", BUCKET_SIZE)
    return queues


def _name(entry: Entry) -> Entry:
    try:
        check_queue_name(entry.scalar())
    except InvalidQueueNameError as error:
        entry.refuse(str(error))
    return entry


def _rate(entry: Entry) -> str:
    return entry.text() if parse_rate(entry.text(), what=entry.what) else "0"


def _mode(entry: Entry) -> str:
    given = entry.scalar()
    return given if given in ("push", "pull") else entry.must_be("'push' or 'pull'")


def _acl(entry: Entry) -> list[Any]:
    return [
        item.read({"user_email": Entry.text, "writer_email": Entry.text}) for item in entry.items()
    ]


def _storage_limit(entry: Entry) -> str:
    return (
        entry.text()
        if _STORAGE_LIMIT.fullmatch(entry.text())
        else entry.must_be("bytes, or a number with K, M, G or T, such as '500M'")
    )


def _age(entry: Entry) -> float:
    age = seconds(entry.scalar(), what=entry.what) if _AGE.fullmatch(entry.scalar()) else 0.0
    return (
        age
        if 0 < age < _TOO_LONG
        else entry.must_be("a number and a unit, such as '90s', '10m', '2h' or '30d', more than 0")
    )


def _backoff(entry: Entry) -> float:
    number = float(entry.scalar()) if _NUMBER.fullmatch(entry.scalar()) else -1.0
    return number if 0 <= number < _TOO_LONG else entry.must_be("a number of seconds, 0 or more")


_QUEUE: Mapping[str, Reader] = {
    "name": _name,
    "rate": _rate,
    "mode": _mode,
    "bucket_size": lambda entry: LIMITS["bucket_size"](entry.what, entry.whole()),
    "max_concurrent_requests": lambda entry: LIMITS["max_concurrent"](entry.what, entry.whole()),
    "retry_parameters": retry_parameters,
    "acl": _acl,
}
_TAKEN = {
    "rate": "rate",
    "bucket_size": "bucket_size",
    "max_concurrent_requests": "max_concurrent",
    "target": "target",
    "retry_parameters": "retry",
}
_TAKEN_PULLED = {"mode": "mode", "retry_parameters": "retry"}
_FILE: Mapping[str, Reader] = {
    "total_storage_limit": _storage_limit,
    "resume_paused_queues": Entry.boolean,
}
