"""How tasks are handed over, whatever happens meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import task_dead
from flask_taskqueue.engine.cloud_tasks import CloudTasksEngine
from flask_taskqueue.engine.forwarder import Forwarder, ForwarderThread
from flask_taskqueue.store import Filter, ListKind
from tests.apps import Bench, bench
from tests.cloud import PARENT, Cloud
from tests.databases import TestDatabase
from tests.forwarding.conftest import add_workers
from tests.forwarding.test_deliveries import add_and_forward, change
from tests.refusals import refusing
from tests.waiting import wait_until


@pytest.mark.slow
def test_a_forwarder_killed_between_create_and_record_makes_one_delivery(
    app: Bench, cloud: Cloud, database: TestDatabase
) -> None:
    """Another hands the task over again, under the same name, which Cloud Tasks has already."""
    task = app.tasks.add("/count")
    died = subprocess.run(
        [sys.executable, "-m", "tests.forwarding.dying", database.url, cloud.url],
        timeout=120,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert len(cloud.created) == 1
    found = app.tasks.get(task.id)
    assert (found.state, found.attempts) == ("forwarded", 0)

    app.tasks.drain()  # too early: the other one may live
    change(app, task.id, due_at=1)
    app.tasks.drain()
    assert len(cloud.created) == len(cloud.tasks) == 1
    assert app.tasks.why(task.id).code == "forwarded"
    assert cloud.deliver().status_code == 200
    assert app.count() == 1


@pytest.mark.slow
def test_a_delivery_that_comes_before_its_forwarder_has_recorded_runs(
    app: Bench, cloud: Cloud, database: TestDatabase
) -> None:
    """It proves that the task was handed over, even if its forwarder died."""
    task = app.tasks.add("/count")
    subprocess.run(
        [sys.executable, "-m", "tests.forwarding.dying", database.url, cloud.url],
        timeout=120,
        check=False,
    )
    assert cloud.deliver().status_code == 200
    assert app.tasks.get(task.id).state == "succeeded"
    app.tasks.drain()
    assert len(cloud.created) == 1


@pytest.mark.slow
def test_several_forwarders_hand_each_task_over_once(app: Bench, cloud: Cloud) -> None:
    """One conditional statement takes a task; the name would stop a second one."""
    app.tasks.add_many([("/count", {"by": number}) for number in range(150)])

    def forward(number: int) -> None:
        engine = CloudTasksEngine(app.runtime.settings)
        Forwarder(app.store, engine, ["mail"], f"forwarder-{number}").forward()

    threads = [threading.Thread(target=forward, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    app.tasks.drain()
    assert len(cloud.created) == len(set(cloud.created)) == 150
    assert app.tasks.queue("mail").statistics().forwarded == 150


@pytest.mark.slow
def test_an_error_that_nobody_foresaw_does_not_end_the_thread(
    app: Bench, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the tasks are handed over later."""
    task = app.tasks.add("/count")
    forwarder = Forwarder(app.store, CloudTasksEngine(app.runtime.settings), ["mail"], "one")
    forward, failed = forwarder.forward, threading.Event()

    def fail_once() -> int:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("nobody foresaw this")
        return forward()

    monkeypatch.setattr(forwarder, "forward", fail_once)
    thread = ForwarderThread(forwarder, 0.01)
    thread.start()
    try:
        wait_until(lambda: app.tasks.get(task.id).state == "forwarded", what="it is handed over")
    finally:
        thread.stop(10)
    assert "nobody foresaw this" in caplog.text


