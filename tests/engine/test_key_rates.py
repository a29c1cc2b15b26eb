"""Rates by key with real dispatchers, on each database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from flask_taskqueue import State
from flask_taskqueue.engine.registration import Registration
from flask_taskqueue.engine.scheduler import Scheduler
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.store.test_key_rates import check_rate
from tests.waiting import wait_until

RATE, BUCKET = 10.0, 2


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application with two dispatchers that poll so seldom that no poll helps them."""
    queues = {"api": {"rate_per_key": "10/s", "bucket_size_per_key": BUCKET}}
    settings = {"TASKQUEUE_POLL_INTERVAL": 30, "TASKQUEUE_QUEUES": queues}
    with bench(database.url, **settings) as one:
        one.tasks.worker("/call", queue="api")(lambda: None)
        yield one


@pytest.mark.slow
def test_two_dispatchers_keep_to_the_rate_of_each_key(queue: Bench) -> None:
    """And use it up, key by key: what waits is let go without a poll, and others do not wait."""
    runtime = queue.runtime
    ana = [queue.tasks.add("/call", rate_key="ana") for _ in range(25)]
    bo = [queue.tasks.add("/call", rate_key="bo") for _ in range(2)]
    free = [queue.tasks.add("/call") for _ in range(10)]
    runtime.start()
    dispatcher, attempts = runtime.dispatcher()
    other = Scheduler(
        dispatcher,
        runtime.cron,
        Registration(runtime.store, dispatcher, "wsgi"),
        poll_interval=30,
        lease=30,
        sweep=runtime.sweep,
        carry_on=lambda: False,
    )
    other.start()
    try:
        wait_until(
            lambda: all(queue.tasks.get(one.id).state.is_finished for one in [*ana, *bo, *free]),
            what="all have ended, well before the next poll",
            timeout=25,
        )
    finally:
        other.stop(5)
        attempts.close()
        runtime.stop(5)
    ended = [queue.tasks.get(one.id) for one in [*ana, *bo, *free]]
    assert Counter(task.state for task in ended) == {State.SUCCEEDED: 37}
    assert {task.attempts for task in ended} == {1}
    store = queue.store
    with store.reading() as connection:
        starts = [store.tasks.get(connection, one.id).started_at or 0 for one in ana]
    check_rate(starts, RATE, BUCKET)
