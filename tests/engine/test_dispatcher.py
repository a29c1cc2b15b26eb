"""The dispatcher in a process: deadlines, wake-ups, malformed rows, stopping."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import (
    ConfigurationError,
    DeadlineExceeded,
    State,
    __version__,
    attempt_finished,
    current_task,
)
from flask_taskqueue.core.delivery.delivery import Delivery
from flask_taskqueue.core.diagnosis.facts import Finding, Level
from flask_taskqueue.core.queues.pacing import Pacing
from flask_taskqueue.core.times import lease_clock
from flask_taskqueue.engine.in_flight import InFlight
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.misbehaving import RECORD
from tests.waiting import wait_until


@pytest.fixture
def queue(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application on a SQLite file, whose dispatcher is stopped at the end."""
    with bench(
        sqlite_database.url,
        TASKQUEUE_POLL_INTERVAL=30,
        TASKQUEUE_GRACE_PERIOD=5,
        TASKQUEUE_QUEUES={"other": {}},
    ) as one:
        yield one
        one.runtime.stop()


def start(queue: Bench) -> Any:
    """Start the dispatcher of this process."""
    return queue.runtime.start()


def test_an_add_wakes_the_dispatcher(queue: Bench) -> None:
    """With a poll of 30 seconds the task runs at once, added alone or in a transaction."""
    ran: list[str] = []

    @queue.tasks.worker("/w")
    def handler(key: str) -> None:
        ran.append(key)

    start(queue)
    handler.add("alone")
    wait_until(lambda: ran == ["alone"], what="the first task runs")
    queue.db.session.add(queue.Counter(id=2, count=0))
    handler.add("in a transaction")
    queue.db.session.commit()
    wait_until(lambda: len(ran) == 2, what="the second task runs")


def test_what_is_urgent_does_not_wait_for_what_is_taken_without_a_look(queue: Bench) -> None:
    """An idle dispatcher that is woken takes from the usual lane before it looks, but leaves a
    slot free.
    """
    running: list[str] = []
    release = threading.Event()

    @queue.tasks.worker("/w")
    def handler(key: str) -> None:
        running.append(key)
        if key != "first":
            release.wait(20)

    start(queue)
    handler.add("first").wait(10)
    tasks = [handler.spec("ordinary") for _ in range(20)] + [
        handler.options(priority=9).spec("urgent")
    ]
    try:
        queue.tasks.queue("default").add(tasks)
        wait_until(lambda: len(running) == 9, what="all slots are taken")
        assert "urgent" in running
    finally:
        release.set()
    wait_until(lambda: len(running) == 22, what="all have run")


def test_a_pause_holds_for_the_usual_lane(queue: Bench) -> None:
    """Whatever a dispatcher last took from a queue."""
    ran: list[str] = []

    @queue.tasks.worker("/w")
    def handler(key: str) -> None:
        ran.append(key)

    @queue.tasks.worker("/other", queue="other")
    def other() -> None:
        ran.append("other")

    start(queue)
    handler.add("first").wait(10)
    queue.tasks.queue("default").pause()
    task = handler.add("paused")
    other.add().wait(10)
    assert (ran, queue.tasks.get(task.id).state) == (["first", "other"], State.SCHEDULED)
    queue.tasks.queue("default").resume()
    task.wait(10)
    assert ran == ["first", "other", "paused"]


def test_a_handler_pauses_its_own_queue(queue: Bench) -> None:
    """What was leased behind it is given back before the pause returns, as if it had never been
    taken.
    """
    ran: list[str] = []
    began_behind: list[str] = []

    @queue.tasks.worker("/w")
    def handler(key: str) -> None:
        ran.append(key)
        if key == "30":
            queue.tasks.queue("default").pause()
            began_behind.extend(ran[ran.index("30") + 1 :])
            paused.set()

    paused = threading.Event()
    start(queue)
    tasks = queue.tasks.queue("default").add([handler.spec(str(number)) for number in range(60)])
    assert paused.wait(20)
    wait_until(lambda: not queue.tasks.find(state=State.LEASED), what="what runs has ended")
    assert [key for key in ran[ran.index("30") + 1 :] if key not in began_behind] == []
    queue.tasks.queue("default").resume()
    assert {task.wait(20).attempts for task in tasks} == {1}


