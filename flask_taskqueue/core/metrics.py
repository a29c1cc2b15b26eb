"""The metrics: their names, kinds, descriptions and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """A family of values; a counter's name lacks the ``_total`` with which it is exposed."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    doc: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name as it is exposed."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


METRICS = (
    Metric("taskqueue_tasks", "gauge", "Tasks, by state.", ("queue", "state")),
    Metric(
        "taskqueue_count_capped",
        "gauge",
        "1 if so many tasks wait that only the first were told apart as retrying.",
        ("queue",),
    ),
    Metric(
        "taskqueue_oldest_due_seconds",
        "gauge",
        "How long the task that is due longest has waited, paused queues too.",
        ("queue",),
    ),
    Metric("taskqueue_enqueued", "counter", "Tasks that were stored.", ("queue",)),
    Metric(
        "taskqueue_attempts", "counter", "Attempts that ended.", ("queue", "outcome", "code_class")
    ),
    Metric("taskqueue_finished", "counter", "Tasks that ended.", ("queue", "result")),
    Metric(
        "taskqueue_attempt_duration_seconds", "histogram", "How long attempts took.", ("queue",)
    ),
    Metric(
        "taskqueue_dispatch_delay_seconds",
        "histogram",
        "From a task's eta to the start of its first attempt.",
        ("queue",),
    ),
    Metric(
        "taskqueue_queue_paused", "gauge", "1 if the queue is paused, or its rate is 0.", ("queue",)
    ),
    Metric(
        "taskqueue_queue_rate_limit",
        "gauge",
        "Tasks per second that may start, of queues with a rate.",
        ("queue",),
    ),
    Metric("taskqueue_dispatchers", "gauge", "Dispatchers that are alive."),
    Metric(
        "taskqueue_open_circuits",
        "gauge",
        "Receivers that keep failing, to which only probes are sent.",
    ),
    Metric(
        "taskqueue_dispatcher_heartbeat_age_seconds",
        "gauge",
        "How long ago a dispatcher was last seen.",
        ("instance",),
    ),
    Metric(
        "taskqueue_in_flight",
        "gauge",
        "Tasks that a dispatcher attempts now, as it said when it was last seen.",
        ("instance",),
    ),
    Metric(
        "taskqueue_concurrency_limit",
        "gauge",
        "Tasks that a dispatcher attempts at a time at most.",
        ("instance",),
    ),
    Metric(
        "taskqueue_cron_last_success_timestamp_seconds",
        "gauge",
        "When the last task of a schedule succeeded.",
        ("cron",),
    ),
    Metric(
        "taskqueue_info",
        "gauge",
        "1; which version this is, and of which the tables are.",
        ("version", "schema"),
    ),
)


BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
"""The upper bounds of the histograms' buckets, in seconds; one bucket without a bound follows."""

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
"""Attempts, by outcome and by the class of the status.

``late`` are replies that came after the lease was lost.
"""

FINISHED = {
    "ended_succeeded": "succeeded",
    "ended_dead": "dead",
    "ended_deleted": "deleted",
    "ended_expired": "expired",
}
"""Ended tasks, by the way they ended."""

DURATIONS = tuple(f"duration_{number}" for number in range(len(BOUNDS) + 1))
DELAYS = tuple(f"delay_{number}" for number in range(len(BOUNDS) + 1))

MEASURES = (
    *ATTEMPTS,
    *FINISHED,
    "requeued",
    *DURATIONS,
    "duration_micros",
    *DELAYS,
    "delay_micros",
)
"""The names of all measures.

``requeued`` are dead tasks that were scheduled again; the rest are the buckets and sums of the
histograms.
"""
