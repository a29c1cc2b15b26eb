"""Sixteen processes on one SQLite file: eight add, eight dispatch."""

from __future__ import annotations

from collections import defaultdict

from . import log
from .scenario import Scenario
from .stage import Stage


def play(stage: Stage, *, processes: int, each: int, limit: float) -> None:
    """No caller is told that the database is locked, and none starves."""
    with stage.dispatchers(processes), stage.module("enqueuers", str(processes), str(each), "alone") as running:
        assert running.wait(limit) == 0, stage.said()
        lines = [line for line in log.read(stage.log) if line.word in ("ask", "ack")]
        stage.expected |= dict.fromkeys(line.task_id for line in lines if line.word == "ack")
        stage.wait_drained(limit)
    assert "locked" not in stage.said()
    instants: dict[int, list[float]] = defaultdict(list)
    for line in lines:
        instants[line.pid].append(line.at)
    assert len(instants) == processes, "an enqueuer failed and was replaced"
    waits = [acked - asked for some in instants.values() for asked, acked in zip(some[::2], some[1::2], strict=True)]
    lasted = [some[-1] - some[0] for some in instants.values()]
    stage.notes["worst add"] = f"{max(waits) * 1000:.0f} ms"
    stage.notes["slowest process over mean"] = f"{max(lasted) * len(lasted) / sum(lasted):.2f}"
    assert max(lasted) < 4 * sum(lasted) / len(lasted)
    assert max(waits) < 5


MANY_PROCESSES = Scenario(
    name="sixteen processes",
    play=play,
    small={"processes": 8, "each": 50, "limit": 30},
    full={"processes": 8, "each": 2000, "limit": 120},
    databases=("sqlite",),
)
