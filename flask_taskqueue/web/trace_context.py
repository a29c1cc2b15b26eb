"""The trace context in which a task is added: of the current span, or of the request that is being answered."""

from __future__ import annotations

from flask import has_request_context, request

from ..core.trace_context import BAGGAGE, TRACE
from ..engine.telemetry import current_context


def of_caller() -> dict[str, str]:
    """Its headers. Those that came with the request are passed on where nobody makes spans of it."""
    context = current_context()
    if not context and has_request_context():
        headers = request.headers
        context = {name: headers[name] for name in (*TRACE, *BAGGAGE) if name in headers}
    return context
