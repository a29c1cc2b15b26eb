"""The options of tasks: where they may stand, and which of them goes before which."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import InvalidKeyError, InvalidTaskError, RetryOptions, TaskSpec
from flask_taskqueue.core.tasks.spec import NewTask, SpecOptions
from tests.apps import Bench, bench
from tests.databases import TestDatabase

SOON = datetime.now(UTC) + timedelta(days=1)

EVERYWHERE: dict[str, dict[str, Any]] = {
    "concurrency_key": {"concurrency_key": "k"},
    "concurrency_limit": {"concurrency_limit": 3, "concurrency_key": "k"},
    "countdown": {"countdown": "10m"},
    "deadline": {"deadline": "10m"},
    "expires": {"expires": timedelta(hours=1)},
    "headers": {"headers": {"X-Kind": "a"}},
    "keep_result": {"keep_result": True},
    "on_conflict": {"on_conflict": "replace", "unique_key": "k"},
    "priority": {"priority": 3},
    "queue": {"queue": "mail"},
    "rate_key": {"rate_key": "k", "queue": "mail"},
    "retry": {"retry": RetryOptions(task_retry_limit=3)},
    "serial_key": {"serial_key": "k"},
    "target": {"target": "https://api.example"},
    "then": {"then": []},  # the tests put a task there
    "unique_key": {"unique_key": "k"},
}
OF_ONE_TASK: dict[str, dict[str, Any]] = {"name": {"name": "n"}, "eta": {"eta": SOON}}
BODY = {"json", "payload", "event", "method"}

CONFIG: dict[str, Any] = {
    "TASKQUEUE_QUEUES": {"mail": {"rate_per_key": "10/m"}},
    "TASKQUEUE_ALLOWED_HOSTS": ["api.example"],
}


class Handler:
    """A worker or a task function, and the three ways to say an option of its tasks."""

    def __init__(self, one: Bench, kind: str) -> None:
        self._one = one
        self._kind = kind
        self._follower = one.tasks.worker("/follower")(lambda: None)

    def declared(self, options: dict[str, Any]) -> NewTask:
        """The task that add() stores without further options."""
        return self._new(self._declare(options).spec())

    def by_options(self, options: dict[str, Any]) -> NewTask:
        """The one of a handler that declares nothing, with options()."""
        return self._new(self._declare({}).options(**self._filled(options)).spec())

    def by_add(self, options: dict[str, Any]) -> NewTask:
        """The same, by its URL."""
        url, body = ("/w", {}) if self._kind == "worker" else ("/_taskqueue/task/f", {"json": {}})
        self._declare({})
        return self._new(TaskSpec(url, **body, **self._filled(options)))

    def _declare(self, options: dict[str, Any]) -> Any:
        tasks, options = self._one.tasks, self._filled(options)
        return (
            tasks.worker("/w", endpoint="w", **options)
            if self._kind == "worker"
            else tasks.task(name="f", **options)
        )(handle)

    def _filled(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "then": [self._follower.spec()]} if "then" in options else options

    def _new(self, spec: TaskSpec) -> NewTask:
        new: NewTask = self._one.runtime.new_task(spec)
        return replace(new, id="")


def handle() -> None:
    """A handler."""


@pytest.fixture(params=["worker", "task function"])
def handler(request: pytest.FixtureRequest, sqlite_database: TestDatabase) -> Any:
    """A handler of either kind."""
    with bench(sqlite_database.url, **CONFIG) as one:
        yield Handler(one, request.param)


def test_each_option_is_in_one_of_the_tables() -> None:
    """So that a new one is tried in each place too."""
    names = SpecOptions.__optional_keys__ - {"transactional"}
    assert EVERYWHERE.keys() | OF_ONE_TASK.keys() | BODY == names


@pytest.mark.parametrize("option", EVERYWHERE)
def test_an_option_may_stand_in_each_of_three_places(handler: Handler, option: str) -> None:
    """At the declaration, at options() and at add() it means the same."""
    options = EVERYWHERE[option]
    found = handler.by_options(options)
    assert found == handler.declared(options) == handler.by_add(options)
    assert found != handler.by_options({})


@pytest.mark.parametrize("option", OF_ONE_TASK)
def test_what_is_one_tasks_own_may_stand_in_two(handler: Handler, option: str) -> None:
    """At the declaration it is refused: see the last test here."""
    options = OF_ONE_TASK[option]
    assert handler.by_options(options) == handler.by_add(options) != handler.by_options({})


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("kind", ["worker", "task function"])
def test_transactional_may_stand_in_each_place_too(
    on_sqlite: Bench, kind: str, given: bool
) -> None:
    """At the declaration it says how the handler runs, elsewhere how its task is stored."""
    tasks, db = on_sqlite.tasks, on_sqlite.db
    declare: Any = (
        tasks.worker("/w", endpoint="w", transactional=given)
        if kind == "worker"
        else tasks.task(name="f", transactional=given)
    )

    @declare
    def handler() -> None:
        counter = on_sqlite.Counter
        db.session.execute(sa.update(counter).values(count=counter.count + 1))
        if not given:
            db.session.commit()

    db.session.add(on_sqlite.Counter(id=2, count=0))
    if not given:
        db.session.rollback()
    task = handler.options(transactional=given).add()
    assert task.is_committed is not given
    assert tasks.add(handler.spec(), transactional=given).is_committed is not given
    db.session.commit()
    assert tasks.drain() == 2
    assert on_sqlite.count() == 2


def test_what_is_given_goes_before_what_is_declared_and_what_it_excludes(
    on_sqlite: Bench,
) -> None:
    """An eta before a countdown, one key before another; what stays applies where it can."""
    declared: Any = {"countdown": "1h", "serial_key": "s", "on_conflict": "raise"}

    @on_sqlite.tasks.worker("/sync", **declared)
    def sync() -> None: ...

    task = sync.add()
    assert (task.serial_key, task.unique_key) == ("s", None)
    assert task.eta == task.created_at + timedelta(hours=1)
    other = sync.options(eta=SOON, concurrency_key="c", unique_key="u").add()
    assert (other.eta, other.serial_key, other.concurrency_key) == (SOON, None, "c")
    with pytest.raises(InvalidTaskError, match="unique_key"):
        sync.options(unique_key="u").add()
    at_once = on_sqlite.tasks.add("/sync", json=None, countdown=0)
    assert at_once.eta == at_once.created_at


def test_a_null_body_is_not_taken_for_an_option_that_is_not_given(on_sqlite: Bench) -> None:
    """Where the handler declares options too."""
    on_sqlite.tasks.worker("/sync", priority=1)(lambda: None)
    new = on_sqlite.runtime.new_task(TaskSpec("/sync", json=None))
    assert new.request.body == b"null"


def test_the_tasks_of_a_schedule_are_due_when_it_says(on_sqlite: Bench) -> None:
    """Not after the countdown that their handler declares."""

    @on_sqlite.tasks.cron("every 5 minutes")
    @on_sqlite.tasks.worker("/tick", countdown="1h")
    def tick() -> None: ...

    task = on_sqlite.tasks.get_schedule("tick").run_now()
    assert task.eta - task.created_at < timedelta(minutes=1)


def test_what_a_handler_declares_for_its_tasks_is_their_default(on_sqlite: Bench) -> None:
    """However it is added; options() and add() say otherwise. So for task functions."""
    declared: Any = {"priority": 3, "keep_result": True, "expires": "1h", "unique_key": "sync"}

    @on_sqlite.tasks.worker("/sync", **declared)
    def sync() -> str:
        return "done"

    @on_sqlite.tasks.task(serial_key="mail", priority=-2)
    def send(to: str) -> None: ...

    task = on_sqlite.tasks.add("/sync")
    assert (task.priority, task.unique_key) == (3, "sync")
    assert task.expires_at == task.created_at + timedelta(hours=1)
    assert sync.add().id == task.id  # there is one already
    other = sync.options(priority=5, unique_key="another").add()
    assert (other.priority, other.unique_key) == (5, "another")
    on_sqlite.tasks.drain()
    assert on_sqlite.tasks.get(task.id).result.text == "done"
    assert (send.enqueue("ana").priority, send.enqueue("bo").serial_key) == (-2, "mail")


@pytest.mark.parametrize(
    "when",
    [
        {"countdown": 60, "expires": 30},
        {"countdown": "1m", "expires": datetime.now(UTC)},
        {"eta": SOON, "expires": SOON},
        {"eta": SOON, "expires": timedelta(minutes=5)},
        {"countdown": "2h"},
    ],
)
def test_a_task_that_would_expire_before_it_is_due_is_refused(
    on_sqlite: Bench, when: dict[str, Any]
) -> None:
    """Also where the handler declares when it expires; nothing is stored."""

    @on_sqlite.tasks.worker("/late", expires="1h")
    def late() -> None: ...

    with pytest.raises(InvalidTaskError, match="so it would never run"):
        on_sqlite.tasks.add("/late", **when)
    assert on_sqlite.tasks.find() == []
    on_sqlite.tasks.add("/late", eta=datetime.now(UTC) - timedelta(days=1))
    on_sqlite.tasks.add("/late", countdown="30m", expires=SOON)


def test_a_concurrency_limit_needs_a_key(on_sqlite: Bench) -> None:
    """A handler may declare one for those of its tasks that have a key."""

    @on_sqlite.tasks.worker("/limited", concurrency_limit=2)
    def limited() -> None: ...

    for other in ({}, {"serial_key": "a"}):
        with pytest.raises(InvalidKeyError, match="concurrency_limit needs a concurrency_key"):
            on_sqlite.tasks.add("/limited", concurrency_limit=1, **other)
    with pytest.raises(InvalidKeyError, match="needs a concurrency_key"):
        limited.options(concurrency_limit=3).add()
    assert limited.add().concurrency_key is None
    assert limited.options(serial_key="a").add().serial_key == "a"
    with on_sqlite.store.reading() as connection:
        keyed = limited.options(concurrency_key="k").add()
        assert on_sqlite.store.tasks.get(connection, keyed.id).lock_limit == 2


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"priority": 10}, InvalidTaskError, "from -9 to 9"),
        ({"keep_result": "yes"}, InvalidTaskError, "keep_result is 'yes'"),
        ({"on_conflict": "never"}, InvalidTaskError, "on_conflict is 'never'"),
        ({"concurrency_limit": 0}, InvalidTaskError, "concurrency_limit is 0"),
        ({"countdown": "soon"}, InvalidTaskError, "countdown is 'soon'"),
        ({"headers": {"Host": "x"}}, InvalidTaskError, "header 'Host'"),
        ({"target": 5}, InvalidTaskError, "target is of type int"),
        ({"then": "/next"}, InvalidTaskError, "then is of type str"),
        ({"then": [TaskSpec("/other")]}, InvalidTaskError, "may lead back"),
        ({"deadline": "soon"}, InvalidTaskError, "deadline is 'soon'"),
        ({"serial_key": "a", "concurrency_key": "b"}, InvalidTaskError, "exclude each other"),
        ({"expires": "soon"}, InvalidTaskError, "expires"),
        ({"name": "n"}, TypeError, "a handler has no option 'name'; a name is one task's own"),
        ({"eta": "now"}, TypeError, "a handler has no option 'eta'; an eta is one task's own"),
        ({"json": 1}, TypeError, "a handler has no option 'json'; the body"),
        ({"payload": ""}, TypeError, "a handler has no option 'payload'; the body"),
        ({"method": "PUT"}, TypeError, "a handler has no option 'method'; a worker has methods="),
        ({"prority": 1}, TypeError, "did you mean priority"),
    ],
)
def test_an_option_that_cannot_be_declared_is_refused_there(
    on_sqlite: Bench, options: Any, error: type[Exception], word: str
) -> None:
    """Not at each add()."""
    with pytest.raises(error, match=word):
        on_sqlite.tasks.worker("/other", **options)


@pytest.mark.parametrize("given", ["/work", TaskSpec("/work"), {"url": "/work"}, None])
def test_one_task_in_the_place_of_a_list_is_refused(on_sqlite: Bench, given: Any) -> None:
    """Instead of each letter of its URL being taken for one."""
    tasks = on_sqlite.tasks
    sentence = f"the tasks are of type {type(given).__name__}; give a list"
    for add in (tasks.batch, tasks.add_many, tasks.queue("default").add_many):
        with pytest.raises(InvalidTaskError, match=sentence):
            add(given)
