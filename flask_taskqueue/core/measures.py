"""Measures: what is counted for good, so that it only ever grows, and under which name."""

from __future__ import annotations

from bisect import bisect_left

from .outcome import Outcome

BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
"""The upper bounds of the histograms' buckets, in seconds; one without a bound follows."""

ATTEMPTS = {
    "success": ("success", "2xx"),
    "failure_2xx": ("failure", "2xx"),
    "failure_3xx": ("failure", "3xx"),
    "failure_4xx": ("failure", "4xx"),
    "failure_5xx": ("failure", "5xx"),
    "failure_none": ("failure", "none"),
    "timeout": ("timeout", "none"),
    "connection_error": ("connection_error", "none"),
    "crash": ("crash", "none"),
    "late": ("late", "none"),
}
"""Attempts, by outcome and by the class of the status. ``late`` are replies of a lost lease."""

FINISHED = {"ended_succeeded": "succeeded", "ended_dead": "dead", "ended_deleted": "deleted", "ended_expired": "expired"}
"""Tasks that ended, by how."""

DURATIONS = tuple(f"duration_{number}" for number in range(len(BOUNDS) + 1))
DELAYS = tuple(f"delay_{number}" for number in range(len(BOUNDS) + 1))

MEASURES = (*ATTEMPTS, *FINISHED, "requeued", *DURATIONS, "duration_micros", *DELAYS, "delay_micros")
"""All of them. ``requeued`` are dead tasks that were scheduled again; the rest are the buckets and sums of the histograms."""

_OTHERS = {"timeout": "timeout", "connection": "connection_error", "tls": "connection_error", "success": "success"}


def attempt_measure(outcome: Outcome, *, lost: bool) -> str:
    """Under which name an attempt is counted."""
    if lost:
        return "late"
    other = _OTHERS.get(outcome.reason)
    if other is not None:
        return other
    status = outcome.status or 0
    return f"failure_{status // 100}xx" if 200 <= status < 600 else "failure_none"


def bucket(seconds: float) -> int:
    """Into which bucket of a histogram a duration falls."""
    return bisect_left(BOUNDS, seconds)
