"""Receivers that asked for less, or keep failing."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.diagnosis.facts import Finding
from ..core.errors import TablesMissingError, TransientError
from ..core.queues.circuits import Circuit
from ..core.queues.rates import rate_text
from ..core.queues.slowdowns import Slowdown
from ..core.times import to_datetime, utc
from ..runtime import Runtime


def check(runtime: Runtime) -> Iterator[Finding]:
    """Report each receiver that is slowed, and each whose circuit is open."""
    store = runtime.store
    try:
        with store.reading() as connection:
            slowdowns = store.slowdowns.active(connection)
            circuits = store.circuits.open(connection)
    except (TransientError, TablesMissingError):
        return  # the check of the database reports it
    yield from map(judge_circuit, circuits.values())
    yield from map(judge_slowdown, slowdowns.values())


def judge_circuit(circuit: Circuit) -> Finding:
    """Say since when a receiver fails, how, and when the next probe is sent."""
    since, probe = (
        utc(to_datetime(instant)) for instant in (circuit.failing_since, circuit.probe_at)
    )
    return Finding(
        "warning",
        f"{circuit.name} has failed {circuit.failures} times in a row since {since}, most recently "
        f"with: {circuit.said}. Its circuit is open: its tasks wait, and a probe may be sent from "
        f"{probe} on",
        "see whether it is there and what its log says; its tasks go on when a probe is answered, "
        f"or at once after: flask taskqueue close-circuit {circuit.target}",
        "queues#circuits",
    )


def judge_slowdown(slowdown: Slowdown) -> Finding:
    """Say since when a receiver is slowed, until when, and what it answered."""
    since, asked, over = (
        utc(to_datetime(instant))
        for instant in (slowdown.slowed_at, slowdown.asked_at, slowdown.over_at)
    )
    return Finding(
        "warning",
        f"{slowdown.name} asked for less ({slowdown.said}) and is slowed since {since}: from "
        f"{asked} it is sent {rate_text(slowdown.rate)}, "
        f"twice as much every half minute, and as fast as ever at {over}",
        "wait, it recovers by itself; if it keeps asking, send it less, or ask whoever runs it to "
        "allow more",
        "queues#slowing-down",
    )
