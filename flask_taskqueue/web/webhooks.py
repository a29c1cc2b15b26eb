"""A webhook: a public route that takes in what a sender has signed, as tasks of a handler."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from inspect import unwrap
from typing import Any, Generic, ParamSpec, TypeVar

from flask import Flask, Request, Response, current_app, request

from ..core.arguments.functions import check_function, name_of
from ..core.errors import (
    BadTransactionStateError,
    ConfigurationError,
    InvalidHeaderError,
    TablesMissingError,
    TablesTooNewError,
    TaskAlreadyExistsError,
    TaskTooLargeError,
    TombstonedTaskError,
    TransientError,
)
from ..core.security.webhooks import Event, Refusal, Scheme, event_name, keys_of
from ..core.tasks.spec import TaskSpec
from ..process.logs import get_logger
from ..runtime import Runtime
from .worker import Route, Worker, worker_behind

P = ParamSpec("P")
R = TypeVar("R")

_logger = get_logger()

WEBHOOKS = "/_taskqueue/webhook/"
"""The beginning of the paths at which the handlers of webhooks answer their tasks."""
ID_HEADER = "X-Webhook-Id"
"""The header in which a handler finds the id of the event."""
_KEPT = frozenset({"content-type", "content-encoding"})
_PIECE = 65_536


class Webhook(Generic[P, R]):
    """A handler marked with ``@tasks.webhook``: still the same function, and a public route.

    The route's `view` verifies, stores a task and answers; ``worker`` runs the function for it.
    """

    def __init__(
        self,
        function: Callable[P, R],
        route: Route,
        scheme: Scheme,
        secret: object,
        make_worker: Callable[[Callable[P, R], Route], Worker[P, R]],
        store: Callable[[TaskSpec], object],
    ) -> None:
        check_function(function)
        functools.update_wrapper(self, function)
        self.function = function
        self.route = Route(rule=route.rule, endpoint=route.endpoint)
        self._scheme = scheme
        self._secret = secret
        self._place = f"webhook {route.endpoint!r}"
        self._keys = () if callable(secret) else keys_of(scheme, secret, self._place)
        self.worker = make_worker(function, behind(route))
        self._store = store

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def view(self) -> Response:
        """Answer a sender.

        202 says that the task of this event is committed, by this request or by an earlier one.
        400 says that the body is incomplete or a header cannot be stored, 401 what the signature
        lacks, 413 that the body is too large for a task, and 503 that the database is away, so that
        the sender repeats the webhook.
        """
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        runtime: Runtime = app.extensions["taskqueue"]
        most = runtime.settings.max_body
        try:
            body = _received(most)
        except Refusal as refusal:
            return _answer(400, str(refusal))
        if body is None:
            return _too_large(most)
        headers = {name.lower(): value for name, value in request.headers}
        try:
            event = self._scheme.verify(headers, body, self._current_keys(), time.time())
        except Refusal as refusal:
            _logger.warning("%s refused a request: %s", self._place, refusal)
            return _answer(401, str(refusal))
        if event.challenge is not None:
            return _answer(200, event.challenge)
        return self._take_in(event, body, most)

    def _take_in(self, event: Event, body: bytes, most: int) -> Response:
        """Store the task of an event, unless it is stored already, and answer."""
        kept = _KEPT | self._scheme.kept
        headers = {
            name: value
            for name, value in request.headers
            if name.lower() in kept or name.lower().startswith("ce-")
        }
        name = event_name(self.route.endpoint, event.id)
        try:
            self._store(
                TaskSpec(
                    self.worker, payload=body, headers={**headers, ID_HEADER: event.id}, name=name
                )
            )
        except (TaskAlreadyExistsError, TombstonedTaskError):
            _logger.info("%s got an event again, which is task %s already", self._place, name)
        except BadTransactionStateError as error:
            raise BadTransactionStateError(
                f"{self._place} stores its tasks in a transaction of their own, which would wait "
                "for changes of db.session that something of the app has made before in this "
                "request: let the hook commit them, or leave this path out"
            ) from error
        except TaskTooLargeError:
            return _too_large(most)
        except InvalidHeaderError as error:
            return _answer(400, str(error))
        except (TransientError, TablesMissingError, TablesTooNewError) as error:
            _logger.error("%s could not store an event: %s", self._place, error)
            return _answer(503, "the webhook could not be stored; send it again later")
        return Response(status=202)

    def _current_keys(self) -> Sequence[bytes]:
        if self._keys:
            return self._keys
        secret = self._secret
        return keys_of(self._scheme, secret() if callable(secret) else secret, self._place)


def behind(route: Route) -> Route:
    """Return the route of the worker behind a webhook, which has the options of its tasks.

    Raises `ConfigurationError` for options that would lose an event, or send it elsewhere.
    """
    for name in ("unique_key", "on_conflict", "target", "headers"):
        if name in route.options:
            raise ConfigurationError(
                f"webhook {route.endpoint!r} has {name}=, which a webhook cannot have: each event "
                "is one task of this app, known by its id, with the sender's headers"
            )
    return Route(
        rule=WEBHOOKS + route.endpoint,
        endpoint=f"webhook-{route.endpoint}",
        queue=route.queue,
        deadline=route.deadline,
        retry=route.retry,
        transactional=route.transactional,
        options=route.options,
    )


def check_webhook_rule(rule: Any, *, on_blueprint: bool) -> str:
    """Return a webhook's rule. Raise `ConfigurationError` if it is not a fixed path."""
    if callable(rule):
        raise ConfigurationError(
            f"@tasks.webhook needs the path that the sender calls and its secret: write "
            f'@tasks.webhook("/hooks/{name_of(rule)}", secret=...)'
        )
    if not isinstance(rule, str) or not (rule.startswith("/") or (on_blueprint and not rule)):
        raise ConfigurationError(
            f"the rule of a webhook is {rule!r}; it must be a path that begins with a slash, such "
            "as '/hooks/shop'"
        )
    if "<" in rule:
        raise ConfigurationError(
            f"the rule {rule!r} of a webhook has a variable, and a webhook has one path: give each "
            "sender a webhook of its own, with a secret of its own"
        )
    return rule


