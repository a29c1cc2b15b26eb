"""Code for App Engine's taskqueue module, with its import changed, in an application of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, request

from flask_taskqueue import InvalidUrlError, TaskQueue, TaskQueueError, task_added
from flask_taskqueue.appengine import taskqueue
from flask_taskqueue.runtime import sessions
from tests.apps import Bench, bench, closing
from tests.databases import TestDatabase


@pytest.fixture
def shop(database: TestDatabase) -> Iterator[Bench]:
    """An application with a worker that says what it was sent."""
    queues: dict[str, Any] = {"mail": {}, "slow": {"deadline": 5}}
    with bench(
        database.url,
        TASKQUEUE_QUEUES=queues,
        TASKQUEUE_SERVICES={"worker": None, "elsewhere": "https://elsewhere.example"},
    ) as found:
        yield found


def heard(shop: Bench, rule: str = "/work", **options: Any) -> list[dict[str, Any]]:
    """What a worker is sent from now on."""
    found: list[dict[str, Any]] = []

    @shop.tasks.worker(rule, methods=("POST", "GET", "PUT", "DELETE", "HEAD"), **options)
    def work() -> None:
        found.append(
            {
                "method": request.method,
                "query": request.query_string.decode(),
                "body": request.get_data(),
                "type": request.content_type,
                "headers": dict(request.headers),
            }
        )

    return found


@pytest.mark.parametrize(
    ("given", "method", "query", "body", "kind"),
    [
        (
            {"params": {"key": "a b", "list": ["x", "ü"], "n": None}},
            "POST",
            "",
            b"key=a+b&list=x&list=%C3%BC&n=None",
            "application/x-www-form-urlencoded",
        ),
        ({}, "POST", "", b"", None),
        ({"payload": "ü"}, "POST", "", "ü".encode(), "text/plain; charset=utf-8"),
        ({"payload": b"\x00\xff"}, "POST", "", b"\x00\xff", "application/octet-stream"),
        ({"method": "GET", "params": {"a": [1, 2]}}, "GET", "a=1&a=2", b"", None),
        (
            {"method": "put", "payload": "x", "params": {"a": 1}},
            "PUT",
            "a=1",
            b"x",
            "text/plain; charset=utf-8",
        ),
        ({"method": "DELETE", "url": "/work?a=1"}, "DELETE", "a=1", b"", None),
    ],
)
def test_a_task_is_sent_as_app_engine_sends_it(
    shop: Bench, given: dict[str, Any], method: str, query: str, body: bytes, kind: str | None
) -> None:
    """Method, query, body and Content-Type."""
    found = heard(shop)
    taskqueue.add(**{"url": "/work", **given})
    shop.tasks.drain()
    [one] = found
    assert [one[name] for name in ("method", "query", "body", "type")] == [
        method,
        query,
        body,
        kind,
    ]


def test_its_headers_are_app_engines_without_a_setting(shop: Bench) -> None:
    """Those of the task queue, and those that the task was given but for App Engine's own."""
    found = heard(shop)
    task = taskqueue.add(
        url="/work",
        queue_name="mail",
        name="one",
        headers={"X-One": "1", "X-Two": ["2", "3"], "X-AppEngine-TaskName": "forged"},
    )
    shop.tasks.drain()
    [headers] = [item["headers"] for item in found]
    assert (task.name, headers["X-Appengine-Taskname"]) == ("one", "one")
    assert headers["X-Appengine-Queuename"] == "mail"
    assert headers["X-Appengine-Taskretrycount"] == "0"
    assert (headers["X-One"], headers["X-Two"]) == ("1", "2, 3")


def test_a_task_without_url_goes_to_that_of_its_queue(shop: Bench) -> None:
    """As in App Engine."""
    found = heard(shop, "/_ah/queue/mail")
    task = taskqueue.Task(params={"a": 1})
    task.add("mail")
    shop.tasks.drain()
    assert [item["body"] for item in found] == [b"a=1"]
    assert task.on_queue_url


def test_a_task_joins_the_session_that_holds_changes(shop: Bench) -> None:
    """It is rolled back with it, or is there once it commits; so is its deletion."""
    heard(shop)
    shop.db.session.get(shop.Counter, 1).count = 5
    taskqueue.add(url="/work", name="gone")
    shop.db.session.rollback()
    assert shop.tasks.find() == []
    shop.db.session.get(shop.Counter, 1).count = 5
    task = taskqueue.add(url="/work", name="kept")
    shop.db.session.commit()
    assert [task.name for task in shop.tasks.find()] == ["kept"]
    shop.db.session.get(shop.Counter, 1).count = 6
    assert taskqueue.Queue().delete_tasks(task).was_deleted
    shop.db.session.rollback()
    assert [task.state for task in shop.tasks.find()] == ["scheduled"]


