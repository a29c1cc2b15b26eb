"""Application contexts within others, each with a session of its own: nobody waits for their own
outer session, and a transactional handler loses nothing to an inner one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, copy_current_request_context

from flask_taskqueue import (
    BadTransactionStateError,
    Task,
    TaskAlreadyExistsError,
    TaskQueue,
    TaskSpec,
    task_added,
)
from tests.apps import Bench, bench, closing
from tests.databases import NAMES
from tests.laid import Laid
from tests.web.test_joining import execute
from tests.web.test_one_writer import CHANGES, MANY, declare, is_sqlite, nobody_waits, restore

BRIEFLY = {
    "sqlite": "PRAGMA busy_timeout = 1000",
    "postgresql": "SET lock_timeout = '1s'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
}
"""How the session of an app that waits for its own thread stops to do so."""
_IDS = count(100)
OUTER = "of an outer application context perhaps"


@pytest.fixture(params=NAMES)
def queue(request: pytest.FixtureRequest, laid: Laid, tmp_path: Path) -> Iterator[Bench]:
    """An application in which nobody waits in vain for a lock."""
    with (
        laid.lend(request.param, tmp_path) as database,
        bench(database.url, TASKQUEUE_QUEUES={"default": {}, "handlers": {}}) as one,
    ):
        declare(one)
        with nobody_waits(one):
            yield one


@pytest.fixture(params=["postgresql", "mariadb"])
def on_a_server(request: pytest.FixtureRequest, laid: Laid, tmp_path: Path) -> Iterator[Bench]:
    """The same where transactions go on beside each other."""
    with laid.lend(request.param, tmp_path) as database, bench(database.url) as one:
        declare(one)
        with nobody_waits(one):
            yield one


def keyed(queue: Bench, transactional: bool | None = None) -> Task:
    """Add the task with a key."""
    return queue.tasks.add("/w", unique_key="k", transactional=transactional)


def within(queue: Bench, call: Callable[[], Any], *, writes: bool = False) -> Any:
    """Call in an inner context, whose session has changes of its own or not; commit it."""
    with queue.app.app_context():
        execute(queue, BRIEFLY[queue.db.engine.dialect.name])
        if writes:
            queue.db.session.add(queue.Counter(id=next(_IDS), count=1))
            queue.db.session.flush()
        result = call()
        queue.db.session.commit()
        return result


@pytest.mark.parametrize("writes", [False, True])
def test_what_would_wait_for_an_outer_session_is_refused(queue: Bench, writes: bool) -> None:
    """At once, whether the inner session holds changes or not; the outer one goes on."""
    if writes and is_sqlite(queue):
        pytest.skip("the inner session cannot write itself")
    changes = CHANGES | {"add": (lambda _: None, lambda queue, _: keyed(queue), None)}
    for name, (prepare, make, _) in changes.items():
        if name in ("add a list", "add many", "add a batch"):  # what they add has no key
            continue
        subject = prepare(queue)
        execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
        make(queue, subject)
        for again in (make, lambda queue, _: keyed(queue)):
            with pytest.raises(BadTransactionStateError, match=OUTER):
                within(queue, lambda again=again, at=subject: again(queue, at), writes=writes)
        queue.db.session.commit()
        assert queue.count() == 7, name
        restore(queue)


@pytest.mark.parametrize("writes", [False, True])
def test_a_task_without_a_key_keeps_nobody_waiting(on_a_server: Bench, writes: bool) -> None:
    """Beside an outer session that has added one, everything is done but what looks through many
    rows, which MariaDB keeps waiting for a new one.
    """
    queue = on_a_server
    for name, (prepare, make, look) in CHANGES.items():
        subject = prepare(queue)
        before = look(queue, subject)
        execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
        queue.tasks.add("/w")
        within(queue, lambda make=make, at=subject: make(queue, at), writes=writes)
        queue.db.session.rollback()
        assert (name, look(queue, subject) != before) == (name, True)
        restore(queue)
    execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
    queue.tasks.add("/w")
    assert within(queue, lambda: keyed(queue), writes=writes).unique_key == "k"
    for change in MANY.values():
        with pytest.raises(BadTransactionStateError, match=OUTER):
            within(queue, lambda change=change: change(queue, False), writes=writes)
    queue.tasks.drain()
    queue.db.session.rollback()


def test_the_rows_of_queues_keep_nobody_waiting(on_a_server: Bench) -> None:
    """Though a session's transaction has been the first to need them."""
    queue = on_a_server
    execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
    queue.tasks.add("/w")
    within(queue, lambda: queue.tasks.add("/w"))
    queue.db.session.rollback()
    assert len(queue.tasks.find()) == 1


