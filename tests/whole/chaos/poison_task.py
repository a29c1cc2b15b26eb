"""A task ends every process that attempts it, among others that do not."""

from __future__ import annotations

from flask_taskqueue.core.states import State
from tests.whole import loop_app

from . import log
from .history import Fault
from .scenario import Scenario
from .stage import Stage


def play(stage: Stage, *, others: int, limit: float) -> None:
    """The poison is attempted three times, the third time alone; no neighbour more than twice
    beside it, and none of them ends for it.
    """
    stage.poison |= {*stage.add([loop_app.poison.spec()])}
    stage.add(loop_app.plain.spec() for _ in range(others))
    with stage.dispatchers(1):
        stage.wait_drained(limit)
    deaths = [line for line in log.read(stage.log) if line.task_id in stage.poison]
    stage.faults += [Fault("kill", line.at, line.at + 1, line.pid) for line in deaths]
    assert [line.attempt for line in deaths] == [1, 2, 3]
    crashed = [
        task
        for task in loop_app.tasks.find(limit=others + 1)
        if task.crashes and task.id not in stage.poison
    ]
    assert max((task.crashes for task in crashed), default=0) <= 2
    assert all(task.state is State.SUCCEEDED for task in crashed)
    stage.notes["neighbours that crashed"] = str(len(crashed))


POISON_TASK = Scenario(
    name="poison task",
    play=play,
    small={"others": 99, "limit": 30},
    full={"others": 999, "limit": 60},
)