def test_transactional_joins_the_session_in_any_case(shop: Bench) -> None:
    """Also with names, and with more than five tasks, which App Engine does not allow."""
    heard(shop)
    shop.db.session.commit()
    tasks = [taskqueue.Task(url="/work", name=f"t{number}") for number in range(7)]
    taskqueue.Queue().add(tasks, transactional=True)
    assert [task.was_enqueued for task in tasks] == [True] * 7
    assert sessions.has_changes(shop.db.session())
    shop.db.session.rollback()
    assert shop.tasks.find() == []
    taskqueue.add(url="/work", name="t0", transactional=True)
    shop.db.session.commit()
    assert [task.name for task in shop.tasks.find()] == ["t0"]


def test_a_transactional_call_is_not_too_large(shop: Bench) -> None:
    """1 MiB is what all of its tasks may have."""
    tasks = [taskqueue.Task(b"x" * 100_000, url="/work") for _ in range(11)]
    with pytest.raises(taskqueue.TransactionalRequestTooLargeError):
        taskqueue.Queue().add(tasks, transactional=True)
    shop.db.session.rollback()
    assert shop.tasks.find() == []


def test_without_a_session_there_is_no_transaction(tmp_path: Any) -> None:
    """As outside of App Engine's: BadTransactionStateError, which has an alias."""
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="a secret for tests")
    TaskQueue(app)
    with app.app_context(), closing(app):
        with pytest.raises(taskqueue.BadTransactionState):
            taskqueue.add(url="/work", transactional=True)
        assert taskqueue.add(url="/work").was_enqueued


@pytest.mark.parametrize("given", [{"task_retry_limit": 1}, 3, "none"])
def test_retry_options_of_another_kind_are_refused(given: Any) -> None:
    """With what they must be, when the task is made."""
    name = type(given).__name__
    with pytest.raises(taskqueue.InvalidTaskRetryOptionsError, match=f"type {name}; it must be"):
        taskqueue.Task(url="/work", retry_options=given)


def test_eta_retry_options_and_deadline_are_the_tasks(shop: Bench) -> None:
    """They replace what its queue has."""
    heard(shop)
    task = taskqueue.add(
        url="/work",
        queue_name="slow",
        countdown=3600,
        retry_options=taskqueue.TaskRetryOptions(task_retry_limit=0, task_age_limit=1.5),
        dispatch_deadline_usec=15_000_000,
    )
    [stored] = shop.tasks.find()
    assert abs((stored.eta - task.eta).total_seconds()) < 60
    with shop.store.reading() as connection:
        record = shop.store.tasks.get(connection, stored.id)
    assert (record.deadline, record.retry) == (15.0, '{"task_retry_limit":0,"task_age_limit":2.0}')


def test_what_a_worker_declares_applies_where_nothing_is_given(shop: Bench) -> None:
    """But the queue is always the one that the code says."""
    heard(shop, deadline=7, queue="slow", priority=3)
    taskqueue.add(url="/work")
    taskqueue.add(url="/work", dispatch_deadline_usec=20_000_000, queue_name="mail")
    with shop.store.reading() as connection:
        records = [
            shop.store.tasks.get(connection, task.id) for task in reversed(shop.tasks.find())
        ]
    assert [(record.queue, record.deadline, record.priority) for record in records] == [
        ("default", 7.0, 3),
        ("mail", 20.0, 3),
    ]


def test_a_url_that_no_route_answers_is_taken_all_the_same(shop: Bench) -> None:
    """As in App Engine; `tasks.add` would refuse it while testing."""
    with pytest.raises(InvalidUrlError):
        shop.tasks.add("/nowhere")
    assert taskqueue.add(url="/nowhere").was_enqueued


