"""Metrics: what each is called, what it is, what it says and by which labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """A family of values. A counter's name is without the ``_total`` that is shown."""

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
    Metric("taskqueue_count_capped", "gauge", "1 if so many tasks wait that only the first were told apart as retrying.", ("queue",)),
    Metric("taskqueue_oldest_due_seconds", "gauge", "How long the task that is due longest has waited, paused queues too.", ("queue",)),
    Metric("taskqueue_enqueued", "counter", "Tasks that were stored.", ("queue",)),
    Metric("taskqueue_attempts", "counter", "Attempts that ended.", ("queue", "outcome", "code_class")),
    Metric("taskqueue_finished", "counter", "Tasks that ended.", ("queue", "result")),
    Metric("taskqueue_attempt_duration_seconds", "histogram", "How long attempts took.", ("queue",)),
    Metric("taskqueue_dispatch_delay_seconds", "histogram", "From a task's eta to the begin of its first attempt.", ("queue",)),
    Metric("taskqueue_queue_paused", "gauge", "1 if the queue is paused.", ("queue",)),
    Metric("taskqueue_queue_rate_limit", "gauge", "Tasks per second that may start, of queues with a rate.", ("queue",)),
    Metric("taskqueue_dispatchers", "gauge", "Dispatchers that are alive."),
    Metric("taskqueue_dispatcher_heartbeat_age_seconds", "gauge", "How long ago a dispatcher was last seen.", ("instance",)),
    Metric("taskqueue_in_flight", "gauge", "Tasks that a dispatcher attempts now, as it said when it was last seen.", ("instance",)),
    Metric("taskqueue_concurrency_limit", "gauge", "Tasks that a dispatcher attempts at a time at most.", ("instance",)),
    Metric("taskqueue_cron_last_success_timestamp_seconds", "gauge", "When the last task of a schedule succeeded.", ("cron",)),
    Metric("taskqueue_info", "gauge", "1; which version this is, and of which the tables are.", ("version", "schema")),
)
