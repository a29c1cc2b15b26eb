"""Metrics in the format of Prometheus.

They are computed with SQL at each request, so every process gives the same values, and so does a
restarted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from ...core.dispatchers import DispatcherInfo
from ...core.metrics import ATTEMPTS, BOUNDS, DELAYS, DURATIONS, FINISHED, METRICS
from ...core.times import SECOND
from ...core.version import __version__
from ...runtime import Runtime
from ...store import QueueMetrics

_FAMILIES: Mapping[str, Any] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}

Sample = tuple[Sequence[str], float]


def exposition(runtime: Runtime, accept: str) -> tuple[bytes, str]:
    """Return the metrics as text in the format asked for, and its content type."""
    registry = CollectorRegistry()
    registry.register(Collector(runtime))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class Collector:
    """A Prometheus collector for the metrics of one application.

    You can also register it in a registry of your own.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def describe(self) -> list[Any]:
        """Return the families without values.

        A registry can thus learn which there are without reading the database.
        """
        return [
            _FAMILIES[metric.kind](metric.name, metric.doc, labels=metric.labels)
            for metric in METRICS
        ]

    def collect(self) -> Iterator[Any]:
        """Yield the families with their current values."""
        store = self._runtime.store
        self._runtime.see_queues()
        readings, cron, dispatchers, open_circuits, now, stamp = store.read(
            lambda connection: (
                store.metrics.all(connection),
                store.metrics.cron(connection),
                _latest(store.dispatchers.list(connection)),
                len(store.circuits.open(connection)),
                store.schedules.now(connection).timestamp(),
                store.database.schema.stamp(connection),
            )
        )
        values = _of_queues(readings) | _of_dispatchers(dispatchers, now)
        values["taskqueue_open_circuits"] = [((), open_circuits)]
        values["taskqueue_cron_last_success_timestamp_seconds"] = [
            ((name,), at) for name, at in cron.items()
        ]
        values["taskqueue_info"] = [((__version__, "" if stamp is None else str(stamp.version)), 1)]
        for metric in METRICS:
            family = _FAMILIES[metric.kind](metric.name, metric.doc, labels=metric.labels)
            if metric.kind == "histogram":
                _add_histograms(
                    family, readings, DURATIONS if "duration" in metric.name else DELAYS
                )
            else:
                for labels, value in values[metric.name]:
                    family.add_metric(labels, value)
            yield family


def _of_queues(readings: Sequence[QueueMetrics]) -> dict[str, Iterable[Sample]]:
    return {
        "taskqueue_tasks": [
            ((reading.queue, state), value)
            for reading in readings
            for state, value in _states(reading).items()
        ],
        "taskqueue_count_capped": [((reading.queue,), reading.capped) for reading in readings],
        "taskqueue_oldest_due_seconds": [
            ((reading.queue,), reading.oldest_due / SECOND) for reading in readings
        ],
        "taskqueue_enqueued": [((reading.queue,), reading.enqueued) for reading in readings],
        "taskqueue_attempts": [
            ((reading.queue, *labels), reading.measures[name])
            for reading in readings
            for name, labels in ATTEMPTS.items()
        ],
        "taskqueue_finished": [
            ((reading.queue, result), reading.measures[name])
            for reading in readings
            for name, result in FINISHED.items()
        ],
        "taskqueue_queue_paused": [((reading.queue,), reading.paused) for reading in readings],
        "taskqueue_queue_rate_limit": [
            ((reading.queue,), reading.rate) for reading in readings if reading.rate is not None
        ],
    }


def _states(reading: QueueMetrics) -> dict[str, int]:
    """Count the tasks by state; a paused queue's due tasks count as paused."""
    counts = reading.counts
    return {
        "scheduled": counts.scheduled,
        "retrying": counts.retrying,
        "due": 0 if reading.paused else counts.due,
        "paused": counts.due if reading.paused else 0,
        "waiting": counts.waiting,
        "running": counts.leased,
        "forwarded": counts.forwarded,
        "dead": counts.dead,
    }


def _of_dispatchers(known: Mapping[str, DispatcherInfo], now: float) -> dict[str, Iterable[Sample]]:
    alive = {instance: dispatcher for instance, dispatcher in known.items() if dispatcher.is_alive}
    return {
        "taskqueue_dispatchers": [((), len(alive))],
        "taskqueue_dispatcher_heartbeat_age_seconds": [
            ((instance,), max(0.0, now - dispatcher.seen_at.timestamp()))
            for instance, dispatcher in known.items()
        ],
        "taskqueue_in_flight": [
            ((instance,), dispatcher.in_flight) for instance, dispatcher in alive.items()
        ],
        "taskqueue_concurrency_limit": [
            ((instance,), dispatcher.concurrency) for instance, dispatcher in alive.items()
        ],
    }


def _latest(dispatchers: Iterable[DispatcherInfo]) -> dict[str, DispatcherInfo]:
    """Return the dispatchers by host and process number.

    If several had the same, the one seen last is kept.
    """
    return {
        f"{dispatcher.host}:{dispatcher.pid}": dispatcher
        for dispatcher in sorted(dispatchers, key=lambda dispatcher: dispatcher.seen_at)
    }


def _add_histograms(family: Any, readings: Sequence[QueueMetrics], names: Sequence[str]) -> None:
    bounds = [*map(str, BOUNDS), "+Inf"]
    total = f"{names[0].rpartition('_')[0]}_micros"
    for reading in readings:
        counts = accumulate(reading.measures[name] for name in names)
        family.add_metric(
            (reading.queue,),
            list(zip(bounds, counts, strict=True)),
            reading.measures[total] / SECOND,
        )