def test_a_target_is_a_service(shop: Bench) -> None:
    """One of this app is called in process, one elsewhere is stored, others are refused."""
    found = heard(shop)
    taskqueue.add(url="/work", target="worker")
    taskqueue.add(url="/work", target=taskqueue.DEFAULT_APP_VERSION)
    shop.tasks.drain()
    assert len(found) == 2
    assert taskqueue.Task(url="/work").target is taskqueue.DEFAULT_APP_VERSION
    taskqueue.add(url="/any", target="elsewhere", countdown=600)
    with shop.store.reading() as connection:
        [stored] = shop.tasks.find(state="scheduled")
        target = shop.store.tasks.get(connection, stored.id).target
    assert target == "https://elsewhere.example"
    with pytest.raises(taskqueue.InvalidUrlError, match="TASKQUEUE_SERVICES"):
        taskqueue.add(url="/work", target="nobody")
    with pytest.raises(taskqueue.InvalidTaskError, match="target"):
        taskqueue.Task(url="/work", headers={"host": "worker.example.com"})


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"url": "/a b"}, taskqueue.InvalidUrlError),
        ({"url": "/work", "headers": {"Cookie": "a=b"}}, taskqueue.InvalidTaskError),
        ({"url": "/work", "headers": {"X-A": "a\nb"}}, taskqueue.InvalidTaskError),
        (
            {"url": "/work", "retry_options": taskqueue.TaskRetryOptions(max_doublings=1.5)},
            taskqueue.InvalidTaskRetryOptionsError,
        ),
        ({"url": "/work", "countdown": "nan"}, taskqueue.InvalidTaskError),
        ({"url": "/work", "countdown": "inf"}, taskqueue.InvalidEtaError),
        ({"url": "/work", "queue_name": "nowhere"}, taskqueue.UnknownQueueError),
    ],
)
def test_what_cannot_be_sent_is_refused_with_app_engines_exceptions(
    shop: Bench, given: dict[str, Any], kind: type[Exception]
) -> None:
    """With ours as the cause, and nothing is stored: also not the others of a list."""
    with pytest.raises(taskqueue.Error) as refused:
        taskqueue.add(**given)
    assert type(refused.value) is kind
    assert isinstance(refused.value.__cause__, TaskQueueError | None)
    if "countdown" not in given and "queue_name" not in given:
        with pytest.raises(kind):
            taskqueue.Queue().add([taskqueue.Task(url="/work"), taskqueue.Task(**given)])
    assert shop.tasks.find() == []


def test_a_purge_is_no_part_of_a_transaction(shop: Bench) -> None:
    """It takes several of its own."""
    shop.db.session.get(shop.Counter, 1).count = 5
    with pytest.raises(taskqueue.BadTransactionStateError, match="commit"):
        taskqueue.Queue().purge()
    shop.db.session.rollback()


def test_a_transactional_handler_adds_and_cannot_delete_its_own_task(shop: Bench) -> None:
    """What it adds is stored when it succeeds."""
    refused: list[str] = []

    @shop.tasks.worker("/own", transactional=True)
    def own() -> None:
        taskqueue.add(url="/after", name="after")
        try:
            taskqueue.Queue().delete_tasks_by_name("own")
        except taskqueue.BadTransactionStateError as error:
            refused.append(str(error))

    taskqueue.add(url="/own", name="own")
    heard(shop, "/after")
    shop.tasks.drain()
    assert {task.name: str(task.state) for task in shop.tasks.find()} == {
        "after": "succeeded",
        "own": "succeeded",
    }
    assert len(refused) == 1


def test_a_running_queue_is_counted(shop: Bench) -> None:
    """What runs is in flight, and what ran is counted."""
    seen: list[taskqueue.QueueStatistics] = []

    @shop.tasks.worker("/work")
    def work() -> None:
        seen.append(taskqueue.Queue("mail").fetch_statistics())

    taskqueue.Queue("mail").add([taskqueue.Task(url="/work"), taskqueue.Task(url="/work")])
    shop.tasks.drain()
    assert all(0 < found.tasks <= 2 for found in seen)
    assert all(found.in_flight for found in seen)
    after = taskqueue.Queue("mail").fetch_statistics()
    assert (after.tasks, after.in_flight, after.executed_last_minute) == (0, 0, 2)


def test_others_are_told_of_a_single_task(shop: Bench) -> None:
    """By the signal that `tasks.add` sends."""
    told: list[str] = []

    def hear(_: object, task: Any) -> None:
        told.append(task.url)

    with task_added.connected_to(hear, shop.app):
        taskqueue.add(url="/work")
    assert told == ["/work"]


def test_an_rpc_stands_for_one_call(shop: Bench) -> None:
    """One that was given to none, or to two, says so."""
    rpc = taskqueue.create_rpc()
    with pytest.raises(RuntimeError, match="pass it as rpc="):
        rpc.wait()
    taskqueue.Task(url="/work").add_async(rpc=rpc)
    with pytest.raises(RuntimeError, match="another call"):
        taskqueue.Queue().fetch_statistics_async(rpc)


def test_outside_of_an_application_it_says_so() -> None:
    """There may be several."""
    with pytest.raises(RuntimeError, match="app_context"):
        taskqueue.add(url="/work")


def test_a_repr_holds_nothing_of_what_the_task_holds() -> None:
    """It ends up in logs."""
    assert "secret" not in repr(taskqueue.Task("secret", headers={"X-A": "secret"}))
