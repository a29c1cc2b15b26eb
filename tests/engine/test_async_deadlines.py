"""A deadline ends an async handler where it awaits, so that nothing of it goes on beside the
next attempt.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from flask_taskqueue import DeadlineExceeded, State, current_task
from flask_taskqueue.engine.dispatcher import Dispatcher
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.engine.test_dispatcher import start
from tests.waiting import wait_until

LONG = 300
RETRY = {"task_retry_limit": 1, "min_backoff_seconds": 0.1}


@pytest.fixture
def queue(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application whose dispatcher runs."""
    with bench(sqlite_database.url, TASKQUEUE_LEASE=3, TASKQUEUE_GRACE_PERIOD=5) as one:
        start(one)
        yield one
        one.runtime.stop()


def dispatcher_of(queue: Bench) -> Dispatcher:
    """The one that runs."""
    found = start(queue).dispatcher
    assert isinstance(found, Dispatcher)
    return found


async def sleep() -> None:
    """Wait once."""
    await asyncio.sleep(LONG)


async def naps() -> None:
    """Wait again and again."""
    for _ in range(10 * LONG):
        await asyncio.sleep(0.1)


async def group() -> None:
    """Wait for tasks of a group."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(naps())
        tasks.create_task(sleep())


async def beside() -> None:
    """Wait beside tasks that nobody waits for."""
    tasks = [asyncio.create_task(naps()), asyncio.create_task(sleep())]
    await asyncio.sleep(LONG)
    await asyncio.gather(*tasks)


async def shielding() -> None:
    """Wait for what is not cancelled together with who waits for it."""
    await asyncio.shield(naps())


async def computing() -> None:
    """Never wait."""
    limit = time.monotonic() + LONG
    while time.monotonic() < limit:
        pass


async def broad() -> None:
    """Go on after whatever is an `Exception`."""
    while True:
        try:
            await asyncio.sleep(LONG)
        except Exception:  # noqa: BLE001, S110 - what a broad except must not swallow
            pass


async def denying() -> str:
    """End well, although it was cancelled."""
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        pass
    return "done"


@pytest.mark.slow
@pytest.mark.parametrize("work", [sleep, naps, group, beside, shielding, computing, broad, denying])
@pytest.mark.parametrize("kind", ["worker", "transactional worker", "task function"])
def test_an_async_handler_has_ended_before_its_next_attempt(
    queue: Bench, work: Callable[[], Awaitable[object]], kind: str
) -> None:
    """It is a timeout, no thread is left behind, and of the tasks of its loop none is left."""
    events: list[tuple[str, int]] = []

    async def handler() -> None:
        attempt = current_task.attempt
        events.append(("begins", attempt))
        try:
            await work()
        finally:
            await asyncio.sleep(0.01)
            events.append(("ends", attempt))

    if kind == "task function":
        add = queue.tasks.task(deadline=0.3, retry=RETRY)(handler).enqueue
    else:
        add = queue.tasks.worker("/w", deadline=0.3, retry=RETRY, transactional=kind != "worker")(
            handler
        ).add
    ended = add().wait(60)
    assert (ended.state, ended.last_status) == (State.DEAD, None)
    assert "deadline of 0.3 s" in str(ended.last_error)
    assert events == [("begins", 1), ("ends", 1), ("begins", 2), ("ends", 2)]
    assert dispatcher_of(queue).stuck == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asyncio")]


@pytest.mark.slow
def test_a_deadline_that_strikes_before_the_loop_runs_ends_it(queue: Bench) -> None:
    """An async handler that a slow loop begins late does not get beyond its first await."""
    late, events = threading.Event(), []
    ensure_sync = queue.app.ensure_sync

    def slow(function: Callable[..., object]) -> Callable[..., object]:
        late.wait(60)
        return ensure_sync(function)

    queue.app.ensure_sync = slow  # type: ignore[method-assign]

    @queue.tasks.worker("/w", deadline=0.2, retry={"task_retry_limit": 0})
    async def handler() -> None:
        await asyncio.sleep(0)
        events.append("goes on")

    task = handler.add()
    dispatcher = dispatcher_of(queue)
    wait_until(
        lambda: any(one.interrupted for one in dispatcher._in_flight), what="the deadline strikes"
    )
    late.set()
    assert "deadline" in str(task.wait(60).last_error)
    assert not events


def test_a_loop_of_the_handlers_own_ends_too(queue: Bench) -> None:
    """In its own thread, where it waits in the system for what happens next."""
    cancelled: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            cancelled.append("inner")
            raise

    @queue.tasks.worker("/w", deadline=0.3, retry={"task_retry_limit": 0})
    def handler() -> None:
        try:
            asyncio.run(inner())
        except DeadlineExceeded:
            cancelled.append("handler")
            raise

    assert "deadline" in str(handler.add().wait(60).last_error)
    assert cancelled == ["inner", "handler"]
    assert dispatcher_of(queue).stuck == 0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["swallows", "thread", "blocks"])
def test_what_cannot_be_stopped_keeps_its_key(queue: Bench, way: str) -> None:
    """It swallows that it was cancelled, or waits for a thread: the next of its key begins when
    it has ended.
    """
    release, events = threading.Event(), []

    @queue.tasks.worker("/stuck", deadline=0.2, retry={"task_retry_limit": 0})
    async def stuck() -> None:
        try:
            if way == "thread":
                await asyncio.to_thread(release.wait, 60)
            elif way == "blocks":
                release.wait(60)
            else:
                while not release.is_set():
                    try:
                        await asyncio.sleep(0.01)
                    except asyncio.CancelledError:
                        pass
        finally:
            release.wait(60)
            events.append("ends")

    @queue.tasks.worker("/next")
    def following() -> None:
        events.append("next")

    @queue.tasks.worker("/other")
    def other() -> None:
        events.append("other")

    first, second = stuck.options(serial_key="a").add(), following.options(serial_key="a").add()
    assert first.wait(60).state is State.DEAD
    dispatcher = dispatcher_of(queue)
    assert dispatcher.stuck == 1
    assert other.add().wait(60).state is State.SUCCEEDED
    dispatcher.heartbeat.beat()
    assert queue.tasks.get(second.id).state is State.SCHEDULED
    release.set()
    assert second.wait(60).state is State.SUCCEEDED
    assert events == ["other", "ends", "next"]
    wait_until(lambda: dispatcher.stuck == 0, what="its thread ends")
