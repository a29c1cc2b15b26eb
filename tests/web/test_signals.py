"""Signals, and the log that subscribes to them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from blinker import NamedSignal

import flask_taskqueue
from flask_taskqueue.api.audit import Actor, AuditEntry, recorded
from flask_taskqueue.store import Action, Filter, ListKind
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench
from tests.waiting import wait_until

Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def heard(on_sqlite: Bench) -> Heard:
    """What signals this application sends, with their arguments."""
    found: Heard = []
    for name, signal in vars(flask_taskqueue).items():
        if isinstance(signal, NamedSignal):
            signal.connect(
                lambda _app, _name=name, **arguments: found.append((_name, arguments)),
                on_sqlite.app,
                weak=False,
            )
    return found


def names(heard: Heard) -> list[str]:
    """The signals, in their order."""
    told = [name for name, _ in heard]
    heard.clear()
    return told


def test_every_event_of_a_task_is_told(on_sqlite: Bench, heard: Heard) -> None:
    """Added, attempted, succeeded, dead, requeued, deleted."""
    on_sqlite.tasks.worker("/w", retry={"task_retry_limit": 0})(lambda status: ("", int(status)))
    with TaskQueueTester(on_sqlite.app) as taskqueue:
        on_sqlite.tasks.add("/w", {"status": 200})
        task = on_sqlite.tasks.queue("default").add("/w", {"status": 500})
        assert names(heard) == ["task_added"] * 2
        taskqueue.run_due()
        assert names(heard) == [
            "attempt_started",
            "attempt_finished",
            "task_succeeded",
            "attempt_started",
            "attempt_finished",
            "task_dead",
        ]
        task.requeue()
        assert [(name, arguments["task"].id) for name, arguments in heard] == [
            ("task_requeued", task.id)
        ]
        heard.clear()
        assert task.delete()
        assert not task.delete()
        assert [(name, arguments["task"].state) for name, arguments in heard] == [
            ("task_deleted", "cancelled")
        ]


def test_the_end_of_a_poison_task_is_told(
    on_sqlite: Bench, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """And logged as an error, once; by whatever finds that its third lease ran out."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    on_sqlite.tasks.add("/w")
    store = on_sqlite.store
    task = store.database.tables.task
    crashed = {
        "state": "leased",
        "lease_id": "gone",
        "held_by": "gone",
        "attempts": 3,
        "crashes": 2,
        "due_at": 1,
        "started_at": 1,
    }
    store.transact(lambda connection: connection.execute(sa.update(task).values(crashed)))
    assert on_sqlite.tasks.drain() == 1
    assert names(heard) == ["task_added", "attempt_finished", "task_dead"]
    assert [
        (record.levelno, record.__dict__["outcome"])
        for record in caplog.records
        if "poison" in record.getMessage()
    ] == [(logging.ERROR, "crash")]


def test_changes_of_many_are_told_once(on_sqlite: Bench, heard: Heard) -> None:
    """However many tasks they change, in whatever number of transactions; what changes nothing
    is not told.
    """
    on_sqlite.tasks.worker("/w", retry={"task_retry_limit": 0})(lambda: ("", 500))
    queue = on_sqlite.tasks.queue("default")
    on_sqlite.tasks.add_many({"url": "/w", "countdown": 60} for _ in range(1100))
    ids = [task.id for task in queue.find(limit=600)]
    assert [queue.delete(ids), queue.delete(ids), queue.run_now(), queue.requeue_dead()] == [
        600,
        0,
        500,
        0,
    ]
    assert [queue.purge(), queue.purge()] == [500, 0]
    changed = [("delete", 600), ("run now", 500), ("delete", 500)]
    assert heard == [
        ("tasks_changed", {"action": action, "changed": number}) for action, number in changed
    ]