def test_what_a_savepoint_has_locked(queue: Bench) -> None:
    """MariaDB keeps the lock beyond the savepoint's end, so the change is refused there; elsewhere
    it is made at once.
    """
    task = queue.tasks.add("/w", countdown=3600)
    savepoint = queue.db.session.begin_nested()
    task.delete(transactional=True)
    savepoint.rollback()
    if queue.db.engine.dialect.name != "mysql":
        assert task.delete()
        return
    for delete in (task.delete, lambda: task.delete(transactional=False)):
        with pytest.raises(BadTransactionStateError, match="commit the session first"):
            delete()
    queue.db.session.rollback()
    assert task.delete()


def test_what_a_refused_change_has_locked(queue: Bench) -> None:
    """It has changed nothing, but the session still keeps others from changing it."""
    task = queue.tasks.add("/w", name="n", countdown=3600)
    execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
    with pytest.raises(TaskAlreadyExistsError):
        queue.tasks.add("/w", name="n")
    with pytest.raises(BadTransactionStateError, match="commit the session first"):
        task.run_now(transactional=False)
    with pytest.raises(BadTransactionStateError, match=OUTER):
        within(queue, task.run_now)
    queue.db.session.commit()
    assert task.run_now().due_at != task.due_at


def test_what_waits_for_handlers_beside_changes_of_the_queue(queue: Bench) -> None:
    """They could need what the session has changed, so it is refused, also in an inner context."""
    task = queue.tasks.add("/w")
    execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
    keyed(queue)
    for ask in (queue.tasks.drain, task.wait):
        with pytest.raises(BadTransactionStateError, match="commit the session first"):
            ask()
        with pytest.raises(BadTransactionStateError, match=OUTER):
            within(queue, ask)
    queue.db.session.commit()
    assert queue.tasks.drain() == 2


def test_after_a_taken_key_mariadb_keeps_every_insert_waiting(on_a_server: Bench) -> None:
    """So there every task is refused that would wait for the session, and none elsewhere."""
    queue = on_a_server
    queue.tasks.add("/w", name="n")
    keyed(queue)
    for meet in (
        lambda: [queue.tasks.add("/w", unique_key="own") for _ in range(2)],
        lambda: queue.tasks.add("/w", unique_key="k", on_conflict="replace"),
        lambda: queue.tasks.queue("default").add([TaskSpec("/w", name="n")]),
    ):
        execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
        meet()
        if queue.db.engine.dialect.name == "mysql":
            with pytest.raises(BadTransactionStateError, match="commit the session first"):
                queue.tasks.add("/w", transactional=False)
            with pytest.raises(BadTransactionStateError, match=OUTER):
                within(queue, lambda: queue.tasks.add("/w"))
        else:
            queue.tasks.add("/w", transactional=False)
            within(queue, lambda: queue.tasks.add("/w"))
        queue.db.session.rollback()


def test_a_receiver_that_has_a_context_of_its_own(queue: Bench) -> None:
    """What would make it wait for its caller's session is refused."""
    told: list[str] = []

    def receive(_app: Flask, task: Task) -> None:
        with pytest.raises(BadTransactionStateError, match=OUTER):
            within(queue, lambda: queue.tasks.add("/w", unique_key="k"))
        told.append(task.id)

    execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
    keyed(queue)
    task_added.connect(receive, queue.app)
    task = queue.tasks.add("/w")
    queue.db.session.rollback()
    assert told == [task.id]


def test_an_async_view_with_an_inner_context(queue: Bench) -> None:
    """It runs in another thread than the hook that has changed the queue, and is refused too."""

    @queue.app.before_request
    def hook() -> None:
        execute(queue, "UPDATE counter SET count = 1")
        keyed(queue)

    @queue.app.get("/")
    async def view() -> str:
        with pytest.raises(BadTransactionStateError, match=OUTER):
            within(queue, lambda: keyed(queue))
        return "refused"

    assert queue.app.test_client().get("/").text == "refused"


def in_app_context(app: Flask, call: Callable[[], Any]) -> Any:
    """As a service does that is called with and without a request."""
    with app.app_context():
        return call()


def in_copied_context(_app: Flask, call: Callable[[], Any]) -> Any:
    """As a handler does that has threads."""
    with ThreadPoolExecutor() as pool:
        return pool.submit(copy_current_request_context(call)).result()


def in_a_celery_task(app: Flask, call: Callable[[], Any]) -> Any:
    """As Flask's documentation of Celery has it."""

    class ContextTask:
        def __call__(self) -> Any:
            with app.app_context():
                return self.run()

        def run(self) -> Any:
            return call()

    return ContextTask()()


INNER = {
    "app_context": in_app_context,
    "copy_current_request_context": in_copied_context,
    "ContextTask": in_a_celery_task,
}


