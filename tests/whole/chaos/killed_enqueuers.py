"""Enqueuers are killed: a task is there if and only if the row is that it was stored with."""

from __future__ import annotations

import time

import sqlalchemy as sa

from tests.whole import loop_app

from . import log
from .scenario import Scenario
from .stage import Stage


def play(stage: Stage, *, tasks: int, every: float, limit: float) -> None:
    """Kill one every so often until about so many ``tasks`` are acknowledged, then let
    dispatchers run them all.
    """
    end = time.monotonic() + limit
    with stage.module("enqueuers", "4", str(tasks), "joined") as running:
        while len(acknowledged(stage)) < tasks:
            assert time.monotonic() < end, (
                f"{len(acknowledged(stage))} are stored after {limit:g} s:\n{stage.said()}"
            )
            time.sleep(every)
            stage.kill_one_of(running, worked=10)
    orders = list(loop_app.db.session.scalars(sa.select(loop_app.Order.task_id)))
    stage.expected |= dict.fromkeys(orders)
    forgotten = acknowledged(stage) - {*orders}
    assert not forgotten, f"acknowledged and not stored: {forgotten}"
    assert len(orders) == len({*orders})
    assert stage.faults, "nobody was killed"
    with stage.dispatchers(1):
        stage.wait_drained(limit)


def acknowledged(stage: Stage) -> set[str]:
    """The tasks whose commit has returned."""
    return {line.task_id for line in log.read(stage.log) if line.word == "ack"}


KILLED_ENQUEUERS = Scenario(
    name="killed enqueuers",
    play=play,
    small={"tasks": 300, "every": 0.15, "limit": 60},
    full={"tasks": 2000, "every": 0.2, "limit": 200},
)
