"""Traces, in which the queue's own statements appear only as part of something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

try:
    from opentelemetry import context, trace
except ImportError:  # opentelemetry is an optional extra
    trace = None  # type: ignore[assignment]

_NOTHING: AbstractContextManager[None] = nullcontext()
_SUPPRESS = "suppress_instrumentation"
"""The key by which instrumentation is switched off. Newer packages ask for the API's own key."""


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
    newer = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", _SUPPRESS)
    token = context.attach(context.set_value(newer, True, context.set_value(_SUPPRESS, True)))
    try:
        yield
    finally:
        context.detach(token)