@pytest.fixture
def handled(queue: Bench) -> tuple[Bench, list[Callable[[], Any]]]:
    """An application whose transactional handler calls a function, in a transaction that has
    changes, and then fails.
    """
    calls: list[Callable[[], Any]] = []

    @queue.tasks.worker(
        "/handler", transactional=True, queue="handlers", retry={"task_retry_limit": 0}
    )
    def handler() -> Any:
        execute(queue, "UPDATE counter SET count = 7 WHERE id = 1")
        for call in calls:
            call()
        return "no", 500

    return queue, calls


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_what_a_handler_changes_in_an_inner_context_is_refused(
    handled: tuple[Bench, list[Callable[[], Any]]], inner: Callable[..., Any]
) -> None:
    """It would be no part of the handler's transaction, whatever is changed and whatever else the
    inner session has changed; said to be stored at once, it is.
    """
    queue, calls = handled
    subjects = {name: prepare(queue) for name, (prepare, _, _) in CHANGES.items()}
    told: list[str] = []

    def refused() -> None:
        for name, (_, make, _) in CHANGES.items():
            with pytest.raises(BadTransactionStateError, match="the handler's own context"):
                make(queue, subjects[name])
            told.append(name)
        for change in MANY.values():
            with pytest.raises(BadTransactionStateError, match="the handler's own context"):
                change(queue, None)
        if not is_sqlite(queue):
            told.append(queue.tasks.add("/w", transactional=False).id)

    calls.append(lambda: inner(queue.app, refused))
    queue.tasks.drain()
    before = {task.id for task in queue.tasks.find()}
    task = queue.tasks.add("/handler")
    assert queue.run(task).last_status == 500
    assert told[: len(CHANGES)] == list(CHANGES)
    assert {task.id for task in queue.tasks.find()} - before == {task.id, *told[len(CHANGES) :]}


def test_an_inner_transaction_of_a_handler_can_be_chosen(
    handled: tuple[Bench, list[Callable[[], Any]]],
) -> None:
    """With transactional=True the task is part of what the inner session commits."""
    queue, calls = handled
    if is_sqlite(queue):
        pytest.skip("one writer")
    stored: list[Task] = []

    def inner() -> None:
        stored.append(queue.tasks.add("/w", transactional=True))

    calls.append(lambda: within(queue, inner, writes=True))
    queue.run(queue.tasks.add("/handler"))
    assert queue.tasks.get(stored[0].id).url == "/w"


def test_what_is_added_in_another_application_is_stored(
    handled: tuple[Bench, list[Callable[[], Any]]], tmp_path: Path
) -> None:
    """A queue of its own has no part in the handler's transaction."""
    queue, calls = handled
    other = Flask("other", instance_path=str(tmp_path))
    other.config.update(TESTING=True, SECRET_KEY="a secret for tests")
    theirs = TaskQueue(other)
    other.post("/w")(lambda: "")
    told: list[bool] = []

    def elsewhere() -> None:
        with closing(other), other.app_context():
            told.append(theirs.get(theirs.add("/w").id).is_committed)

    calls.append(elsewhere)
    assert queue.run(queue.tasks.add("/handler")).last_status == 500
    assert told == [True]


def test_a_handler_that_is_called_by_a_handler_is_part_of_its_transaction(
    handled: tuple[Bench, list[Callable[[], Any]]],
) -> None:
    """As any function that it calls in its own context, also in another thread, and as a request
    that it makes there.
    """
    queue, calls = handled

    @queue.tasks.worker("/other", transactional=True)
    def other() -> None:
        queue.tasks.add("/w")

    def in_thread() -> None:
        with ThreadPoolExecutor() as pool:
            pool.submit(copy_context().run, other).result()

    @queue.app.post("/view")
    def view() -> str:
        return queue.tasks.add("/w").id

    def in_requests() -> None:
        with queue.app.test_request_context("/w"):
            queue.tasks.add("/w")
        assert queue.app.test_client().post("/view").status_code == 200

    calls += [other, in_thread, in_requests]
    task = queue.tasks.add("/handler")
    assert queue.run(task).last_status == 500
    assert [task.id for task in queue.tasks.find()] == [task.id]


def test_after_the_handler_its_copied_context_is_like_any_other(queue: Bench) -> None:
    """What a thread adds that it has left behind is stored."""
    started: list[Callable[[], Any]] = []

    @queue.tasks.worker("/handler", transactional=True)
    def handler() -> None:
        started.append(copy_current_request_context(lambda: queue.tasks.add("/w")))

    queue.run(queue.tasks.add("/handler"))
    with ThreadPoolExecutor() as pool:
        assert pool.submit(started[0]).result().is_committed
