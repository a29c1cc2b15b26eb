"""Sixteen processes on one SQLite file: eight add, eight dispatch."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

from . import log
from .scenario import Scenario
from .stage import Stage

SLOWEST_ADD = 5.0
"""Seconds that an add may take on a machine that does other work too."""


def play(stage: Stage, *, processes: int, seconds: float, share: float, limit: float) -> None:
    """No caller is told that the database is locked, and none starves: each has at least this
    share of what they have on average.
    """
    with (
        stage.dispatchers(processes),
        stage.module("enqueuers", str(processes), f"{seconds}s", "alone") as running,
    ):
        assert running.wait(seconds + limit) == 0, stage.said()
        lines = log.read(stage.log)
        stage.expected |= dict.fromkeys(line.task_id for line in lines if line.word == "ack")
        stage.wait_drained(limit)
    assert "locked" not in stage.said()
    waits = waited(lines)
    assert len(waits) == processes, "an enqueuer failed and was replaced"
    worst = max(max(some) for some in waits.values())
    added = smallest_share([len(some) for some in waits.values()])
    ran = Counter(line.pid for line in log.read(stage.log) if line.word == "end")
    dispatched = smallest_share([*ran.values(), *[0] * (processes - len(ran))])
    stage.notes |= {
        "worst add": f"{worst * 1000:.0f} ms",
        "slowest/mean adds": f"{added:.2f}",
        "attempts": f"{dispatched:.2f}",
    }
    assert worst < SLOWEST_ADD
    assert min(added, dispatched) >= share, stage.notes


def waited(lines: Sequence[log.Line]) -> dict[int, list[float]]:
    """How long each process waited for each of its adds."""
    instants: dict[int, list[float]] = defaultdict(list)
    for line in lines:
        if line.word in ("ask", "ack"):
            instants[line.pid].append(line.at)
    return {
        pid: [acked - asked for asked, acked in zip(some[::2], some[1::2], strict=True)]
        for pid, some in instants.items()
    }


def smallest_share(counts: Sequence[int]) -> float:
    """The least of them, over what they are on average."""
    return min(counts) / statistics.mean(counts)


MANY_PROCESSES = Scenario(
    name="sixteen processes",
    play=play,
    # In two seconds some have hardly begun.
    small={"processes": 8, "seconds": 2.0, "share": 0.0, "limit": 30},
    full={"processes": 8, "seconds": 60.0, "share": 0.25, "limit": 120},
    databases=("sqlite",),
)
