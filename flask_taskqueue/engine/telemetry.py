"""Telemetry: spans of OpenTelemetry, where its API is installed and the application has set a provider.

Names and attributes are those of the semantic conventions for messaging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from .._version import __version__
from ..core.delivery import Delivery
from ..core.errors import DeadlineExceeded
from ..core.new_task import NewTask
from ..core.outcome import judge_success
from ..core.reply import OutgoingRequest, Reply
from ..core.trace_context import in_place_of

try:
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context
except ImportError:  # an extra
    trace = None  # type: ignore[assignment]

Send = Callable[[OutgoingRequest], Reply]


def is_traced() -> bool:
    """Whether anybody wants spans."""
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def current_context() -> dict[str, str]:
    """The headers of the current span; none without one."""
    carrier: dict[str, str] = {}
    if trace is not None and trace.get_current_span().get_span_context().is_valid:
        propagate.inject(carrier)
    return carrier


@contextmanager
def sending(*, wanted: bool) -> Iterator[Callable[[NewTask], None]]:
    """A producer span, if one is ``wanted``, around the storing of a task; the function that it gives is told which."""
    if not (wanted and is_traced()):
        yield lambda _: None
        return
    with _tracer(trace.get_tracer_provider()).start_as_current_span("send", kind=trace.SpanKind.PRODUCER) as span:

        def describe(new: NewTask) -> None:
            span.update_name(f"send {new.queue}")
            span.set_attributes(_attributes("send", new.queue, new.id, len(new.request.body)))

        yield describe


def processing(delivery: Delivery, request: OutgoingRequest, send: Send) -> Reply:
    """Send within a consumer span, with its context in the headers.

    The first attempt is in the trace of what added the task. Later ones begin traces of their
    own, linked to it: a retry hours later must not stretch a trace that was sampled long ago.
    """
    record = delivery.record
    carried = propagate.extract({name.lower(): value for name, value in request.headers.items()})
    origin = trace.get_current_span(carried).get_span_context()
    first = record.attempts == 1
    attributes = _attributes("process", record.queue, record.id, len(request.body))
    with _tracer(trace.get_tracer_provider()).start_as_current_span(
        f"process {record.queue}",
        context=carried if first else Context(),
        kind=trace.SpanKind.CONSUMER,
        links=[trace.Link(origin)] if origin.is_valid and not first else [],
        attributes=attributes | ({} if first else {"http.request.resend_count": record.attempts - 1}),
    ) as span:
        try:
            reply = send(replace(request, headers=in_place_of(request.headers, current_context())))
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
