"""What still runs keeps its key, seen from a dispatcher."""

from __future__ import annotations

import threading

import pytest

from flask_taskqueue.core.states import State
from tests.apps import bench
from tests.databases import TestDatabase
from tests.engine.test_dispatcher import start
from tests.waiting import wait_until


def test_the_next_of_a_key_waits_for_a_deleted_task_that_runs(database: TestDatabase) -> None:
    """And begins when that is over, while other keys go on."""
    with bench(database.url) as queue:
        release = threading.Event()
        events: list[str] = []

        @queue.tasks.worker("/w")
        def handler(name: str) -> None:
            events.append(f"{name} begins")
            if name == "first":
                release.wait(60)
            events.append(f"{name} ends")

        start(queue)
        keyed = handler.options(serial_key="a")
        first, second = keyed.add("first"), keyed.add("second")
        wait_until(lambda: events == ["first begins"], what="the first runs")
        assert first.delete()
        assert queue.tasks.get(first.id).state is State.CANCELLED
        handler.options(serial_key="b").add("other").wait(30)
        assert "its handler still runs" in queue.tasks.why(first).sentence
        assert events == ["first begins", "other begins", "other ends"]
        release.set()
        assert second.wait(30).state is State.SUCCEEDED
        assert events[3:] == ["first ends", "second begins", "second ends"]
        queue.runtime.stop()


@pytest.mark.slow
def test_a_thread_left_behind_keeps_its_key(sqlite_database: TestDatabase) -> None:
    """It did not stop at its deadline; the next of its key begins when it has."""
    with bench(sqlite_database.url, TASKQUEUE_LEASE=3) as queue:
        release = threading.Event()
        events: list[str] = []

        @queue.tasks.worker("/stuck", deadline=0.2, retry={"task_retry_limit": 0})
        def stuck() -> None:
            try:
                release.wait(60)
            finally:
                events.append("ends")

        @queue.tasks.worker("/w")
        def handler(name: str) -> None:
            events.append(name)

        scheduler = start(queue)
        first, second = (
            stuck.options(serial_key="a").add(),
            handler.options(serial_key="a").add("next"),
        )
        assert first.wait(30).state is State.DEAD
        assert scheduler.dispatcher.stuck == 1
        handler.options(serial_key="b").add("other").wait(30)
        scheduler.dispatcher.heartbeat.beat()
        assert queue.tasks.get(second.id).state is State.SCHEDULED
        assert events == ["other"]
        release.set()
        assert second.wait(30).state is State.SUCCEEDED
        assert events == ["other", "ends", "next"]
        queue.runtime.stop()
