"""The transaction rule of add(), and handlers that commit with their task, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_taskqueue import BadTransactionStateError, State, TaskAlreadyExistsError, TaskQueue
from tests.apps import Bench, bench
from tests.databases import TestDatabase


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application whose handler adds to the counter."""
    with bench(database.url) as one:

        @one.tasks.worker("/add", transactional=True, retry={"min_backoff_seconds": 60})
        def add(n: int = 1, then: str = "") -> Any:
            counter = one.db.session.get(one.Counter, 1, with_for_update=True)
            counter.count += n
            if then == "raise":
                raise ValueError
            if then == "commit":
                one.db.session.commit()
            if then == "savepoint":
                with one.db.session.begin_nested():
                    counter.count += n
            return ("no", 503) if then == "503" else None

        yield one


def found(queue: Bench) -> int:
    """How many tasks are stored, seen from outside of the session."""
    return len(queue.tasks.find())


def test_without_changes_a_task_is_stored_at_once(queue: Bench) -> None:
    """A view that only adds a task need not commit; having read changes nothing."""
    queue.db.session.get(queue.Counter, 1)
    queue.tasks.add("/add")
    assert found(queue) == 1
    queue.db.session.rollback()
    assert found(queue) == 1


CHANGES = {
    "a new object": lambda queue: queue.db.session.add(queue.Counter(id=2, count=0)),
    "a changed object": lambda queue: setattr(queue.db.session.get(queue.Counter, 1), "count", 5),
    "a deleted object": lambda queue: queue.db.session.delete(queue.db.session.get(queue.Counter, 1)),
    "a flushed change": lambda queue: (queue.db.session.add(queue.Counter(id=2, count=0)), queue.db.session.flush()),
    "a statement": lambda queue: queue.db.session.execute(sa.update(queue.Counter).values(count=7)),
    "a textual statement": lambda queue: queue.db.session.execute(sa.text("UPDATE counter SET count = 7")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_with_changes_a_task_is_one_of_them(queue: Bench, change: Any) -> None:
    """Rolled back together, and committed together."""
    change(queue)
    task = queue.tasks.add("/add")
    queue.db.session.rollback()
    assert found(queue) == 0
    change(queue)
    task = queue.tasks.add("/add")
    queue.db.session.commit()
    assert [one.id for one in queue.tasks.find()] == [task.id]


def test_the_rule_can_be_forced_either_way(queue: Bench) -> None:
    """True joins a transaction without changes, False stores at once."""
    queue.tasks.add("/add", transactional=True)
    queue.db.session.rollback()
    assert found(queue) == 0
    queue.tasks.add("/add", transactional=True)
    queue.db.session.commit()
    assert found(queue) == 1


def test_a_name_that_is_taken_does_not_break_the_transaction(queue: Bench) -> None:
    """The caller may go on and commit."""
    queue.tasks.add("/add", name="n")
    queue.db.session.add(queue.Counter(id=2, count=0))
    with pytest.raises(TaskAlreadyExistsError):
        queue.tasks.add("/add", name="n")
    queue.db.session.commit()
    assert queue.db.session.get(queue.Counter, 2) is not None


def test_changes_and_completion_commit_together(queue: Bench) -> None:
    """A 2xx commits both."""
    task = queue.run(queue.tasks.add("/add", {"n": 5}))
    assert (task.state, task.last_status, queue.count()) == (State.SUCCEEDED, 204, 5)
    assert queue.attempts(task) == [(1, "success", 204)]


@pytest.mark.parametrize("then", ["raise", "503", "commit"])
def test_anything_else_rolls_both_back(queue: Bench, then: str) -> None:
    """An exception, another status, a commit of the handler's own, which explains itself."""
    task = queue.run(queue.tasks.add("/add", {"then": then}))
    assert (task.state, queue.count()) == (State.SCHEDULED, 0)
    if then == "commit":
        assert "must not commit" in str(task.last_error)


def test_savepoints_are_allowed(queue: Bench) -> None:
    """They are part of the transaction."""
    task = queue.run(queue.tasks.add("/add", {"then": "savepoint"}))
    assert (task.state, queue.count()) == (State.SUCCEEDED, 2)


def test_a_lost_lease_rolls_back(queue: Bench) -> None:
    """When the task was deleted meanwhile, the handler's changes are not kept."""
    ids: list[str] = []

    @queue.tasks.worker("/lost", transactional=True)
    def lost() -> None:
        queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1
        table = queue.app.extensions["taskqueue"].store.database.tables.task
        queue.db.session.execute(sa.update(table).where(table.c.id == ids[0]).values(lease_id="another"))

    ids.append(lost.add().id)
    queue.tasks.drain()
    assert queue.count() == 0


def test_tasks_added_in_a_handler_share_its_transaction(queue: Bench) -> None:
    """They exist exactly if the handler succeeded."""

    @queue.tasks.worker("/parent", transactional=True, retry={"task_retry_limit": 0})
    def parent(fail: bool) -> Any:
        queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1
        queue.tasks.add("/add", {"n": 10})
        return ("no", 500) if fail else None

    parent.add(fail=True)
    queue.tasks.drain()
    assert (found(queue), queue.count()) == (1, 0)
    parent.add(fail=False)
    queue.tasks.drain()
    assert (found(queue), queue.count()) == (3, 11)


def test_without_a_session_there_is_no_transaction_to_join(tmp_path: Path) -> None:
    """The queue's own database cannot share one with anybody."""
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="secret")
    tasks = TaskQueue(app)
    tasks.worker("/w")(lambda: None)
    with app.app_context(), pytest.raises(BadTransactionStateError, match="transactional=True needs"):
        tasks.add("/w", transactional=True)
    app.extensions["taskqueue"].store.database.close()
