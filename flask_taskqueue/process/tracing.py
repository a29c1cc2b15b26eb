"""Tracing: the spans of tasks that are sent and processed, and the trace context they carry.

A task carries the context of the current span, or of the request that is being answered. The
queue's own statements appear in traces only as part of something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

from flask import has_request_context, request

from ..core.delivery.delivery import Delivery
from ..core.delivery.outcome import judge_success
from ..core.delivery.verdict import OutgoingRequest, Reply
from ..core.errors import DeadlineExceeded, InvalidHeaderError
from ..core.tasks.request import TaskRequest, check_headers
from ..core.tasks.spec import NewTask
from ..core.version import __version__

TRACE = ("traceparent", "tracestate")
"""The headers of W3C Trace Context, which are harmless to tell anybody."""
BAGGAGE = ("baggage", "sentry-trace")
"""The headers of W3C Baggage and of Sentry.

They are for the application itself only, because anything may be in them.
"""


def with_trace(request: TaskRequest, context: Mapping[str, str], *, foreign: bool) -> TaskRequest:
    """Return a request with a trace context's headers, except those that the user gave.

    A request to a ``foreign`` host gets no baggage. A context that cannot be sent is left out: it
    never keeps a task from being added, and does not count towards its size.
    """
    given = {name.lower() for name in request.headers}
    if not context or not given.isdisjoint(TRACE):
        return request
    carried = {
        name: value
        for name, value in context.items()
        if name.lower() not in given and not (foreign and name.lower() in BAGGAGE)
    }
    try:
        return replace(request, headers=check_headers({**request.headers, **carried}))
    except InvalidHeaderError:
        return request


def in_place_of(headers: Mapping[str, str], context: Mapping[str, str]) -> dict[str, str]:
    """Return headers in which those of a trace context replace their namesakes."""
    names = {name.lower() for name in context}
    return {name: value for name, value in headers.items() if name.lower() not in names} | dict(
        context
    )


try:
    from opentelemetry import context as contexts
    from opentelemetry import propagate, trace
except ImportError:  # opentelemetry is an optional extra
    trace = None  # type: ignore[assignment]

Send = Callable[[OutgoingRequest], Reply]

_NOTHING: AbstractContextManager[None] = nullcontext()
_SUPPRESS = "suppress_instrumentation"
"""The key by which instrumentation is switched off. Newer packages ask for the API's own key."""


def is_traced() -> bool:
    """Return whether the app has set up tracing, so that somebody wants spans."""
    return trace is not None and not isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider
    )


def current_context() -> dict[str, str]:
    """Return the headers of the current span, or none without a span."""
    carrier: dict[str, str] = {}
    if trace is not None and trace.get_current_span().get_span_context().is_valid:
        propagate.inject(carrier)
    return carrier


@contextmanager
def sending(*, wanted: bool) -> Iterator[Callable[[NewTask], None]]:
    """Open a producer span around the storing of a task, if one is ``wanted``.

    Yields a function to call with the task, which describes it in the span.
    """
    if not (wanted and is_traced()):
        yield lambda _: None
        return
    with _tracer(trace.get_tracer_provider()).start_as_current_span(
        "send", kind=trace.SpanKind.PRODUCER
    ) as span:

        def describe(new: NewTask) -> None:
            span.update_name(f"send {new.queue}")
            span.set_attributes(_attributes("send", new.queue, new.id, len(new.request.body)))

        yield describe


def processing(delivery: Delivery, request: OutgoingRequest, send: Send) -> Reply:
    """Send within a consumer span, with its context in the headers.

    The first attempt belongs to the trace of what added the task. Later attempts begin traces of
    their own, linked to it, because a retry hours later must not stretch a trace that was sampled
    long ago.
    """
    record = delivery.record
    carried = propagate.extract({name.lower(): value for name, value in request.headers.items()})
    origin = trace.get_current_span(carried).get_span_context()
    first = record.attempts == 1
    attributes = _attributes("process", record.queue, record.id, len(request.body))
    with _tracer(trace.get_tracer_provider()).start_as_current_span(
        f"process {record.queue}",
        context=carried if first else contexts.Context(),
        kind=trace.SpanKind.CONSUMER,
        links=[trace.Link(origin)] if origin.is_valid and not first else [],
        attributes=attributes
        | ({} if first else {"http.request.resend_count": record.attempts - 1}),
    ) as span:
        try:
            headers = in_place_of(request.headers, current_context())
            reply = send(request._replace(headers=headers))
        except DeadlineExceeded:
            _fail(span, "timeout")
            raise
        if reply.status is not None:
            span.set_attribute("http.response.status_code", reply.status)
        if judge_success(reply, delivery.verdict) is None:
            _fail(span, str(reply.status or reply.kind))
        return reply


def _fail(span: Any, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(trace.StatusCode.ERROR)


def _attributes(operation: str, queue: str, task_id: str, size: int) -> dict[str, Any]:
    return {
        "messaging.system": "flask_taskqueue",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
        "messaging.message.id": task_id,
        "messaging.message.body.size": size,
    }


@lru_cache(maxsize=4)
def _tracer(provider: Any) -> Any:
    return provider.get_tracer("flask_taskqueue", __version__)


def of_caller() -> dict[str, str]:
    """Return the headers of the caller's trace context.

    Headers that came with the request are passed on where nobody makes spans of it.
    """
    context = current_context()
    if not context and has_request_context():
        headers = request.headers
        context = {name: headers[name] for name in (*TRACE, *BAGGAGE) if name in headers}
    return context


def untraced() -> AbstractContextManager[None]:
    """Return a context in which no statement begins a trace of its own.

    The instrumentation of a database makes a span of each statement. Without a current span each
    would be a trace, which is several a second for a dispatcher that has nothing to do. Statements
    that belong to a span, such as that of the request that adds a task, keep theirs.
    """
    if trace is None or trace.get_current_span().get_span_context().is_valid:
        return _NOTHING
    return _suppressed()


@contextmanager
def _suppressed() -> Iterator[None]:
    newer = getattr(contexts, "_SUPPRESS_INSTRUMENTATION_KEY", _SUPPRESS)
    token = contexts.attach(contexts.set_value(newer, True, contexts.set_value(_SUPPRESS, True)))
    try:
        yield
    finally:
        contexts.detach(token)