def test_a_suspect_has_its_turn_though_others_keep_coming(queue: Bench) -> None:
    """A task whose process died is attempted beside nothing young; what is added meanwhile does
    not go before it for ever.
    """
    ran: list[str] = []

    @queue.tasks.worker("/w")
    def handler(key: str) -> None:
        ran.append(key)

    store = queue.store
    table = store.database.tables.task
    suspect = handler.options(countdown=3600).add("suspect")
    crashed = {
        "state": "leased",
        "attempts": 1,
        "lease_id": "x" * 26,
        "held_by": "dead",
        "started_at": 1,
        "first_tried_at": 1,
        "due_at": 1,
    }
    start(queue)
    handler.add("first").wait(60)
    store.transact(
        lambda connection: connection.execute(
            sa.update(table).where(table.c.id == suspect.id).values(crashed)
        )
    )
    for number in range(200):
        handler.add(f"{number}").wait(60)
        if "suspect" in ran:
            break
    assert suspect.wait(60).state is State.SUCCEEDED


def test_a_task_due_later_starts_when_it_is_due(queue: Bench) -> None:
    """By a timer for the next that is due, not by the poll."""
    started: list[float] = []

    @queue.tasks.worker("/w")
    def handler() -> None:
        started.append(time.time())

    start(queue)
    task = handler.options(countdown=0.5).add()
    wait_until(lambda: started, what="it runs")
    assert 0 <= started[0] - task.eta.timestamp() < 1


def test_retries_follow_without_a_poll(queue: Bench) -> None:
    """Each after its wait."""

    @queue.tasks.worker("/w", retry={"min_backoff_seconds": 0.05})
    def handler() -> Any:
        return None if current_task.attempt == 4 else ("no", 500)

    start(queue)
    assert handler.add().wait(10).attempts == 4


def test_many_tasks_run_at_a_time_and_no_more(queue: Bench) -> None:
    """As many as there are slots."""
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(8, timeout=10)

    @queue.tasks.worker("/w")
    def handler() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1

    start(queue)
    for task in [handler.add() for _ in range(24)]:
        assert task.wait(20).state is State.SUCCEEDED
    assert most == 8


