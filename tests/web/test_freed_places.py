"""Places that become free by a transaction of the application, on each database."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from flask_taskqueue import State, Task
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.waiting import wait_until


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application whose transactions see nothing newer than themselves, where the database
    has such.
    """
    levels = (
        {}
        if database.name == "sqlite"
        else {"SQLALCHEMY_ENGINE_OPTIONS": {"isolation_level": "REPEATABLE READ"}}
    )
    with bench(database.url, **levels) as one:
        yield one
        one.runtime.stop()


def parked(queue: Bench, task: Task) -> bool:
    """Whether it waits for its key."""
    return queue.tasks.get(task.id).due_at is None


@pytest.mark.parametrize("by", ["delete", "replace", "debounce"])
def test_the_next_of_a_key_follows_the_commit(queue: Bench, by: str) -> None:
    """Though it began to wait after the transaction had begun, and without the janitor."""

    @queue.tasks.worker("/w")
    def handler(name: str) -> None: ...

    queue.runtime.start()

    first = handler.options(serial_key="a", countdown=3600, unique_key="u").add("first")
    assert queue.count() == 0
    second = handler.options(serial_key="a").add("second")
    wait_until(lambda: parked(queue, second), what="it waits")
    queue.db.session.add(queue.Counter(id=2, count=0))
    if by == "delete":
        assert first.delete()
    else:
        assert (
            handler.options(unique_key="u", on_conflict="replace").add("other").disposition
            == "replaced"
        )
    assert parked(queue, second)
    queue.db.session.commit()
    assert second.wait(20).state is State.SUCCEEDED
    assert queue.tasks.get(first.id).state is State.CANCELLED


@pytest.mark.slow
def test_a_rolled_back_change_frees_nothing(queue: Bench) -> None:
    """The place is the first one's still."""

    @queue.tasks.worker("/w")
    def handler(name: str) -> None: ...

    queue.runtime.start()

    first, second = (
        handler.options(serial_key="a", countdown=3600).add("first"),
        handler.options(serial_key="a").add("second"),
    )
    wait_until(lambda: parked(queue, second), what="it waits")
    queue.db.session.add(queue.Counter(id=2, count=0))
    assert first.delete()
    queue.db.session.rollback()
    queue.runtime.release_waiting()
    handler.add("other").wait(20)
    assert parked(queue, second)
    assert first.delete()
    queue.db.session.commit()
    assert second.wait(20).state is State.SUCCEEDED


def test_a_batch_counts_what_a_transaction_deletes(queue: Bench) -> None:
    """Once it is committed, so that its callback follows."""
    ran: list[str] = []

    @queue.tasks.worker("/w")
    def handler(name: str) -> None:
        ran.append(name)

    queue.runtime.start()

    batch = queue.tasks.batch(
        [handler.options(countdown=3600).spec("one")], on_finish=handler.spec("all")
    )
    (task,) = queue.tasks.find(batch=batch)
    queue.db.session.add(queue.Counter(id=2, count=0))
    assert task.delete()
    assert ran == []
    queue.db.session.commit()
    wait_until(lambda: ran == ["all"], what="the callback runs")
    assert queue.tasks.get_batch(batch.id).cancelled == 1


@pytest.mark.parametrize("conflict", ["skip", "raise", "debounce", "replace"])
def test_an_expired_task_keeps_its_key_from_nobody(queue: Bench, conflict: str) -> None:
    """Though its turn has not come, in a paused queue say: it is cancelled as expired, and
    counted so.
    """
    queue.tasks.worker("/w")(lambda: None)
    queue.tasks.queue("default").pause()
    old = queue.tasks.add("/w", unique_key="k", expires=0.01)
    time.sleep(0.02)
    new = queue.tasks.add("/w", unique_key="k", on_conflict=conflict)
    assert (new.id == old.id, new.disposition) == (False, "added")
    ended = queue.tasks.get(old.id)
    assert (ended.state, ended.last_reason) == (State.CANCELLED, "expired")
    queue.tasks.queue("default").resume()
    assert queue.run(new).state is State.SUCCEEDED