@pytest.mark.slow
def test_changes_in_the_background_are_told_at_their_end(on_sqlite: Bench, heard: Heard) -> None:
    """By the dispatcher that ends them."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    on_sqlite.tasks.add_many({"url": "/w", "countdown": 60} for _ in range(3))
    store = on_sqlite.store
    store.transact(
        lambda one: store.bulk_changes.add(
            one, Action.DELETE, ListKind.SCHEDULED, Filter(), by=None, label="all", total=None
        )
    )
    runtime = on_sqlite.runtime
    runtime.start()
    wait_until(lambda: [one for one in heard if one[0] == "tasks_changed"], what="its end is told")
    runtime.stop()
    assert ("tasks_changed", {"action": "delete", "changed": 3}) in heard


def test_a_beginning_is_told_before_the_handler_runs(on_sqlite: Bench, heard: Heard) -> None:
    """With the row of the task, once per attempt."""
    ran: list[list[str]] = []
    on_sqlite.tasks.worker("/w")(lambda: ran.append([name for name, _ in heard]))
    task = on_sqlite.tasks.add("/w")
    assert on_sqlite.tasks.drain() == 1
    assert ran == [["task_added", "attempt_started"]]
    assert [one["record"].id for name, one in heard if name == "attempt_started"] == [task.id]


def test_pauses_are_told_once(on_sqlite: Bench, heard: Heard) -> None:
    """By whom; not those that change nothing."""
    queue = on_sqlite.tasks.queue("default")
    for _ in range(2):
        queue.pause(by="ana")
    for _ in range(2):
        queue.resume()
    assert heard == [
        ("queue_paused", {"queue": "default", "by": "ana"}),
        ("queue_resumed", {"queue": "default"}),
    ]


def test_a_schedule_that_fires_is_told(on_sqlite: Bench, heard: Heard) -> None:
    """With how many tasks it added."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    on_sqlite.tasks.schedule("nightly", "/w", "every day 03:00")
    with TaskQueueTester(on_sqlite.app) as taskqueue:
        taskqueue.advance("1d")
    assert heard == [("schedule_fired", {"schedule": "nightly", "added": 1})]


def test_a_dispatcher_is_told_when_it_starts_and_stops(on_sqlite: Bench, heard: Heard) -> None:
    """Once, however often it is started and stopped."""
    runtime = on_sqlite.runtime
    for call in (runtime.start, runtime.start, runtime.stop, runtime.stop):
        call()
    assert names(heard) == ["dispatcher_started", "dispatcher_stopped"]


