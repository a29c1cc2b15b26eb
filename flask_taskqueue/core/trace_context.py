"""The trace context: headers by which a task belongs to the trace of what added it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .errors import InvalidHeaderError
from .headers import check_headers
from .payload import TaskRequest

TRACE = ("traceparent", "tracestate")
"""W3C Trace Context; harmless to tell anybody."""
BAGGAGE = ("baggage", "sentry-trace")
"""W3C Baggage and Sentry's own: for the application itself only, for anything may be in it."""


def with_trace(request: TaskRequest, context: Mapping[str, str], *, foreign: bool) -> TaskRequest:
    """A request with the headers of a trace context, except those that the user gave.

    One that goes to a ``foreign`` host has no baggage. A context that cannot be sent is left out:
    it never keeps a task from being added, and does not count towards its size.
    """
    given = {name.lower() for name in request.headers}
    if not context or not given.isdisjoint(TRACE):
        return request
    carried = {name: value for name, value in context.items() if name.lower() not in given and not (foreign and name.lower() in BAGGAGE)}
    try:
        return replace(request, headers=check_headers({**request.headers, **carried}))
    except InvalidHeaderError:
        return request


def in_place_of(headers: Mapping[str, str], context: Mapping[str, str]) -> dict[str, str]:
    """Headers with those of a trace context in the place of their namesakes."""
    names = {name.lower() for name in context}
    return {name: value for name, value in headers.items() if name.lower() not in names} | dict(context)
