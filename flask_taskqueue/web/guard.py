"""The guard of worker routes: only deliveries of this application pass."""

from __future__ import annotations

import time

from flask import Flask, Request
from werkzeug.wsgi import LimitedStream

from ..core import signatures
from ..core.delivery import ENVIRON_KEY, Delivery
from ..core.ping import PING, ping_record
from ..core.record import Record
from ..runtime import Runtime
from .proof import witness

_VERIFIED = "flask_taskqueue.verified"
_STALE = "flask_taskqueue.stale"


def verified(app: Flask, request: Request) -> Delivery | None:
    """The delivery that a request is, or None for anybody else's request.

    In process, the dispatcher's own object in the environ proves it. Over HTTP, a signature that
    is fresh, by a key bound to method, path, queue and attempt, for an attempt that is under way:
    a delivery replayed later is nobody's. The body is read only if the headers are well formed.
    """
    if witness(app) is None:  # nobody's delivery, or a request within one that took its environ along
        return None
    environ = request.environ
    delivery = environ.get(ENVIRON_KEY)
    if isinstance(delivery, Delivery):
        return delivery
    if _VERIFIED not in environ:
        environ[_VERIFIED] = _verify(app.extensions["taskqueue"], request)
    remembered = environ[_VERIFIED]
    return remembered if isinstance(remembered, Delivery) else None


def is_stale(request: Request) -> bool:
    """Whether a request that was refused is a genuine delivery of an attempt that is not under way."""
    return bool(request.environ.get(_STALE))


def _verify(runtime: Runtime, request: Request) -> Delivery | None:
    now = time.time()
    attempt = _attempt(request)
    headers = {name: request.headers.get(name, "") for name in signatures.HEADERS}
    task_id = signatures.presented(headers, now)
    if attempt is None or task_id is None or not _acceptable_size(runtime, request):
        return None
    _limit(runtime, request)
    path = f"{request.path}?{request.query_string.decode('latin-1')}"
    queue = request.headers.get("X-TaskQueue-QueueName", "")
    keys = signatures.bound(runtime.keys.route, request.method, path, queue, attempt)
    if not signatures.verify(keys, headers, request.get_data(cache=True), now):
        return None
    if queue == PING:
        return _remote(runtime, ping_record(request.method, request.path), ping=True)
    with runtime.store.reading() as reader:
        record = runtime.store.leases.is_current(reader, task_id, attempt)
    if record is None:
        request.environ[_STALE] = True
        return None
    return _remote(runtime, record)


def _remote(runtime: Runtime, record: Record, *, ping: bool = False) -> Delivery:
    started = time.monotonic()
    expires = started + (record.deadline or runtime.settings.deadline)
    return Delivery(record=record, started=started, expires=expires, remote=True, ping=ping)


def _attempt(request: Request) -> int | None:
    count = request.headers.get("X-TaskQueue-TaskRetryCount", "")
    return int(count) + 1 if count.isascii() and count.isdigit() and len(count) < 10 else None


def _limit(runtime: Runtime, request: Request) -> None:
    """Have a body of unknown length end where it is too long for a task: then its signature is wrong."""
    if request.content_length is None and "stream" not in request.__dict__:
        request.environ["wsgi.input"] = LimitedStream(request.environ["wsgi.input"], runtime.settings.max_body + 1)


def _acceptable_size(runtime: Runtime, request: Request) -> bool:
    return (request.content_length or 0) <= runtime.settings.max_body and not request.headers.get("Transfer-Encoding")