def test_the_log_has_one_line_for_an_attempt(
    on_sqlite: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """With all that is known of it as attributes, and nothing of the query."""
    caplog.set_level(logging.INFO, "flask_taskqueue")
    on_sqlite.tasks.worker("/w", methods=("GET",))(
        lambda: ("", 503) if flask_taskqueue.current_task.attempt == 1 else None
    )
    with TaskQueueTester(on_sqlite.app) as taskqueue:
        task = on_sqlite.tasks.add("/w", {"secret": "hidden"}, method="GET", name="named")
        taskqueue.advance(2)
        taskqueue.run(task)
        taskqueue.run(task)
    first, second = [record.__dict__ for record in caplog.records if "task_id" in record.__dict__]
    assert "hidden" not in caplog.text
    same = {"task_id": task.id, "task_name": "named", "queue": "default", "url": "/w"}
    assert {**first, **same} == first
    assert {
        **second,
        **same,
        "attempt": 2,
        "status": 204,
        "outcome": "success",
        "latency_ms": None,
        "next_eta": None,
    } == second
    assert (first["attempt"], first["status"], first["outcome"], first["levelno"]) == (
        1,
        503,
        "failure",
        logging.WARNING,
    )
    assert 2000 <= first["latency_ms"] < 60_000
    assert first["duration_ms"] >= 0
    assert datetime.fromisoformat(first["next_eta"]).tzinfo is not None


def test_a_receiver_that_raises_as_an_attempt_begins_fails_it(on_sqlite: Bench) -> None:
    """As if the handler had raised it, with its words; the handler is not called."""
    ran: list[int] = []
    task = on_sqlite.tasks.worker("/w")(lambda: ran.append(1)).add()

    def receiver(_app: Any, **_: Any) -> None:
        raise LookupError("no listener")

    with flask_taskqueue.attempt_started.connected_to(receiver, on_sqlite.app):
        after = on_sqlite.run(task)
    assert (after.state, after.last_error, ran) == ("scheduled", "LookupError: no listener", [])
    after.run_now()
    assert (on_sqlite.run(after).state, ran) == ("succeeded", [1])


def test_a_receiver_that_raises_as_attempts_end_loses_nothing(
    on_sqlite: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks stay done, the dispatcher goes on, and the log tells of it."""
    ran: list[int] = []
    handler = on_sqlite.tasks.worker("/w")(lambda number: ran.append(int(number)))
    raised: list[str] = []

    def receiver(_app: Any, record: Any, **_: Any) -> None:
        raised.append(record.id)
        raise LookupError("no listener")

    runtime = on_sqlite.runtime
    with flask_taskqueue.attempt_finished.connected_to(receiver, on_sqlite.app):
        runtime.start()
        for number in range(3):
            assert handler.add(number).wait(60).state == "succeeded"
        wait_until(lambda: len(raised) == 3, what="all are told")
        runtime.stop()
    assert ran == [0, 1, 2]
    assert any("no listener" in str(record.exc_info) for record in caplog.records)


def test_a_receiver_that_raises_keeps_nothing_from_others(on_sqlite: Bench) -> None:
    """Each end of a batch of attempts is told to every receiver, and logged."""
    told: list[str] = []

    def raising(_app: Any, **_: Any) -> None:
        raise LookupError("no listener")

    def listening(_app: Any, record: Any, **_: Any) -> None:
        told.append(record.id)

    @on_sqlite.tasks.worker("/w")
    def hopeless() -> None:
        raise flask_taskqueue.PermanentFailure("no")

    tasks = [hopeless.add() for _ in range(8)]
    dead = flask_taskqueue.task_dead
    with dead.connected_to(raising, on_sqlite.app), dead.connected_to(listening, on_sqlite.app):
        assert on_sqlite.tasks.drain() == 8
    assert sorted(told) == sorted(task.id for task in tasks)


def test_what_a_receiver_adds_is_no_part_of_an_audited_change(on_sqlite: Bench) -> None:
    """The entry counts what the change itself did."""
    runtime, handler = on_sqlite.runtime, on_sqlite.tasks.worker("/w")(lambda: None)
    added: list[str] = []

    def add_another(_app: Any, task: Any, **_: Any) -> None:
        added.append(task.id)
        if len(added) == 1:
            handler.add()

    entry = AuditEntry(runtime, Actor("ana", "127.0.0.1"), "add", "one task")
    with flask_taskqueue.task_added.connected_to(add_another, on_sqlite.app):
        with recorded(runtime, entry):
            handler.add()
    assert len(added) == 2
    audit = on_sqlite.store.database.tables.audit
    with on_sqlite.store.reading() as connection:
        assert connection.execute(sa.select(audit.c.changed)).all() == [(1,)]


def test_a_receiver_that_raises_as_a_schedule_fires_keeps_the_others_firing(
    on_sqlite: Bench,
) -> None:
    """Whatever their names."""
    fired: list[str] = []

    def raising(_app: Any, schedule: str, **_: Any) -> None:
        fired.append(schedule)
        raise LookupError("no listener")

    on_sqlite.tasks.worker("/w")(lambda: None)
    for name in ("a", "b"):
        on_sqlite.tasks.add_schedule(name, "/w", "every 1 minutes")
    cron = on_sqlite.runtime.cron
    with flask_taskqueue.schedule_fired.connected_to(raising, on_sqlite.app):
        cron.tick()
        cron.tick(datetime.now(UTC) + timedelta(hours=1))
    assert fired == ["a", "b"]
