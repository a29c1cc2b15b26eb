"""A process that adds and attempts ends after its n-th step, for each n."""

from __future__ import annotations

import sqlalchemy as sa

from tests.whole import loop_app

from . import log
from .history import Fault
from .scenario import Scenario
from .stage import Stage


def play(stage: Stage, *, first: int, stride: int, limit: float) -> None:
    """Every ``stride``-th point; whatever was acknowledged, or stored with its row, is done."""
    with stage.module("crash_points", str(first), str(stride)) as running:
        assert running.wait(limit) == 0, stage.said()
    lines = log.read(stage.log)
    stage.faults += [
        Fault("kill", line.at, line.at, line.pid) for line in lines if line.word == "crash"
    ]
    orders = set(loop_app.db.session.scalars(sa.select(loop_app.Order.task_id)))
    stored = {row.id: row for row in stage.history().rows}
    stage.transactional |= orders
    # What was added on its own and not acknowledged may be there or not.
    plain = {task.id for task in loop_app.tasks.find(limit=len(stored)) if task.url == "/plain"}
    stage.expected |= dict.fromkeys(
        [*(line.task_id for line in lines if line.word == "ack"), *orders, *plain]
    )
    assert len(stage.faults) > 5
    stage.notes["points"] = str(len(stage.faults))


CRASHED_STEPS = Scenario(
    name="crash points",
    play=play,
    small={"first": 2, "stride": 4, "limit": 60},
    full={"first": 1, "stride": 1, "limit": 120},
)
