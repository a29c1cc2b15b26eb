"""The guard of worker routes, which lets only deliveries of this application pass."""

from __future__ import annotations

import io
import time

import sqlalchemy as sa
from flask import Flask, Request
from werkzeug.wsgi import LimitedStream

from ..core.delivery import signatures
from ..core.delivery.delivery import ENVIRON_KEY, Delivery
from ..core.diagnosis.ping import PING, ping_record
from ..core.settings.queue import QueueSettings
from ..core.states import Record
from ..core.times import lease_clock
from ..runtime import Runtime
from .claimed_request import claimed_delivery
from .incoming import INCOMING_KEY, IncomingRequest


def verified(app: Flask, request: Request) -> Delivery | None:
    """Return the delivery that a request is, or None if it comes from anyone else.

    In process, the dispatcher's own object in the environ is the proof. Over HTTP, the proof is a
    fresh signature, made with a key bound to method, path, queue and attempt, for an attempt that
    is under way, so a delivery that is replayed later is refused. The signature is checked against
    the bytes that arrived, whatever hooks and middleware have read of them.
    """
    delivery = request.environ.get(ENVIRON_KEY)
    if isinstance(delivery, Delivery):
        # A request made within a delivery may have taken its environ along.
        return None if claimed_delivery(app) is None else delivery
    incoming = _incoming(app, request)
    if incoming is None:
        return None
    if not incoming.examined:
        incoming.examined = True
        incoming.delivery = _verify(app.extensions["taskqueue"], request, incoming)
    return incoming.delivery


def is_stale(app: Flask, request: Request) -> bool:
    """Return whether a refused request is a genuine delivery that is out of date.

    That is one of an attempt that is not under way.
    """
    incoming = _incoming(app, request)
    return incoming is not None and incoming.stale


def why_refused(app: Flask, request: Request) -> str:
    """Return what a refused request lacks, in a sentence or two.

    The text is meant for the developers of the application.
    """
    incoming = _incoming(app, request)
    if isinstance(request.environ.get(ENVIRON_KEY), Delivery):
        return (
            "This request was made within a delivery and has taken its environ along; only the "
            "delivery itself counts."
        )
    if incoming is None or not any(incoming.headers.values()):
        return (
            "Only a dispatcher of this application may call a worker route, and this request "
            "has no signature of one. "
            f"Add a task instead: flask taskqueue add {request.path}"
        )
    if incoming.stale:
        return (
            f"This is a delivery of attempt {incoming.attempt}, which is not under way (any more)."
        )
    if (
        incoming.attempt is None
        or signatures.fresh_message_id(incoming.headers, time.time()) is None
    ):
        return (
            "The headers of the signature are malformed, or not all there, or "
            "webhook-timestamp is more than "
            f"{signatures.TOLERANCE} seconds from this machine's clock."
        )
    if incoming.body is None:
        return (
            "The body is longer than a task can have (TASKQUEUE_MAX_BODY), shorter than its "
            "Content-Length, or comes in chunks."
        )
    return (
        "The signature is not of this method, path, query, queue, attempt and body by this "
        "application's secret: SECRET_KEY, or "
        "TASKQUEUE_SECRET, must be the same where the dispatcher runs, and no proxy may "
        "change the path."
    )


def rewind(request: Request) -> None:
    """Rewind the request's body to its beginning, in case hooks have read some of it."""
    body = request.environ.get("wsgi.input")
    # Leave alone what something else has put there, and a body that is not a delivery's.
    if not isinstance(body, io.BytesIO):
        return
    body.seek(0)
    # A LimitedStream keeps its own position.
    stream = request.__dict__.get("stream")
    if stream is not None and isinstance(stream, LimitedStream):
        del request.__dict__["stream"]


def _incoming(app: Flask, request: Request) -> IncomingRequest | None:
    """Return the claim of the request itself, not that of one made within it."""
    claim = claimed_delivery(app)
    return (
        claim
        if isinstance(claim, IncomingRequest) and request.environ.get(INCOMING_KEY) is claim
        else None
    )


def _verify(runtime: Runtime, request: Request, incoming: IncomingRequest) -> Delivery | None:
    host = incoming.signed_for(request.environ, runtime.keys.route)
    if host is None or incoming.attempt is None:
        return None
    if incoming.queue == PING:
        return _remote(runtime, ping_record(request.method, request.path), ping=True)
    store, task_id, attempt = runtime.store, incoming.headers["webhook-id"], incoming.attempt

    def look(reader: sa.Connection) -> tuple[Record | None, QueueSettings | None]:
        found = store.leases.is_current(reader, task_id, attempt)
        return found, None if found is None else store.added_queues.now(reader, found.queue)

    record, queue = store.read(look)
    if record is not None and (record.target is None) != (host == ""):
        return None
    incoming.stale = record is None
    return None if record is None else _remote(runtime, record, queue)


def _remote(
    runtime: Runtime, record: Record, queue: QueueSettings | None = None, *, ping: bool = False
) -> Delivery:
    started = time.monotonic()
    expires = started + runtime.settings.deadline_of(queue, record.deadline)
    delivery = Delivery(record=record, started=started, expires=expires, remote=True, ping=ping)
    delivery.hold(lease_clock(), runtime.settings.lease)
    return delivery