def test_what_is_due_waits_for_no_poll_while_slots_are_free(
    queue: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few tasks one turn of the drain may take."""
    monkeypatch.setattr(Pacing, "capacity", 3)
    together = threading.Barrier(6, timeout=20)

    @queue.tasks.worker("/w")
    def handler() -> None:
        together.wait()

    queue.tasks.add_many(handler.spec() for _ in range(6))
    start(queue)
    for task in queue.tasks.find():
        assert task.wait(20).attempts == 1


@pytest.mark.parametrize("seconds", [0, 0.005], ids=["very short", "short"])
def test_what_was_leased_ahead_of_slow_handlers_is_given_back(queue: Bench, seconds: float) -> None:
    """After many (very) short ones; unharmed, so that other dispatchers can take it at once."""
    release = threading.Event()
    running: list[str] = []

    @queue.tasks.worker("/w")
    def handler(slow: bool = False) -> None:
        if slow:
            running.append(current_task.id)
            release.wait(600)
        else:
            time.sleep(seconds)

    short = [handler.spec() for _ in range(300)]
    slow = [handler.options(priority=-1).spec(slow=True) for _ in range(60)]
    queue.tasks.queue("default").add([*short, *slow])
    scheduler = start(queue)

    def given_back() -> bool:
        return (
            len(running) == 8
            and len(queue.tasks.find(state="leased")) == 8
            and scheduler.dispatcher.in_flight == 8
        )

    wait_until(given_back, what="only what runs is leased", timeout=300)
    waiting = queue.tasks.find(state="scheduled")
    assert {task.attempts for task in waiting} == {0}
    release.set()
    for task in queue.tasks.find(limit=1000):
        ended = task.wait(300)
        assert (ended.state, ended.attempts) == (State.SUCCEEDED, 1)


def test_what_follows_a_batch_of_short_ones_does_not_wait_behind_a_slow_handler(
    queue: Bench,
) -> None:
    """After many short ones, one that takes seconds delays none of those that were leased to
    follow it.
    """
    hold = threading.Event()
    ran: list[int] = []

    @queue.tasks.worker("/w")
    def handler(number: int) -> None:
        if number == 150:
            hold.wait(600)
        ran.append(number)

    queue.tasks.queue("default").add([handler.spec(number) for number in range(600)])
    start(queue)
    try:
        wait_until(lambda: len(ran) == 599, what="all but the slow one have run", timeout=300)
    finally:
        hold.set()
    wait_until(lambda: len(ran) == 600, what="the slow one has run")


def test_a_lease_counts_from_before_the_statement_that_took_it() -> None:
    """When the commit of a claim returns too late, somebody else may have the task: it is not
    begun before it has been renewed.
    """
    now = lease_clock()
    delivery = Delivery(record=RECORD, started=now, expires=now + 30)
    in_flight = InFlight()
    in_flight.begin([delivery], now - 25, 30)
    assert not delivery.may_begin(now)
    in_flight.renewed({delivery.lease}, now, 30)
    assert delivery.may_begin(now)


def test_the_deadline_interrupts_a_handler(queue: Bench) -> None:
    """It may clean up; the attempt is a timeout, and the thread is used again."""
    cleaned: list[str] = []

    @queue.tasks.worker("/w", deadline=0.3, retry={"task_retry_limit": 0})
    def handler() -> None:
        try:
            while True:
                time.sleep(0.01)
        except DeadlineExceeded:
            cleaned.append(current_task.id)
            raise

    @queue.tasks.worker("/broad", deadline=0.3, retry={"task_retry_limit": 0})
    def broad() -> None:
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001, S110 - what a broad except must not swallow
                pass

    scheduler = start(queue)
    for task in (handler.add(), broad.add()):
        ended = task.wait(10)
        assert (ended.state, ended.last_status) == (State.DEAD, None)
        assert "deadline of 0.3 s" in str(ended.last_error)
    assert len(cleaned) == 1
    assert scheduler.dispatcher.stuck == 0


@pytest.mark.slow
def test_a_thread_that_does_not_stop_is_left_behind(queue: Bench) -> None:
    """Its attempt ends as a timeout, its slot is free, what it brings later is not trusted."""
    release = threading.Event()
    finished: list[State] = []
    attempt_finished.connect(
        lambda _app, record, outcome, **_: finished.append(outcome.state), queue.app, weak=False
    )

    @queue.tasks.worker("/stuck", deadline=0.2, retry={"task_retry_limit": 0})
    def stuck() -> None:
        release.wait(30)

    @queue.tasks.worker("/w")
    def handler() -> None: ...

    scheduler = start(queue)
    ended = stuck.add().wait(15)
    assert ended.state is State.DEAD
    assert scheduler.dispatcher.stuck == 1
    for task in [handler.add() for _ in range(20)]:
        assert task.wait(10).state is State.SUCCEEDED
    release.set()
    wait_until(lambda: scheduler.dispatcher.stuck == 0, what="the thread ends")
    assert queue.tasks.get(ended.id).state is State.DEAD
    assert finished.count(State.DEAD) == 1


def test_deleting_a_running_task_tells_its_handler(sqlite_database: TestDatabase) -> None:
    """current_task.cancelled is true within a heartbeat, and the result is not recorded as
    success.
    """
    with bench(sqlite_database.url, TASKQUEUE_LEASE=1) as queue:
        seen = threading.Event()

        @queue.tasks.worker("/w")
        def handler() -> None:
            while not current_task.cancelled:
                time.sleep(0.01)
            seen.set()

        start(queue)
        task = handler.add()
        wait_until(lambda: queue.tasks.get(task.id).state is State.LEASED, what="it runs")
        assert task.delete()
        assert seen.wait(5)
        queue.runtime.stop()
        assert queue.tasks.get(task.id).state is State.CANCELLED
        assert queue.attempts(task) == [(1, "late", 204)]


@pytest.mark.slow
def test_a_lease_is_renewed_while_its_handler_runs(sqlite_database: TestDatabase) -> None:
    """A handler may run longer than the lease; nobody takes its task over."""
    with bench(sqlite_database.url, TASKQUEUE_LEASE=1) as queue:

        @queue.tasks.worker("/w")
        def handler() -> None:
            time.sleep(2.5)

        start(queue)
        ended = handler.add().wait(15)
        assert (ended.state, ended.attempts, ended.crashes) == (State.SUCCEEDED, 1, 0)
        queue.runtime.stop()


MALFORMED: dict[str, dict[str, Any]] = {
    "a method that is none": {"method": "EAT"},
    "a url that is no path": {"url": "worker"},
    "a url on a host": {"url": "http://evil.example/"},
    "a url with a line break": {"url": "/w\r\nX: y"},
    "headers that are no JSON": {"headers": "{"},
    "headers that are a list": {"headers": "[1]"},
    "a header with a line break": {"headers": '{"X-A": "a\\nb"}'},
    "a header that is not allowed": {"headers": '{"Host": "x"}'},
    "a header that is a number": {"headers": '{"X-A": 5}'},
    "retry options that are none": {"retry": '{"task_retry_limit": "x"}'},
    "a target that is not allowed": {"target": "http://evil.example"},
    "a target that is no URL": {"target": "::::"},
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_a_row_made_bad_by_hand_is_dead_and_the_rest_goes_on(
    queue: Bench, change: dict[str, Any]
) -> None:
    """With a reason, and nothing is sent."""
    ran: list[int] = []

    @queue.tasks.worker("/w")
    def handler() -> None:
        ran.append(1)

    bad = handler.add()
    table = queue.store.database.tables.task
    queue.store.transact(
        lambda connection: connection.execute(
            sa.update(table).where(table.c.id == bad.id).values(change)
        )
    )
    good = handler.add()
    queue.tasks.drain()
    assert queue.tasks.get(good.id).state is State.SUCCEEDED
    dead = queue.tasks.get(bad.id)
    assert (dead.state, ran) == (State.DEAD, [1])
    assert "malformed" in str(dead.last_error)


@pytest.mark.parametrize(
    "change", [{"queue": "nobodys"}, {"queue": "aaa"}, {"priority": 50}, {"priority": -10}]
)
def test_a_row_that_no_claim_would_find_is_ended_by_the_janitor(
    queue: Bench, change: dict[str, Any]
) -> None:
    """It does not wait for ever unseen."""
    queue.tasks.worker("/w")(lambda: None)
    bad, good = queue.tasks.add("/w"), queue.tasks.add("/w")
    runtime = queue.runtime
    table = runtime.store.database.tables.task
    runtime.store.transact(
        lambda connection: connection.execute(
            sa.update(table).where(table.c.id == bad.id).values(change)
        )
    )
    assert queue.tasks.drain() == 1
    runtime.sweep()
    assert (queue.tasks.get(bad.id).state, queue.tasks.get(good.id).state) == (
        State.DEAD,
        State.SUCCEEDED,
    )
    assert "malformed" in str(queue.tasks.get(bad.id).last_error)


def test_a_dispatcher_refuses_an_in_memory_database(queue: Bench) -> None:
    """And says what to do; draining works there."""
    with bench("sqlite://") as memory:
        ran: list[int] = []

        @memory.tasks.worker("/w", transactional=True)
        def handler() -> None:
            ran.append(1)

        with pytest.raises(ConfigurationError, match=r"tasks\.drain\(\)"):
            start(memory)
        handler.add()
        memory.db.session.add(memory.Counter(id=2, count=0))
        handler.add()
        memory.db.session.rollback()
        assert memory.tasks.drain() == 1
        assert ran == [1]


def test_a_dispatcher_is_seen_from_its_start_to_its_stop(queue: Bench) -> None:
    """By every process; whoever only drains is not."""
    assert queue.tasks.drain() == 0
    assert queue.tasks.dispatchers() == []
    scheduler = start(queue)
    (info,) = queue.tasks.dispatchers()
    assert (info.id, info.pid, info.host, info.is_alive) == (
        scheduler.dispatcher.id,
        os.getpid(),
        socket.gethostname(),
        True,
    )
    assert (info.version, info.transport, info.concurrency, info.in_flight, info.queues) == (
        __version__,
        "wsgi",
        8,
        0,
        None,
    )
    queue.runtime.stop()
    assert queue.tasks.dispatchers() == []


def test_a_dispatcher_leaves_tables_that_became_too_new(
    queue: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs: what is in flight ends, nothing more is taken, and it says so once."""
    monkeypatch.setattr("flask_taskqueue.engine.scheduler._BEAT_INTERVAL", 0.1)
    release = threading.Event()

    @queue.tasks.worker("/w")
    def handler() -> None:
        release.wait(10)

    scheduler = start(queue)
    running = handler.add()
    wait_until(lambda: queue.tasks.get(running.id).state is State.LEASED, what="it runs")
    store = queue.store
    newer = sa.update(store.database.tables.schema).values(version=9, oldest=9)
    store.transact(lambda connection: connection.execute(newer))
    wait_until(
        lambda: queue.tasks.dispatchers() == [], what="it is no longer among the dispatchers"
    )
    waiting = handler.add()
    release.set()
    assert running.wait(10).state is State.SUCCEEDED
    assert scheduler.dispatcher.drain() is None
    assert queue.tasks.get(waiting.id).state is State.SCHEDULED


@pytest.mark.parametrize(("level", "logged"), [("warning", "WARNING"), ("info", "INFO")])
def test_a_finding_about_the_database_is_told_once(
    queue: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    level: Level,
    logged: str,
) -> None:
    """In each process, however often a dispatcher starts there, with what to do."""
    caplog.set_level(logging.INFO, "flask_taskqueue")
    found = Finding(level, f"it is old ({level})", "renew it")
    monkeypatch.setattr(
        "flask_taskqueue.store.database.dialects.sqlite_findings.of_version", lambda _: found
    )
    for _ in range(2):
        start(queue)
        queue.runtime.stop()
    told = [
        (record.levelname, record.message)
        for record in caplog.records
        if "it is old" in record.message
    ]
    assert told == [(logged, f"it is old ({level}); renew it")]
    assert not [
        record
        for record in caplog.records
        if record.levelname == "WARNING" and record.message != str(found)
    ]


def test_stopping_twice_and_starting_again_is_harmless(queue: Bench) -> None:
    """Every start must be harmless N times."""

    @queue.tasks.worker("/w")
    def handler() -> None: ...

    assert start(queue) is start(queue)
    runtime = queue.runtime
    assert runtime.stop() == 0
    assert runtime.stop() == 0
    start(queue)
    assert handler.add().wait(10).state is State.SUCCEEDED


@pytest.mark.slow
def test_an_outage_of_the_database_is_survived(
    queue: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dispatcher backs off and goes on; the result that waited is recorded."""
    release = threading.Event()

    @queue.tasks.worker("/w")
    def handler() -> None:
        release.wait(10)

    start(queue)
    task = handler.add()
    wait_until(lambda: queue.tasks.get(task.id).state is State.LEASED, what="it runs")
    store = queue.store
    working = store.transact
    failures: list[int] = []

    def refuse(*_: Any, **__: Any) -> None:
        failures.append(1)
        raise sa.exc.OperationalError("", {}, Exception("down"))

    store.transact = refuse
    release.set()
    wait_until(lambda: len(failures) >= 3, what="it has tried three times")
    store.transact = working
    assert task.wait(15).attempts == 1
