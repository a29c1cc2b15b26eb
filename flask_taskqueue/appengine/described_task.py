"""What a task is made of, as App Engine's code describes and asks it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ..core.tasks.spec import SpecOptions
from . import limits
from .contents import Headers, fill, pairs, split_url
from .errors import (
    InvalidDispatchDeadlineError,
    InvalidTagError,
    InvalidTaskError,
    InvalidTaskNameError,
    InvalidTaskRetryOptionsError,
    TaskTooLargeError,
)
from .etas import eta_posix
from .task_retry_options import TaskRetryOptions

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,500}", re.ASCII)
_SHORTEST = limits.MIN_DISPATCH_DEADLINE // timedelta(microseconds=1)
_LONGEST = limits.MAX_DISPATCH_DEADLINE // timedelta(microseconds=1)
_ARGUMENTS = frozenset(
    "countdown eta headers method name params retry_options tag target url "
    "dispatch_deadline_usec _size_check".split()
)


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease of a task, with when it runs out, in microseconds since 1970."""

    id: str
    due_at: int


class DescribedTask:
    """A task that is to be added to a queue, or was found in one.

    ``payload`` or ``params`` are what it sends; ``url`` is a path of the app, by default that of
    its queue. ``countdown`` is in seconds; a naive ``eta`` is local time, as in App Engine.
    ``target`` is a name of ``TASKQUEUE_SERVICES``. ``dispatch_deadline_usec`` is in microseconds.
    With the method "PULL" it is for a pull queue, and may have a ``tag``.

    The arguments are checked in App Engine's order, and again when the task is added, by the rules
    of ``tasks.add`` for what can be sent. Raises `InvalidTaskError` and its subclasses,
    `InvalidTagError`, `InvalidDispatchDeadlineError`, `InvalidTaskRetryOptionsError`, and TypeError
    for an unknown argument.
    """

    def __init__(self, payload: Any = None, **kwargs: Any) -> None:
        unknown = sorted(kwargs.keys() - _ARGUMENTS)
        if unknown:
            raise TypeError(f"a task has no argument {', '.join(unknown)}")
        self._name: str | None = kwargs.get("name")
        if self._name and not _NAME.fullmatch(self._name):
            raise InvalidTaskNameError(
                f"task name {self._name!r} must be 1 to {limits.MAX_TASK_NAME_LENGTH} letters, "
                "digits, hyphens and underscores"
            )
        path, query = split_url(kwargs.get("url") or "")
        self._default_url = not path
        headers, params = Headers(kwargs.get("headers") or {}), kwargs.get("params") or {}
        method = kwargs.get("method", "POST").upper()
        self._tag: Any = kwargs.get("tag")
        if query and params:
            raise InvalidTaskError("the url has a query and there are params: put all into one")
        if method != "PULL" and self._tag is not None:
            raise InvalidTaskError("only a task of a pull queue (method='PULL') has a tag")
        if method == "PULL":
            _check_pulled(path, kwargs)
        contents = fill(method, path, query, headers, params, payload)
        self._method, self._url = contents.method, contents.url
        self._headers, self._payload = contents.headers, contents.payload
        self._target: Any = kwargs.get("target")
        _check_host(self._target, headers)
        self._eta_posix = eta_posix(kwargs.get("eta"), kwargs.get("countdown"))
        self._asked = next((key for key in ("eta", "countdown") if kwargs.get(key) is not None), "")
        self._retry_options = _retry_options(kwargs.get("retry_options"))
        if kwargs.get("_size_check", True):
            self._check_size()
        self._dispatch_deadline_usec = _dispatch_deadline(kwargs.get("dispatch_deadline_usec"))
        self._queue_name: str | None = None
        self._retry_count = 0
        self._enqueued = self._deleted = False
        self.make_body: Callable[[str], bytes] | None = None
        self.lease: Lease | None = None

    def __repr__(self) -> str:
        """Leave out what the task holds, because a repr ends up in logs."""
        return (
            f"Task<name={self._name!r}, queue_name={self._queue_name!r}, method={self._method!r}, "
            f"eta={self.eta!r}, was_enqueued={self._enqueued}, was_deleted={self._deleted}>"
        )

    @property
    def name(self) -> str | None:
        """Its name: the one it was given or, once it is added, that by which it is found."""
        return self._name

    @property
    def queue_name(self) -> str | None:
        """The name of its queue, once it is added."""
        return self._queue_name

    @property
    def was_enqueued(self) -> bool:
        """Whether it was added to a queue, or found in one."""
        return self._enqueued

    @property
    def was_deleted(self) -> bool:
        """Whether a call with this object has deleted it."""
        return self._deleted

    @property
    def eta(self) -> datetime:
        """The earliest time of its first attempt, aware, in UTC.

        For a task that was leased from a pull queue, when the lease runs out.
        """
        return datetime.fromtimestamp(self._eta_posix, UTC)

    @property
    def eta_posix(self) -> float:
        """The eta, in seconds since 1970."""
        return self._eta_posix

    @property
    def method(self) -> str:
        """Its method, or "PULL"."""
        return self._method

    @property
    def url(self) -> str:
        """Its path with the query of its params; without a path if it goes to its queue's URL."""
        return self._url

    @property
    def on_queue_url(self) -> bool:
        """Whether it goes to the URL of its queue."""
        return self._default_url

    @property
    def headers(self) -> Headers:
        """A copy of its headers, which can be looked up in upper or lower case."""
        return self._headers.copy()

    @property
    def payload(self) -> Any:
        """Its payload: bytes, or text if it was made of params, or None."""
        return self._payload

    @property
    def size(self) -> int:
        """Its size in bytes, counted as App Engine counts it."""
        headers = sum(len(name) + len(value) + 4 for name, value in pairs(self._headers))
        return len(self._method) + len(self._payload or "") + len(self._url) + headers

    @property
    def target(self) -> Any:
        """The service that it was given, or ``DEFAULT_APP_VERSION``."""
        return limits.DEFAULT_APP_VERSION if self._target is None else self._target

    @property
    def given_target(self) -> Any:
        """The target that it was given, or None."""
        return self._target

    @property
    def tag(self) -> Any:
        """The tag of a task of a pull queue."""
        return self._tag

    @property
    def retry_options(self) -> TaskRetryOptions | None:
        """Its own retry options."""
        return self._retry_options

    @property
    def retry_count(self) -> int:
        """How often it was leased, if it was leased from a pull queue."""
        return self._retry_count

    @property
    def dispatch_deadline_usec(self) -> int | None:
        """How long an attempt may take, in microseconds."""
        return self._dispatch_deadline_usec

    def extract_params(self) -> dict[Any, Any]:
        """Return its params: values in bytes, or a list of them for a repeated key.

        Raises ValueError if the payload (of a POST or of a pull queue's task) or the query is not
        in the form of params.
        """
        holds = self._method in ("POST", "PULL")
        text = self._payload if holds else urlsplit(self._url).query
        found: dict[Any, list[bytes]] = {}
        for key, value in parse_qsl(text or "", keep_blank_values=True, strict_parsing=True):
            found.setdefault(key, []).append(value if isinstance(value, bytes) else value.encode())
        return {key: values[0] if len(values) == 1 else values for key, values in found.items()}

    def due(self) -> SpecOptions:
        """Return when it is due, as an option of ``tasks.add``.

        A countdown goes on by the database's clock, from what is left of it.
        """
        left = self._eta_posix - time.time()
        if self._asked == "countdown" and left > 0:
            return {"countdown": left}
        return {"eta": self.eta} if self._asked else {}

    def set_body(self, body: bytes | Callable[[str], bytes], kind: str) -> None:
        """Give it a body, or a function that makes one for the id under which it is stored."""
        self._headers.setdefault("Content-Type", kind)
        if isinstance(body, bytes):
            self._payload = body
        else:
            self.make_body = body

    def mark_enqueued(self, queue_name: str, name: str) -> None:
        """Record that it is in a queue, and the name by which it is found there."""
        self._queue_name, self._name, self._enqueued = queue_name, name, True

    def mark_leased(self, queue_name: str, lease: Lease, leases: int) -> None:
        """Record that it was leased from a pull queue, and how often by now."""
        self._queue_name, self._retry_count, self._enqueued = queue_name, leases, True
        self.move_lease(lease)

    def move_lease(self, lease: Lease) -> None:
        """Record until when it is leased, which is its eta."""
        self.lease = lease
        self._eta_posix = lease.due_at / 1_000_000

    def mark_deleted(self, deleted: bool) -> None:
        """Record whether it was deleted."""
        self._deleted = deleted

    def _check_size(self) -> None:
        pull = self._method == "PULL"
        most = limits.MAX_PULL_TASK_SIZE_BYTES if pull else limits.MAX_PUSH_TASK_SIZE_BYTES
        if self.size > most:
            raise TaskTooLargeError(f"the task has {self.size} bytes; it may have {most}")
        if self._tag and len(self._tag) > limits.MAX_TAG_LENGTH:
            raise InvalidTagError(
                f"the tag has {len(self._tag)} characters; it may have {limits.MAX_TAG_LENGTH}"
            )


def _check_pulled(path: str, kwargs: Mapping[str, Any]) -> None:
    for name, given in (("url", path), *((key, kwargs.get(key)) for key in ("headers", "target"))):
        if given:
            raise InvalidTaskError(f"a task of a pull queue is never sent, so it has no {name}")


def _check_host(target: object, headers: Headers) -> None:
    if "Host" in headers:
        raise InvalidTaskError(
            "a Host header does not lead to another service here: give its name as target"
            + (" only" if target is not None else "")
        )


def _dispatch_deadline(given: Any) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int):
        raise TypeError(f"dispatch_deadline_usec is {given!r}; it must be whole microseconds")
    if not _SHORTEST <= given <= _LONGEST:
        raise InvalidDispatchDeadlineError(
            f"dispatch_deadline_usec is {given}; it must be 15 seconds to 24 hours"
        )
    return given


def _retry_options(given: Any) -> TaskRetryOptions | None:
    if given is None or isinstance(given, TaskRetryOptions):
        return given
    raise InvalidTaskRetryOptionsError(
        f"retry_options is of type {type(given).__name__}; it must be "
        "taskqueue.TaskRetryOptions(task_retry_limit=...)"
    )
