"""What the database refuses of one task stops no other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flask_taskqueue import State
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.engine.test_dispatcher import start
from tests.refusals import refusing
from tests.waiting import wait_until

NONE = (3_000_000_000, 2**70, 1000, 99, 0, -1)
"""Numbers that are no status, some of which no database takes for one."""


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application on a database of each kind, whose dispatcher is stopped at the end."""
    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.1) as one:
        yield one
        one.runtime.stop()


@pytest.mark.parametrize("transactional", [False, True])
def test_a_status_that_is_none_is_refused_where_it_is_returned(
    queue: Bench, transactional: bool
) -> None:
    """The task is dead with a sentence that names the number, a transactional handler's changes
    are undone, and other tasks go on.
    """

    @queue.tasks.worker("/bad", transactional=transactional)
    def bad(number: int) -> tuple[str, int]:
        if transactional:
            queue.db.session.add(queue.Counter(id=number % 1000 + 1000, count=0))
        return "imported", number

    @queue.tasks.worker("/good")
    def good() -> None: ...

    start(queue)
    tasks = [bad.add(number) for number in NONE]
    goods = [good.add() for _ in NONE]
    for number, task in zip(NONE, tasks, strict=True):
        ended = task.wait(20)
        assert (ended.state, ended.attempts) == (State.DEAD, 1)
        assert f"the handler returned the status {number};" in str(ended.last_error)
    assert {good.wait(20).state for good in goods} == {State.SUCCEEDED}
    queue.db.session.rollback()
    written = sa.select(queue.Counter.id).where(queue.Counter.id >= 1000)
    assert list(queue.db.session.scalars(written)) == []


def test_a_result_that_the_database_refuses_ends_its_task_alone(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It is dead, the error says what the database said, and what ended beside it is recorded as
    it was.
    """
    together = threading.Barrier(4, timeout=20)

    @queue.tasks.worker("/w", keep_result=True)
    def handler(text: str) -> str:
        together.wait()
        return text

    # It stands for everything that a database may refuse: what handlers return is made fit before.
    with refusing(queue.store, "attempt", "length({}reply_body) = 9"):
        scheduler = start(queue)
        bad, *others = [handler.add(text) for text in ("refuse me", "a", "b", "c")]
        ended = bad.wait(20)
        assert (ended.state, ended.attempts, ended.last_reason) == (State.DEAD, 1, "permanent")
        assert "its result could not be recorded: " in str(ended.last_error)
        for text, other in zip("abc", others, strict=True):
            assert (other.wait(20).state, queue.tasks.get(other.id).result.text) == (
                State.SUCCEEDED,
                text,
            )
        wait_until(lambda: scheduler.dispatcher.in_flight == 0, what="nothing is held")
        assert scheduler.dispatcher.health.refusing_since is None
        assert caplog.text.count("is refused, and it has ended without it") == 1


def test_a_result_is_kept_while_the_database_refuses_every_result(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not to blame, so its task does not end for that: it is recorded as it was later, and
    meanwhile other tasks begin.
    """
    ran: list[int] = []

    @queue.tasks.worker("/w")
    def handler(number: int) -> None:
        ran.append(number)

    with refusing(queue.store, "attempt", "{}task_id IS NOT NULL"):
        start(queue)
        tasks = [handler.add(number) for number in range(3)]
        wait_until(lambda: "is tried again" in caplog.text, what="one is refused")
        wait_until(lambda: len(ran) == 3, what="the others run")
        states = {queue.tasks.get(task.id).state for task in tasks}
        assert states == {State.LEASED}
    assert [task.wait(30).state for task in tasks] == [State.SUCCEEDED] * 3
    assert [queue.tasks.get(task.id).attempts for task in tasks] == [1] * 3


def test_a_task_that_the_database_does_not_let_begin_stops_no_other(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """As one whose claim a constraint or a trigger forbids: it is looked at again later, which is
    logged, and others of its lane, before it or behind it, run.
    """

    @queue.tasks.worker("/w")
    def handler(number: int) -> None: ...

    task = queue.store.database.tables.task
    tasks = [handler.add(number) for number in range(5)]
    bad = tasks.pop(2)
    with refusing(queue.store, "task", f"{{}}id = '{bad.id}' AND {{}}state = 'leased'"):
        scheduler = start(queue)
        assert {task.wait(20).state for task in tasks} == {State.SUCCEEDED}
        assert handler.add(9).wait(20).attempts == 1
        with queue.store.reading() as connection:
            state = connection.scalar(sa.select(task.c.state).where(task.c.id == bad.id))
        assert state == State.SCHEDULED
    assert f"task {bad.id} or one behind it is refused: " in caplog.text
    assert scheduler.dispatcher.health.refusing_since is None
