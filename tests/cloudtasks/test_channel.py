"""Google's client within the app: what it changes belongs to the session's transaction."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flask import request
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from flask_taskqueue import ConfigurationError, State
from flask_taskqueue.cloudtasks import installed
from tests.cloudtasks.doors import BASE, PARENT, QUEUE, Door, door
from tests.databases import TestDatabase
from tests.pages import ROOT


@pytest.fixture
def within(database: TestDatabase) -> Iterator[Door]:
    """The client within an app, on each database."""
    with door("channel", database.url) as one:
        one.bench.tasks.worker("/worker")(lambda: None)
        yield one


def change(one: Door) -> None:
    """Leave a change in the session."""
    one.bench.db.session.get(one.bench.Counter, 1).count += 1
    one.bench.db.session.flush()


def test_a_task_is_part_of_the_sessions_transaction(within: Door) -> None:
    """It is returned although it is not there yet, and stored or not as the session's rows are."""
    change(within)
    created = within.add(name=f"{QUEUE}/tasks/one")
    assert created.http_request.url == f"{BASE}/worker"
    assert within.bench.tasks.find() == []
    within.bench.db.session.rollback()
    assert within.bench.tasks.find() == []
    change(within)
    within.add(name=f"{QUEUE}/tasks/one")
    within.bench.db.session.commit()
    (stored,) = within.bench.tasks.find()
    assert (stored.name, stored.state) == ("one", State.SCHEDULED)


KILLED = """
import os, sys
from tests.cloudtasks.doors import QUEUE, door

with door("channel", sys.argv[1]) as one:
    one.bench.tasks.worker("/worker")(lambda: None)
    one.bench.db.session.get(one.bench.Counter, 1).count = 7
    one.add(name=f"{QUEUE}/tasks/lost")
    os._exit(9)
"""


@pytest.mark.slow
def test_a_process_that_dies_before_the_commit_leaves_nothing(within: Door) -> None:
    """Neither the task nor the change that it belongs to."""
    url = within.bench.db.engine.url.render_as_string(hide_password=False)
    assert subprocess.run([sys.executable, "-c", KILLED, url], cwd=ROOT).returncode == 9
    assert within.bench.tasks.find() == []
    assert within.bench.count() == 0
    within.add(name=f"{QUEUE}/tasks/lost")


def test_a_taken_name_leaves_the_transaction_as_it_was(within: Door) -> None:
    """It is AlreadyExists, as ever, and the session can go on."""
    within.add(name=f"{QUEUE}/tasks/one")
    change(within)
    with pytest.raises(exceptions.AlreadyExists):
        within.add(name=f"{QUEUE}/tasks/one")
    within.add(name=f"{QUEUE}/tasks/two")
    within.bench.db.session.commit()
    assert within.bench.count() == 1
    assert len(within.bench.tasks.find()) == 2


def test_without_changes_in_the_session_a_task_is_stored_at_once(within: Door) -> None:
    """As by ``tasks.add``."""
    within.add()
    assert len(within.bench.tasks.find()) == 1


def test_a_transactional_handler_adds_with_its_own_end(within: Door) -> None:
    """What it adds is gone if it fails."""
    fails = [True, False]

    @within.bench.tasks.worker("/chain", transactional=True, retry={"min_backoff_seconds": 0.01})
    def chain() -> None:
        within.add(name=f"{QUEUE}/tasks/next-{len(fails)}")
        if fails.pop(0):
            raise ValueError("the first time")

    task = chain.add()
    while within.bench.tasks.get(task.id).state is State.SCHEDULED:
        within.bench.tasks.drain()
    names = {task.name for task in within.bench.tasks.find()}
    assert names == {None, "next-1"}


def test_other_changes_join_it_too(within: Door) -> None:
    """A task that is deleted or run, and a queue that is paused; to purge takes several."""
    task, queue = within.add(), within.bench.tasks.queue("default")
    change(within)
    within.client.pause_queue(name=QUEUE)
    within.client.delete_task(name=task.name)
    with pytest.raises(exceptions.FailedPrecondition, match="several transactions"):
        within.client.purge_queue(name=QUEUE)
    within.bench.db.session.rollback()
    assert queue.statistics().paused_at is None
    assert within.client.get_task(name=task.name).name == task.name