def test_what_the_database_refuses_of_one_task_holds_up_no_other(
    app: Bench, cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    """What became of the others is noted; that task is handed over again after a minute."""
    unfit = "{}name = 'bad' AND {}state = 'forwarded' AND {}held_by IS NULL"
    bad, *others = [app.tasks.add("/count", name=name) for name in ("bad", "a", "b")]
    forwarder = Forwarder(app.store, CloudTasksEngine(app.runtime.settings), ["mail"], "one")
    with refusing(app.store, "task", unfit):
        assert forwarder.forward() == 3
    table = app.store.database.tables.task
    with app.store.reading() as connection:
        held = dict(connection.execute(sa.select(table.c.id, table.c.held_by)).all())
    assert held == {bad.id: "one", others[0].id: None, others[1].id: None}
    assert f"what became of {bad.id} cannot be noted: " in caplog.text


@pytest.mark.slow
def test_while_cloud_tasks_refuses_tasks_wait_and_say_why(app: Bench, cloud: Cloud) -> None:
    """An outage ends nothing; the time asked for stays."""
    cloud.refuses = (403, "PERMISSION_DENIED")
    task = app.tasks.add("/count", countdown="1d")
    due_at = app.tasks.get(task.id).due_at
    app.tasks.drain()
    found = app.tasks.get(task.id)
    assert (found.state, found.due_at, found.attempts) == ("scheduled", due_at, 0)
    assert "PERMISSION_DENIED" in (found.last_error or "")
    cloud.refuses = None
    app.tasks.drain()
    assert app.tasks.get(task.id).state == "forwarded"
    assert app.tasks.get(task.id).last_error is None
    (sent,) = cloud.tasks.values()
    assert due_at is not None
    assert sent["scheduleTime"].startswith(due_at.strftime("%Y-%m-%dT%H:%M:%S"))


def test_an_error_that_googles_client_cannot_read_is_an_outage(app: Bench, cloud: Cloud) -> None:
    """The client raises an AttributeError for it; the task waits, as for any other outage."""
    cloud.proxy_fails = True
    task = app.tasks.add("/count")
    app.tasks.drain()
    found = app.tasks.get(task.id)
    assert (found.state, found.attempts) == ("scheduled", 0)
    assert "Cloud Tasks: " in (found.last_error or "")
    cloud.proxy_fails = False
    app.tasks.drain()
    assert app.tasks.get(task.id).state == "forwarded"


def test_a_missing_queue_is_an_outage_and_a_malformed_task_is_dead(
    app: Bench, cloud: Cloud
) -> None:
    """What somebody can mend waits; what Cloud Tasks will never take does not."""
    cloud.refuses = (404, "NOT_FOUND")
    waiting = app.tasks.add("/count")
    app.tasks.drain()
    assert app.tasks.get(waiting.id).state == "scheduled"
    cloud.refuses = (400, "FAILED_PRECONDITION")
    app.tasks.drain()
    assert app.tasks.get(waiting.id).state == "scheduled"
    cloud.refuses = (400, "INVALID_ARGUMENT")
    told: list[tuple[str, str]] = []

    def listen(_app: object, record: Any, outcome: Any, **_: object) -> None:
        told.append((record.id, outcome.error))

    with task_dead.connected_to(listen, app.app):
        app.tasks.drain()
    found = app.tasks.get(waiting.id)
    assert (found.state, found.last_reason) == ("dead", "permanent")
    assert "INVALID_ARGUMENT" in (found.last_error or "")
    assert told == [(waiting.id, found.last_error)]


def test_what_is_handed_over_names_the_time_the_deadline_and_who_calls(
    app: Bench, cloud: Cloud
) -> None:
    """And the waits of a retry policy of its own, without an end: that is decided here."""
    add_and_forward(
        app, countdown="2d", deadline="10m", retry={"min_backoff_seconds": 7, "task_retry_limit": 3}
    )
    (sent,) = cloud.tasks.values()
    assert sent["dispatchDeadline"] == "600s"
    assert sent["retryConfig"]["maxAttempts"] == -1
    assert sent["retryConfig"]["minBackoff"] == "7s"
    token = sent["httpRequest"]["oidcToken"]
    assert token["audience"] == app.runtime.settings.base_url
    assert token["serviceAccountEmail"] == app.runtime.settings.cloudtasks_service_account


@pytest.mark.slow
def test_tasks_come_back_when_their_queue_has_the_engine_no_more(
    app: Bench, cloud: Cloud, database: TestDatabase
) -> None:
    """A dispatcher takes back what was handed over, and runs it."""
    task = add_and_forward(app)
    with bench(database.url, TASKQUEUE_QUEUES={"mail": {}}) as other:
        add_workers(other)
        other.runtime.store.ensure_queues()
        other.runtime.sweep()
        assert other.tasks.get(task.id).state == "scheduled"
        assert other.tasks.drain() == 1
        assert other.count() == 1


@pytest.mark.slow
def test_why_says_where_a_task_is(app: Bench, cloud: Cloud) -> None:
    """From add() to its end."""
    task = app.tasks.add("/count", countdown="1h")
    app.runtime.start()
    try:
        wait_until(
            lambda: app.tasks.get(task.id).state == "forwarded" and cloud.created,
            what="a dispatcher hands the task over, long before it is due",
        )
        wait_until(
            lambda: "delivers it" in app.tasks.why(task.id).sentence, what="that is recorded"
        )
    finally:
        app.runtime.stop()
    app.tasks.queue("mail").pause(by="ana")
    found = app.tasks.why(task.id)
    assert (found.code, found.also) == ("paused", ("forwarded",))


def test_sync_writes_the_limits(app: Bench, cloud: Cloud) -> None:
    """By UpdateQueue, of what the settings have and nothing else; never giving up."""
    result = app.app.test_cli_runner().invoke(args=["taskqueue", "cloudtasks", "sync"])
    name = f"{PARENT}/queues/mail"
    assert result.exit_code == 0
    assert result.output == f"Wrote {name}.\n"
    assert cloud.queues[name]["retryConfig"]["maxAttempts"] == -1
    assert cloud.masks == ["rateLimits,retryConfig"]


def test_sync_says_what_cloud_tasks_refuses(app: Bench, cloud: Cloud) -> None:
    """In one line, with an exit code."""
    cloud.refuses = (403, "PERMISSION_DENIED")
    result = app.app.test_cli_runner().invoke(args=["taskqueue", "cloudtasks", "sync"])
    assert result.exit_code == 1
    assert "queue mail: Cloud Tasks: " in result.output
    assert "PERMISSION_DENIED" in result.output


@pytest.mark.slow
def test_the_command_says_what_it_needs(app: Bench) -> None:
    """Without a subcommand it listens, and has to know where."""
    result = app.app.test_cli_runner().invoke(args=["taskqueue", "cloudtasks"])
    assert result.exit_code == 2
    assert "--grpc" in result.output


def test_the_dashboard_shows_forwarded_tasks(app: Bench, cloud: Cloud) -> None:
    """In a list of their own, which apps without such a queue do not have."""
    task = add_and_forward(app)
    with app.store.reading() as connection:
        page = app.store.listings.page(
            connection, ListKind.FORWARDED, Filter(queue="mail"), None, 10
        )
    assert page.ids == [task.id]
    assert [task.id for task in app.tasks.find(state="forwarded")] == [task.id]