def declared_behind(view: object) -> Worker[..., Any] | Webhook[..., Any] | None:
    """Return the worker or the webhook whose view this is; None for any other view."""
    webhook = getattr(unwrap(view), "__self__", None)  # type: ignore[arg-type]
    return webhook if isinstance(webhook, Webhook) else worker_behind(view)


def _received(most: int) -> bytes | None:
    """Return the raw body, or None if it is longer than ``most`` bytes.

    No more is read than it takes to see that. Hooks may have read it by ``request.get_data()``,
    which keeps it. Raises `Refusal` if the sender broke off, and `ConfigurationError` if something
    of the app has read the body otherwise, because a signature is verified on the bytes that
    arrived.
    """
    current: Request = request._get_current_object()  # type: ignore[attr-defined]
    length = current.content_length
    was_touched = "stream" in vars(current)
    if length is not None and length > most:
        return None
    try:
        body = _read_up_to(current, most) if length is None else current.get_data()
    except OSError as error:
        raise Refusal(f"the body could not be read: {error}") from error
    is_whole = not was_touched or body != b"" if length is None else len(body or b"") == length
    if is_whole:
        return body
    if was_touched:
        raise ConfigurationError(
            f"something in the app has read the body of {current.path} before the webhook could, "
            "as request.form does, and a signature is verified on the bytes that arrived: let the "
            "hook leave this path out"
        )
    raise Refusal(f"the body ends after {len(body or b'')} of {length} bytes")


def _read_up_to(current: Request, most: int) -> bytes | None:
    """Return a body whose length is not known before; None if it is longer than ``most`` bytes."""
    kept: bytes | None = getattr(current, "_cached_data", None)
    if kept is not None:
        return None if len(kept) > most else kept
    body = bytearray()
    while len(body) <= most and (piece := current.stream.read(_PIECE)):
        body += piece
    return None if len(body) > most else bytes(body)


def _too_large(most: int) -> Response:
    return _answer(
        413,
        "the webhook is too large: its task has at most TASKQUEUE_MAX_BODY, which is "
        f"{most} bytes, for the method, the URL, the headers and the body together",
    )


def _answer(status: int, text: str) -> Response:
    return Response(
        f"{text}\n" if status != 200 else text,
        status,
        {"X-Content-Type-Options": "nosniff"},
        mimetype="text/plain",
    )