def test_a_task_is_found_in_the_transaction_that_has_added_it(within: Door) -> None:
    """So what is deleted there is not sent after the commit, and what is not found is not there."""
    change(within)
    kept, dropped = within.add(name=f"{QUEUE}/tasks/kept"), within.add()
    assert within.client.get_task(name=kept.name) == kept
    assert within.client.run_task(name=kept.name).name == kept.name
    within.client.delete_task(name=dropped.name)
    for call in (within.client.get_task, within.client.delete_task, within.client.run_task):
        with pytest.raises(exceptions.NotFound):
            call(name=dropped.name)
    within.bench.db.session.commit()
    assert [task.name for task in within.client.list_tasks(parent=QUEUE)] == [kept.name]
    assert within.bench.tasks.drain() == 1


def test_a_queue_is_part_of_the_sessions_transaction(within: Door) -> None:
    """With the tasks that are added to it there."""
    name = QUEUE.replace("default", "new")
    change(within)
    created = within.client.create_queue(parent=PARENT, queue={"name": name})
    assert created.retry_config.max_attempts == 100
    within.add(queue=name)
    within.bench.db.session.rollback()
    with pytest.raises(exceptions.NotFound):
        within.client.get_queue(name=name)
    change(within)
    within.client.create_queue(parent=PARENT, queue={"name": name})
    task = within.add(queue=name)
    within.bench.db.session.commit()
    assert within.client.get_task(name=task.name) == task


def test_the_handler_sees_cloud_tasks_headers(sqlite_database: TestDatabase) -> None:
    """Whatever the setting says; an App Engine task has App Engine's too."""
    seen: list[dict[str, str]] = []
    with door("channel", sqlite_database.url) as one:

        @one.bench.tasks.worker("/worker")
        def worker() -> None:
            seen.append({**request.headers})

        one.add(name=f"{QUEUE}/tasks/first")
        one.client.create_task(
            parent=QUEUE,
            task={
                "app_engine_http_request": {
                    "relative_uri": "/worker",
                    "headers": {"X-AppEngine-QueueName": "forged", "X-CloudTasks-Other": "x"},
                }
            },
        )
        one.bench.tasks.drain()
    http, app_engine = seen
    assert http["X-Cloudtasks-Taskname"] == "first"
    assert http["X-Cloudtasks-Queuename"] == "default"
    assert http["X-Cloudtasks-Taskretrycount"] == "0"
    assert "X-Appengine-Taskname" not in http
    assert app_engine["X-Appengine-Queuename"] == "default"
    assert "X-Cloudtasks-Other" not in app_engine
    assert "Content-Type" not in http


def test_an_app_engine_task_goes_where_its_service_is(sqlite_database: TestDatabase) -> None:
    """As `TASKQUEUE_SERVICES` says, and the default one is a service too."""
    services = {"default": "https://api.example.com/app", "v1.mail": "https://api.example.com"}
    with door("channel", sqlite_database.url, TASKQUEUE_SERVICES=services) as one:
        found = []
        for routing in ({}, {"service": "default"}, {"service": "mail", "version": "v1"}):
            task = {"relative_uri": "/send", "app_engine_routing": routing}
            one.client.create_task(parent=QUEUE, task={"app_engine_http_request": task})
            found.append(one.bench.tasks.find()[0].id)
        with one.bench.store.reading() as connection:
            rows = {row.id: row for row in one.bench.store.tasks.get_all(connection, found)}
    assert [rows[task_id].target for task_id in found] == [
        "https://api.example.com/app",
        "https://api.example.com/app",
        "https://api.example.com",
    ]


def test_a_client_can_be_made_before_the_app(sqlite_database: TestDatabase) -> None:
    """At the top of a module, as clients usually are; each call goes to the current app."""
    with door("channel", sqlite_database.url) as one:
        one.bench.tasks.worker("/worker")(lambda: None)
        tasks = one.bench.tasks
        client = tasks_v2.CloudTasksClient(
            transport=CloudTasksGrpcTransport(channel=tasks.cloud_tasks_channel())
        )
        client.create_task(parent=QUEUE, task={"http_request": {"url": f"{BASE}/worker"}})
        assert len(tasks.find()) == 1


def test_a_missing_package_is_named(
    sqlite_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the extra that brings it."""
    with door("channel", sqlite_database.url) as one:

        def nothing(name: str) -> Any:
            return None

        monkeypatch.setattr(installed, "find_spec", nothing)
        with pytest.raises(ConfigurationError, match=r"Flask-TaskQueue\[cloudtasks\]"):
            one.bench.tasks.cloud_tasks_channel()
