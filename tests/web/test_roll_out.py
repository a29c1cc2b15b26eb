"""While a release is rolled out: a task for a worker of the new one meets a view of the old
one, in process and over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import abort

from flask_taskqueue import State, Task, TaskQueue, TaskSpec
from flask_taskqueue.core.delivery.outcome import ROLL_OUT
from flask_taskqueue.engine.registration import Registration
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase

ONCE: Any = {"task_retry_limit": 0, "min_backoff_seconds": 60}


def page(rest: str) -> str:
    """A page for whatever is asked."""
    return f"hello, {rest}"


def no_page(rest: str) -> str:
    """The same, which has nothing to say."""
    abort(404, rest)


@pytest.fixture
def new(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """The new release, whose tasks they are."""
    with bench(sqlite_database.url) as release:
        release.tasks.worker("/new", endpoint="new")(lambda: None)
        release.app.add_url_rule("/before", "before", lambda: "", methods=["POST"])
        yield release


@pytest.fixture
def old(new: Bench, sqlite_database: TestDatabase) -> Iterator[Bench]:
    """The old release, without the worker."""
    with bench(sqlite_database.url, PROPAGATE_EXCEPTIONS=False) as release:
        release.app.add_url_rule("/before", "before", lambda: "", methods=["POST"])
        yield release


@pytest.fixture(params=["wsgi", "http"])
def deliver(request: pytest.FixtureRequest, old: Bench) -> Callable[[], None]:
    """What has the old release attempt what is due, by one transport or the other."""

    def run() -> None:
        if request.param == "wsgi":
            old.tasks.drain()
            return
        with served(old.app) as url:
            old.runtime.drain(transport="http", base_url=url)

    return run


def debounced(tasks: TaskQueue) -> None:
    """A task for a plain view, whose request another takes the place of."""
    tasks.add("/before", unique_key="one", countdown=60, retry=ONCE)
    tasks.add("/new", unique_key="one", on_conflict="debounce", retry=ONCE)


def scheduled(tasks: TaskQueue) -> None:
    """A task of a schedule."""
    tasks.schedule("one", "/new", "@yearly", retry=ONCE)
    tasks.get_schedule("one").run_now()


ADDED: dict[str, Callable[[TaskQueue], object]] = {
    "by its URL": lambda tasks: tasks.add("/new", retry=ONCE),
    "by its endpoint": lambda tasks: tasks.add("taskqueue.new", retry=ONCE),
    "among many": lambda tasks: tasks.add_many([TaskSpec("/new", retry=ONCE)]),
    "in a batch": lambda tasks: tasks.batch([TaskSpec("/new", retry=ONCE)]),
    "after another": lambda tasks: tasks.add("/before", then=TaskSpec("/new", retry=ONCE)),
    "debounced": debounced,
    "by a schedule": scheduled,
}


def add_by(release: Bench, add: Callable[[TaskQueue], object]) -> None:
    """Have a release add a task, in its own context."""
    with release.app.app_context():
        add(release.tasks)


def task_to(url: str, release: Bench) -> Task:
    """The task with a URL, as it is now."""
    (task,) = [task for task in release.tasks.find() if task.url == url]
    return task


@pytest.mark.parametrize("add", ADDED.values(), ids=ADDED)
def test_only_a_worker_does_the_task_of_one(
    new: Bench, old: Bench, deliver: Callable[[], None], add: Callable[[TaskQueue], object]
) -> None:
    """Whatever another view answers, the task waits for a release that has the worker, however
    it was added and whatever its limits.
    """
    old.app.add_url_rule("/<path:rest>", "page", page, methods=["GET", "POST"])
    add_by(new, add)
    deliver()
    task = task_to("/new", old)
    assert task.state is State.SCHEDULED
    assert task.attempts == 1
    assert "no route for the task: no worker's, but another view, which answered 200" in str(
        task.last_error
    )
    task.run_now()
    with new.app.app_context():
        assert new.run(task).state is State.SUCCEEDED


@pytest.mark.parametrize("view", [page, no_page])
def test_after_an_hour_the_task_is_dead(
    new: Bench, old: Bench, deliver: Callable[[], None], view: Callable[[str], str]
) -> None:
    """With the reason, as a task that does not fit its handler."""
    old.app.add_url_rule("/<path:rest>", "page", view, methods=["POST"])
    add_by(new, lambda tasks: tasks.add("/new", retry=ONCE))
    deliver()
    assert task_to("/new", old).state is State.SCHEDULED
    store = old.store
    table = store.database.tables.task
    earlier = table.c.first_tried_at - (ROLL_OUT + timedelta(minutes=1)) // timedelta(
        microseconds=1
    )
    store.transact(
        lambda connection: connection.execute(sa.update(table).values(first_tried_at=earlier))
    )
    task_to("/new", old).run_now()
    deliver()
    dead = task_to("/new", old)
    assert (dead.state, dead.last_reason) == (State.DEAD, "permanent")
    assert "no route for the task" in str(dead.last_error)


@pytest.mark.slow
def test_a_plain_view_does_what_was_added_for_one(
    new: Bench, old: Bench, deliver: Callable[[], None]
) -> None:
    """Its tasks need no worker: a view of another release that answers their URL does them."""
    old.app.add_url_rule("/<path:rest>", "page", page, methods=["POST"])
    new.app.add_url_rule("/plain", "plain", lambda: "", methods=["POST"])
    add_by(new, lambda tasks: tasks.add("/plain", retry=ONCE))
    deliver()
    assert task_to("/plain", old).state is State.SUCCEEDED


@pytest.mark.parametrize(("before", "now"), [("/mail", "/mail/"), ("/mail/", "/mail")])
def test_a_worker_whose_url_gains_or_loses_a_slash_does_the_tasks_added_before(
    new: Bench, old: Bench, deliver: Callable[[], None], before: str, now: str
) -> None:
    """They keep the URL that they were stored with, and both releases do them meanwhile."""
    new.tasks.worker(before)(lambda: None)
    old.tasks.worker(now)(lambda: None)
    add_by(new, lambda tasks: tasks.add(before, retry=ONCE))
    deliver()
    assert task_to(before, old).state is State.SUCCEEDED


def test_a_url_that_the_release_only_redirects_has_no_route(
    new: Bench, old: Bench, deliver: Callable[[], None]
) -> None:
    """The task waits for a release that has one, whatever its limits, and the error says where
    the route is; so do the diagnoses.
    """
    new.app.add_url_rule("/plain", "plain", lambda: "", methods=["POST"])
    old.app.add_url_rule("/plain/", "plain", lambda: "", methods=["POST"])
    add_by(new, lambda tasks: tasks.add("/plain", retry=ONCE))
    deliver()
    task = task_to("/plain", old)
    assert task.state is State.SCHEDULED
    assert "no route for the task, only at /plain/ (the reply was 308)" in str(task.last_error)
    why = old.tasks.why(task)
    assert "no_route" in (why.code, *why.also)


def test_the_limits_of_a_release_leave_with_its_dispatchers(sqlite_database: TestDatabase) -> None:
    """Those of the release that ran before hold again, without a restart."""

    def release(most: int) -> AbstractContextManager[Bench]:
        return bench(sqlite_database.url, TASKQUEUE_QUEUES={"default": {"max_concurrent": most}})

    with release(1) as fleet, release(4) as canary:

        def in_force() -> int | None:
            with fleet.app.app_context():
                return fleet.tasks.queue("default").statistics().max_concurrent

        dispatcher, attempts = fleet.runtime.dispatcher()
        registration = Registration(fleet.store, dispatcher, "wsgi")
        registration.beat()
        canary.runtime.start()
        registration.beat()
        assert in_force() == 4
        canary.runtime.stop()
        registration.beat()
        assert in_force() == 1
        attempts.close()


def test_a_worker_that_the_adding_release_did_not_know_does_its_task(
    new: Bench, old: Bench, deliver: Callable[[], None]
) -> None:
    """The mark forbids; it is not needed."""
    old.tasks.worker("/of-the-old", methods=("POST",))(lambda: None)
    new.app.config["TESTING"] = new.app.testing = False
    add_by(new, lambda tasks: tasks.add("/of-the-old", retry=ONCE))
    deliver()
    assert task_to("/of-the-old", old).state is State.SUCCEEDED
