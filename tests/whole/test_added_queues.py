"""Queues that are added while dispatchers run, across real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_taskqueue import State, Task, UnknownQueueError
from tests.databases import TestDatabase
from tests.whole import loop_app
from tests.whole.chaos.stage import stage
from tests.whole.processes import process

FLASK = ("-m", "flask", "--app", "tests.whole.loop_app", "taskqueue", "queues")


def command(directory: Path, *arguments: str) -> None:
    """Run a command on queues in a process of its own."""
    with process([*FLASK, *arguments], {}, directory / "commands") as running:
        assert running.wait(60) == 0, (directory / "commands").read_text()


def flaky() -> Task:
    """A task of the added queue whose first attempt fails, after it has ended."""
    return loop_app.tasks.add("/flaky", queue="tours").wait(60)


def test_a_running_dispatcher_knows_a_queue_that_another_process_has_added(
    database: TestDatabase, tmp_path: Path
) -> None:
    """One process adds, changes and deletes the queue, another adds its tasks the moment after,
    and the dispatcher of a third, which began before, attempts them by the settings of now; so
    does its successor.
    """
    with stage(database, tmp_path, {}) as here:
        with here.dispatchers(1):
            assert loop_app.plain.add().wait(60).state is State.SUCCEEDED
            with pytest.raises(UnknownQueueError):
                loop_app.tasks.queue("tours")
            command(tmp_path, "add", "tours", "--retry", '{"task_retry_limit": 0}')
            first = flaky()
            assert (first.state, first.attempts) == (State.DEAD, 1)
            command(tmp_path, "change", "tours", "--retry", '{"task_retry_limit": 3}')
            second = flaky()
            assert (second.state, second.attempts) == (State.SUCCEEDED, 2)
            command(tmp_path, "change", "tours", "--retry", '{"task_retry_limit": 0}')
        with here.dispatchers(1):
            assert flaky().state is State.DEAD
            left = loop_app.tasks.add("/plain", queue="tours", countdown=3600)
            command(tmp_path, "delete", "tours", "--yes")
            assert loop_app.tasks.get(left.id).state is State.CANCELLED
            with pytest.raises(UnknownQueueError, match="it was deleted"):
                loop_app.tasks.add("/plain", queue="tours")
