"""App Engine's deferred module, without pickle and with it."""

from __future__ import annotations

import base64
import functools
import importlib
import io
import json
import logging
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from email.quoprimime import unquote
from email.utils import formatdate
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from flask import Flask, request

from flask_taskqueue import ConfigurationError, TaskQueue
from flask_taskqueue.appengine import deferred, taskqueue
from flask_taskqueue.appengine.pickled import Pickles
from tests.apps import Bench, bench, closing, served
from tests.databases import TestDatabase

from . import jobs

URL = "/_ah/queue/deferred"
HERE = "tests.appengine.jobs"


@pytest.fixture(autouse=True)
def calls() -> Iterator[list[Any]]:
    """What the jobs recorded."""
    jobs.CALLS.clear()
    yield jobs.CALLS
    jobs.CALLS.clear()


@pytest.fixture
def shop(database: TestDatabase) -> Iterator[Bench]:
    """An application on each database."""
    with bench(database.url, own_models=True, TASKQUEUE_QUEUES={"mail": {}}) as found:
        found.Counter.__module__ = HERE
        jobs.__dict__["Counter"] = found.Counter
        found.Counter.__qualname__ = "Counter"
        yield found
        del jobs.__dict__["Counter"]


@pytest.fixture
def small(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application on one database."""
    with bench(sqlite_database.url) as found:
        yield found


@pytest.fixture
def pickling(database: TestDatabase) -> Iterator[Bench]:
    """An application that also pickles."""
    with bench(database.url, TASKQUEUE_DEFERRED="pickle") as found:
        yield found


def row_of(body: bytes) -> Any:
    """Write a task for the deferred route into the table, as somebody else may."""
    return taskqueue.add(url=URL, payload=body)


def end_of(shop: Bench, task: Any) -> tuple[str, str]:
    """The state and the last error of a task, after what is due has run."""
    shop.tasks.drain()
    found = shop.tasks.get(stored_id(shop, task))
    return str(found.state), found.last_error or ""


def stored_id(shop: Bench, task: Any) -> str:
    """The id of a task that the module added."""
    [found] = [item for item in shop.tasks.find() if (item.name or item.id) == task.name]
    return found.id


VALUES = [
    None,
    True,
    7,
    -(10**30),
    1.5,
    float("inf"),
    "grüße",
    "",
    b"\x00\xff",
    [1, [2, ()]],
    (1, "a", (2,)),
    {1, 2},
    frozenset({("a", 1)}),
    {"a": {"b": [1]}},
    {1: "a", (2, 3): "b"},
    {"$": "tuple", "v": [1]},
    {"$": 1},
    datetime(2026, 2, 3, 4, 5, 6, 7),  # noqa: DTZ001 - naive ones are stored as such
    datetime(2026, 2, 3, tzinfo=UTC),
    datetime(2026, 2, 3, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    date(2026, 2, 3),
    time(4, 5, 6, 7, tzinfo=UTC),
    timedelta(days=-1, microseconds=1),
    Decimal("1.10"),
    UUID(int=5),
    jobs.Color.RED,
    jobs.record,
    jobs.Report,
    jobs.Report.Inner,
]


def test_a_function_is_called_with_what_it_was_deferred_with(shop: Bench, calls: list[Any]) -> None:
    """Every kind of value arrives as it was, of the same type."""
    task = deferred.defer(jobs.record, *VALUES, key=VALUES, _countdown=0)
    assert end_of(shop, task) == ("succeeded", "")
    [(args, kwargs)] = calls
    assert [(type(arg), arg) for arg in args] == [(type(one), one) for one in VALUES]
    assert repr(list(args)) == repr(VALUES) == repr(kwargs["key"])


def test_what_is_stored_is_json_that_names_the_function(shop: Bench) -> None:
    """Nothing else."""
    task = deferred.defer(jobs.record, (1,), a="b")
    with shop.store.reading() as connection:
        record = shop.store.tasks.get(connection, stored_id(shop, task))
    assert json.loads(bytes(record.body)) == {
        "f": f"{HERE}:record",
        "a": [{"$": "tuple", "v": [1]}],
        "k": {"a": "b"},
    }
    assert json.loads(record.headers or "")["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("function", "recorded"),
    [
        (jobs.Report.make, (jobs.Report, 5)),
        (jobs.Monthly.make, (jobs.Monthly, 5)),
        (jobs.Report.Inner.make, (jobs.Report.Inner, 5)),
        (jobs.Report.count, ("static", 5)),
        (jobs.wait, 5),
        (jobs.two, (5, 2)),
    ],
)
def test_methods_of_classes_and_coroutines_are_called(
    small: Bench, calls: list[Any], function: Any, recorded: Any
) -> None:
    """A class method with the class that it was taken from."""
    assert end_of(small, deferred.defer(function, 5)) == ("succeeded", "")
    assert calls == [recorded]


def test_a_row_is_loaded_again_by_its_key(shop: Bench, calls: list[Any]) -> None:
    """As it is when the task runs; its methods are called so too."""

    def change(self: Any, number: int) -> None:
        calls.append((self.id, self.count, number))

    change.__module__, change.__qualname__ = HERE, "Counter.change"
    shop.Counter.change = change
    counter = shop.db.session.get(shop.Counter, 1)
    deferred.defer(jobs.call, jobs.record, counter)
    deferred.defer(counter.change, 7)
    counter.count = 41
    shop.db.session.commit()
    shop.tasks.drain()
    assert sorted(str(task.state) for task in shop.tasks.find()) == ["succeeded"] * 2
    assert (1, 41, 7) in calls
    [found] = [call[0][0] for call in calls if len(call) == 2]
    assert isinstance(found, shop.Counter)


def test_a_row_that_is_gone_ends_the_task(shop: Bench, calls: list[Any]) -> None:
    """It says which one; nothing is called."""
    counter = shop.Counter(id=5, count=0)
    shop.db.session.add(counter)
    shop.db.session.flush()
    task = deferred.defer(jobs.record, counter)
    shop.db.session.delete(counter)
    shop.db.session.commit()
    state, error = end_of(shop, task)
    assert (state, calls) == ("dead", [])
    assert "the Counter with key (5,) is gone" in error


@pytest.fixture
def visits(shop: Bench, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Rows with a key of two parts, of a number and a date."""

    class Visit(shop.db.Model):  # type: ignore[misc,name-defined]
        id = shop.db.mapped_column(shop.db.Integer, primary_key=True, autoincrement=False)
        day = shop.db.mapped_column(shop.db.Date, primary_key=True)

    Visit.__module__, Visit.__qualname__ = HERE, "Visit"
    monkeypatch.setattr(jobs, "Visit", Visit, raising=False)
    Visit.__table__.create(shop.db.engine)
    return Visit


@pytest.mark.parametrize(
    "key",
    [
        ["x", "no date"],
        [1, "no date"],
        [10**30, {"$": "date", "v": "2026-02-03"}],
        [[1], {"$": "date", "v": "2026-02-03"}],
        [1],
        1,
        [],
    ],
)
def test_a_key_that_no_row_can_have_ends_the_task(
    shop: Bench, visits: Any, calls: list[Any], key: Any
) -> None:
    """At its first attempt, whether SQLAlchemy or the database refuses it or nothing is found."""
    task = row_of(hostile(f"{HERE}:record", {"$": "row", "v": [f"{HERE}:{visits.__name__}", key]}))
    state, error = end_of(shop, task)
    assert (state, calls) == ("dead", []), error


def test_a_row_that_cannot_be_looked_for_now_is_looked_for_again(
    shop: Bench, visits: Any, calls: list[Any]
) -> None:
    """What goes wrong with the database, or with the session, says nothing about the key."""
    shop.app.config["PROPAGATE_EXCEPTIONS"] = False
    visit = visits(id=1, day=date(2026, 2, 3))
    shop.db.session.add(visit)
    shop.db.session.commit()
    task = deferred.defer(jobs.record, visit)
    body = deferred.serialize(jobs.record, visit)
    shop.db.session.expunge_all()
    shop.db.session.add(visits(id=2, day="no date"))
    with pytest.raises(sa.exc.StatementError):
        deferred.run(body)
    with pytest.raises(sa.exc.PendingRollbackError):
        deferred.run(body)
    shop.db.session.rollback()
    visits.__table__.drop(shop.db.engine)
    state, error = end_of(shop, task)
    assert (state, calls) == ("scheduled", []), error


def test_a_row_without_key_is_refused(shop: Bench) -> None:
    """It could not be found again."""
    with pytest.raises(taskqueue.InvalidTaskError, match=r"argument 1: .*no primary key yet"):
        deferred.defer(jobs.record, shop.Counter(count=0))


def test_a_call_in_a_session_that_rolls_back_is_not_stored(shop: Bench, calls: list[Any]) -> None:
    """And one that commits is."""
    shop.db.session.get(shop.Counter, 1).count = 5
    deferred.defer(jobs.record, 1)
    shop.db.session.rollback()
    deferred.defer(jobs.record, 2, _transactional=True)
    shop.db.session.rollback()
    shop.db.session.get(shop.Counter, 1).count = 5
    deferred.defer(jobs.record, 3)
    shop.db.session.commit()
    shop.tasks.drain()
    assert calls == [((3,), {})]


def test_options_are_those_of_a_task(small: Bench) -> None:
    """With an underscore before each, so that they are none of the function's."""
    task = deferred.defer(
        jobs.record,
        name="of the function",
        _name="one",
        _countdown=3600,
        _queue="default",
        _headers={"X-One": "1"},
        _retry_options=taskqueue.TaskRetryOptions(task_retry_limit=3),
    )
    [stored] = small.tasks.find()
    assert (task.name, stored.name, stored.url, task.was_enqueued) == ("one", "one", URL, True)
    assert stored.eta > datetime.now(UTC)
    with pytest.raises(taskqueue.TaskAlreadyExistsError):
        deferred.defer(jobs.record, _name="one")
    with pytest.raises(taskqueue.TaskTooLargeError, match="TASKQUEUE_MAX_BODY"):
        deferred.defer(jobs.record, "x" * 103_000)


def test_a_worker_of_ones_own_runs_a_call(shop: Bench, calls: list[Any]) -> None:
    """With _url and run(), as in App Engine; _url=None is the URL of the queue."""
    returned: list[Any] = []

    @shop.tasks.worker("/own")
    def own() -> None:
        returned.append(deferred.run(request.get_data()))

    @shop.tasks.worker("/_ah/queue/mail")
    def mail() -> None:
        returned.append(deferred.run(request.get_data()))

    deferred.defer(jobs.record, 1, _url="/own")
    deferred.defer(jobs.record, 2, _url=None, _queue="mail")
    shop.tasks.drain()
    assert sorted(call[0] for call in calls) == [(1,), (2,)]
    assert returned == ["a reply that nobody reads"] * 2


def test_a_stranger_runs_nothing(small: Bench, calls: list[Any]) -> None:
    """Neither at the route nor at a view that calls run() without being a worker."""
    body = deferred.serialize(jobs.record, 1)

    @small.app.post("/open")
    def anyone() -> str:
        with pytest.raises(deferred.PermanentTaskFailure, match="no delivery"):
            deferred.run(request.get_data())
        return "refused"

    client = small.app.test_client()
    assert client.post(URL, data=body, headers={"X-AppEngine-TaskName": "a"}).status_code == 403
    assert client.post("/open", data=body).text == "refused"
    assert calls == []
    assert deferred.run(body) == "a reply that nobody reads"  # in a script, by its own hand


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (jobs.record, (io.BytesIO(),), "argument 1: a value of type _io.BytesIO cannot be stored"),
        (jobs.record, (1, [OrderedDict()]), "argument 2: a value of type collections.OrderedDict"),
        (jobs.record, (jobs.Report(),), "argument 1: .*jobs.Report cannot be stored: give its key"),
        (jobs.record, (os.system,), "argument 1: a value of type builtins.builtin_function"),
        (jobs.record, (os.path.join,), "argument 1: .*TASKQUEUE_DEFERRED_MODULES"),
        (jobs.record, (OrderedDict,), "argument 1: .*TASKQUEUE_DEFERRED_MODULES"),
        (jobs.record, ("\ud800",), "argument 1: .*surrogate"),
        (jobs.record, (datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")),), None),
        (jobs.Report().render, (), "render is neither a function nor a class method"),
        (os.system, ("true",), "system is neither a function nor"),
        (os.path.join, ("a",), "TASKQUEUE_DEFERRED_MODULES"),
        (lambda: None, (), "is no name of a function"),
        (jobs._private, (), "without private parts"),
        (jobs.made, (), "neither a function nor"),
        (5, (), "a int is neither a function nor"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_its_name(
    small: Bench, function: Any, args: Any, message: str | None
) -> None:
    """At defer(), not when it runs."""
    if message is None:
        deferred.defer(function, *args)
        return
    with pytest.raises(taskqueue.InvalidTaskError, match=message):
        deferred.defer(function, *args)
    with pytest.raises(taskqueue.InvalidTaskError, match="argument 'key': "):
        deferred.defer(jobs.record, key=io.BytesIO())
    assert small.tasks.find() == []


def test_a_list_that_holds_itself_is_refused(small: Bench) -> None:
    """It has no end."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(taskqueue.InvalidTaskError, match="holds itself"):
        deferred.defer(jobs.record, endless)


def test_a_local_function_and_a_task_function_are_refused(small: Bench) -> None:
    """The one has no name, the other has a way of its own."""

    def local() -> None: ...

    @small.tasks.task
    def sent() -> None: ...

    with pytest.raises(taskqueue.InvalidTaskError, match="no name of a function"):
        deferred.defer(local)
    with pytest.raises(taskqueue.InvalidTaskError, match=r"call sent.enqueue\(...\)"):
        deferred.defer(sent)


def hostile(name: str, *args: Any) -> bytes:
    """A body that calls what it names."""
    return json.dumps({"f": name, "a": list(args)}).encode()


MARKER = "touched by a hostile row"
HOSTILE = [
    (hostile("os:system", f"touch {MARKER!r}"), "neither in the app's own package"),
    (hostile("posix:system", f"touch {MARKER!r}"), "neither in the app's own package"),
    (hostile("builtins:eval", "1"), "neither in the app's own package"),
    (hostile("subprocess:run", ["touch", MARKER]), "neither in the app's own package"),
    (hostile("tests_of_another:run"), "neither in the app's own package"),
    (hostile(f"{HERE}:system", f"touch {MARKER!r}"), "no function that is defined there"),
    (hostile(f"{HERE}:subprocess.run", ["touch", MARKER]), "no class that is defined there"),
    (hostile(f"{HERE}:made.attack", f"touch {MARKER!r}"), "no function that is defined there"),
    (hostile(f"{HERE}:asyncio.run"), "no class that is defined there"),
    (hostile(f"{HERE}:record.__call__"), "without private parts"),
    (hostile(f"{HERE}:record.__globals__"), "without private parts"),
    (hostile(f"{HERE}:Report.__init__"), "without private parts"),
    (hostile(f"{HERE}:Report.__subclasses__"), "without private parts"),
    (hostile(f"{HERE}:_private"), "without private parts"),
    (hostile(f"{HERE}:__builtins__.eval", "1"), "without private parts"),
    (hostile("tests.__main__:record"), "without private parts"),
    (hostile(f"{HERE}:Report"), "no function that is defined there"),
    (hostile(f"{HERE}:CALLS.append", 1), "no class that is defined there"),
    (hostile(f"{HERE}:Color.RED"), "no function that is defined there"),
    (hostile(f"{HERE}:Monthly.mro"), "no function that is defined there"),
    (hostile(f"{HERE}:nothing"), "no function that is defined there"),
    (hostile("tests.appengine.nowhere:record"), "cannot be imported"),
    (hostile(f"{HERE}:"), "no name of a function"),
    (hostile(HERE), "no name of a function"),
    (hostile(f"{HERE}:record:record"), "no name of a function"),
    (hostile(f"{HERE}\n:record"), "no name of a function"),
    (json.dumps({"f": 5}).encode(), "no name of a function"),
    (json.dumps({"f": [HERE]}).encode(), "no name of a function"),
    (b"[]", "no deferred call"),
    (b"5", "no deferred call"),
    (b"", "no JSON"),
    (b"{", "no JSON"),
    (b"\xff", "no JSON"),
    (b"[" * 90_000, "no JSON"),
    (b'{"f": ' + b"9" * 5000 + b"}", "no JSON"),
    (json.dumps({"f": f"{HERE}:record", "x": 1}).encode(), "no deferred call"),
    (json.dumps({"f": f"{HERE}:record", "a": "b"}).encode(), "are none"),
    (json.dumps({"f": f"{HERE}:record", "k": {"$": "dict", "v": []}}).encode(), "are none"),
    (hostile(f"{HERE}:call", {"$": "function", "v": "os:system"}, "true"), "own package"),
    (hostile(f"{HERE}:call", {"$": "function", "v": f"{HERE}:system"}, "true"), "no function"),
    (hostile(f"{HERE}:call", {"$": "class", "v": "subprocess:Popen"}, ["true"]), "own package"),
    (hostile(f"{HERE}:record", {"$": "class", "v": f"{HERE}:Callable"}), "not defined there"),
    (hostile(f"{HERE}:record", {"$": "row", "v": [f"{HERE}:Report", [1]]}), "no class of rows"),
    (hostile(f"{HERE}:record", {"$": "enum", "v": [f"{HERE}:Report", "a"]}), "no plain values"),
    (hostile(f"{HERE}:record", {"$": "enum", "v": [f"{HERE}:Color", "mro"]}), "no plain values"),
    (hostile(f"{HERE}:record", {"$": "object", "v": 1}), "no plain values"),
    (hostile(f"{HERE}:record", {"$": ["tuple"], "v": 1}), "no plain values"),
    (hostile(f"{HERE}:record", {"$": "tuple"}), "no plain values"),
    (hostile(f"{HERE}:record", {"$": "bytes", "v": 5}), "no plain values"),
    (hostile(f"{HERE}:record", {"$": "datetime", "v": ["2026-01-01", "../x", 0]}), "plain values"),
    (hostile(f"{HERE}:record", {"$": "timedelta", "v": [10**30]}), "no plain values"),
    (hostile(f"{HERE}:record", {"$": "set", "v": [[]]}), "no plain values"),
    (hostile(f"{HERE}:record", {"$": "dict", "v": [1]}), "no plain values"),
]


class Attack:
    """What runs when a pickle of it is loaded."""

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {MARKER!r}",))


PICKLE = pickle.dumps(Attack())
HOSTILE += [
    (PICKLE, "no JSON"),
    (b"pickle:" + PICKLE, "TASKQUEUE_DEFERRED = 'pickle'"),
    (b"pickle:" + base64.b64encode(PICKLE), "TASKQUEUE_DEFERRED = 'pickle'"),
]


def test_hostile_rows_are_dead_and_run_nothing(
    shop: Bench, calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with a reason, at its first attempt."""
    monkeypatch.chdir(tmp_path)
    tasks = [row_of(body) for body, _ in HOSTILE]
    shop.tasks.drain()
    found = {task.name or task.id: task for task in shop.tasks.find()}
    for task, (body, reason) in zip(tasks, HOSTILE, strict=True):
        stored = found[task.name]
        assert (stored.state, stored.attempts) == ("dead", 1), body[:80]
        assert reason in (stored.last_error or ""), body[:80]
    assert calls == []
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize(
    "sign", ["not at all", "by another secret", "for another task", "and changed afterwards"]
)
def test_a_pickle_is_loaded_only_if_it_is_signed_for_its_task(
    pickling: Bench,
    calls: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sign: str,
) -> None:
    """By the app's secret, for this very task, and unchanged; otherwise nothing is loaded."""
    monkeypatch.chdir(tmp_path)
    task = taskqueue.Task(url=URL)
    own, others = Pickles(pickling.runtime.secrets), Pickles(["another secret of 20"])

    def body(task_id: str) -> bytes:
        if sign == "not at all":
            return b"pickle:" + PICKLE
        if sign == "by another secret":
            return others.write(Attack(), task_id)
        if sign == "for another task":
            return own.write(Attack(), "01JAB3ZZZZZZZZZZZZZZZZZZZZ")
        return own.write(("x", Attack()), task_id).replace(b"x", b"y", 1)

    task.set_body(body, "application/octet-stream")
    state, error = end_of(pickling, task.add())
    assert (state, calls) == ("dead", [])
    assert "was not loaded" in error
    assert not (tmp_path / MARKER).exists()


def test_a_signed_pickle_runs(pickling: Bench, calls: list[Any]) -> None:
    """What JSON cannot express is pickled, for its own task; everything else stays JSON."""
    pickled = deferred.defer(jobs.record, OrderedDict(a=1))
    method = deferred.defer(jobs.Report().render)
    plain = deferred.defer(jobs.record, 1)
    assert end_of(pickling, pickled) == end_of(pickling, method) == ("succeeded", "")
    assert sorted(map(str, calls)) == sorted(
        map(str, [((OrderedDict(a=1),), {}), "rendered", ((1,), {})])
    )
    with pickling.store.reading() as connection:
        bodies = [
            bytes(pickling.store.tasks.get(connection, stored_id(pickling, task)).body)[:7]
            for task in (pickled, plain)
        ]
    assert bodies == [b"pickle:", b'{"f":"t']
    with pytest.raises(taskqueue.InvalidTaskError, match="cannot be pickled"):
        deferred.defer(jobs.record, lambda: None)
    with pytest.raises(taskqueue.InvalidTaskError, match="only defer"):
        deferred.serialize(jobs.record, OrderedDict())
    with pytest.raises(taskqueue.InvalidTaskError, match="a NoneType is neither a function"):
        deferred.defer(None)


def test_a_pickle_outside_of_its_task_is_not_loaded(pickling: Bench, calls: list[Any]) -> None:
    """There is nothing that it could be signed for."""
    body = Pickles(pickling.runtime.secrets).write((jobs.record, (), {}), "any")
    with pytest.raises(deferred.PermanentTaskFailure, match="only in the task"):
        deferred.run(body)
    assert calls == []


def test_pickles_need_a_secret(tmp_path: Path) -> None:
    """Without one nothing could be verified."""
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(TESTING=True, TASKQUEUE_DEFERRED="pickle")
    TaskQueue(app)
    with app.app_context(), closing(app), pytest.raises(taskqueue.InternalError, match="SECRET"):
        deferred.defer(jobs.record, OrderedDict())


def test_failures_say_whether_to_try_again(small: Bench, calls: list[Any]) -> None:
    """App Engine's two exceptions, and any other."""
    small.app.config["PROPAGATE_EXCEPTIONS"] = False
    assert end_of(small, deferred.defer(jobs.fail_for_good)) == ("dead", "there is no such order")
    calls.clear()
    later = taskqueue.TaskRetryOptions(min_backoff_seconds=600)
    once = deferred.defer(jobs.fail_once, _retry_options=later)
    state, _ = end_of(small, once)
    assert (state, calls) == ("scheduled", ["tried"])
    small.tasks.get(stored_id(small, once)).run_now()
    assert end_of(small, once)[0] == "succeeded"
    state, error = end_of(small, deferred.defer(jobs.fail, _retry_options=later))
    assert state == "scheduled"
    assert "a mistake" in error
    assert issubclass(deferred.PermanentTaskFailure, deferred.Error)
    assert issubclass(deferred.SingularTaskFailure, deferred.Error)


def test_work_that_nobody_would_do_is_a_failure(small: Bench, calls: list[Any]) -> None:
    """A generator has not begun."""
    state, error = end_of(small, deferred.defer(jobs.generate))
    assert (state, calls) == ("dead", [])
    assert "generator" in error


def test_arguments_that_do_not_fit_are_a_misfit(small: Bench, calls: list[Any]) -> None:
    """They may fit the function of another release, so they are tried again for an hour."""
    task = deferred.defer(jobs.two)
    state, error = end_of(small, task)
    assert (state, calls) == ("scheduled", [])
    assert "missing" in error


def test_other_modules_are_allowed_by_name(sqlite_database: TestDatabase) -> None:
    """With what is below them, and nothing that begins alike."""
    with bench(sqlite_database.url, TASKQUEUE_DEFERRED_MODULES=["email"]) as found:
        assert end_of(found, deferred.defer(formatdate, 1)) == ("succeeded", "")
        assert end_of(found, deferred.defer(unquote, "=41")) == ("succeeded", "")
        state, error = end_of(found, row_of(hostile("emailx:run")))
        assert (state, "own package" in error) == ("dead", True)


SCRIPT = """
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_taskqueue import TaskQueue
from flask_taskqueue.appengine import deferred

app = Flask(__name__)
app.config["SECRET_KEY"] = "a secret"
app.config["TASKQUEUE_CONCURRENCY"] = 1
app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{Path(__file__).with_name('guests.db')}"
db = SQLAlchemy(app)
tasks = TaskQueue(app, db)


class Guest(db.Model):
    id = db.mapped_column(db.Integer, primary_key=True)

    def greet(self, kind, function):
        print(__name__, kind is Guest and function is job, flush=True)

    @classmethod
    def count(cls, numbers):
        print(__name__, cls is Guest, numbers, flush=True)


def job(guest):
    print(__name__, guest.id, flush=True)


if __name__ == "__main__":
    app.testing = True
    with app.app_context():
        db.create_all()
        guest = Guest()
        db.session.add(guest)
        db.session.commit()
        for place in ("here", "elsewhere"):
            deferred.defer(job, guest)
            deferred.defer(guest.greet, Guest, job)
            deferred.defer(Guest.count, {3})
            if place == "here":
                tasks.drain()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "module"), [(["main.py"], "main"), (["-m", "shop.main"], "shop.main")]
)
def test_the_functions_of_a_script_have_the_name_by_which_others_import_it(
    tmp_path: Path, script: list[str], module: str
) -> None:
    """So the script itself makes the calls, and so does a dispatcher that imports the app."""
    folder = tmp_path / Path(*module.split(".")[:-1])
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(SCRIPT)
    elsewhere = ["-m", "flask", "--app", module, "taskqueue", "run", "--burst", "--threads", "1"]
    said = []
    for arguments in (script, elsewhere):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines()[:3])
    names = ("__main__", module)
    assert said == [[f"{name} 1", f"{name} True", f"{name} True {{3}}"] for name in names]


def test_each_call_can_be_logged(small: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """At a level of one's choice, by the name of its function."""
    deferred.set_log_level(logging.WARNING)
    try:
        assert end_of(small, deferred.defer(jobs.record, "secret"))[0] == "succeeded"
    finally:
        deferred.set_log_level(logging.DEBUG)
    assert "deferred call of record" in caplog.text
    assert "secret" not in caplog.text


def test_app_engines_application_says_that_the_route_is_there() -> None:
    """Whoever still mounts it learns to take it away."""
    started: list[Any] = []
    body = b"".join(deferred.application({}, lambda *given: started.append(given)))
    assert started[0][0].startswith("501 ")
    assert b"TaskQueue(app) already" in body


def test_without_the_route_nothing_is_deferred(small: Bench, calls: list[Any]) -> None:
    """A task that nothing could run is not stored."""
    small.app.view_functions.pop("taskqueue.appengine.deferred")
    with pytest.raises(taskqueue.InternalError, match="TASKQUEUE_DEFERRED = 'json'"):
        deferred.defer(jobs.record)
    assert small.tasks.find() == []


def test_an_app_has_the_route_if_its_code_imports_deferred(
    sqlite_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is set up or after, until its first request, or if a setting says so."""
    rules = functools.partial(map, lambda rule: rule.rule)
    with bench(sqlite_database.url) as before:
        assert URL in rules(before.app.url_map.iter_rules())
    monkeypatch.delitem(sys.modules, deferred.__name__)
    with bench(sqlite_database.url, TASKQUEUE_DEFERRED="json") as set_up:
        assert URL in rules(set_up.app.url_map.iter_rules())
    with bench(sqlite_database.url) as after, bench(sqlite_database.url) as serving:
        serving.app.test_client().get("/")
        assert URL not in rules(after.app.url_map.iter_rules())
        importlib.import_module(deferred.__name__)
        assert URL in rules(after.app.url_map.iter_rules())
        assert URL not in rules(serving.app.url_map.iter_rules())


def test_a_route_of_ones_own_is_in_the_way(tmp_path: Path) -> None:
    """One would run for the other, so it is to be taken away."""
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="a secret for tests")
    app.add_url_rule(URL, "own", lambda: "done", methods=["POST"])
    with pytest.raises(ConfigurationError, match="is the URL of"):
        TaskQueue(app)


def test_calls_run_over_http(pickling: Bench, calls: list[Any]) -> None:
    """In the process that serves the app, where the signature of a pickle is verified too."""
    with served(pickling.app) as url:
        tasks = [
            deferred.defer(jobs.record, (1,)),
            deferred.defer(jobs.record, OrderedDict(a=1)),
            taskqueue.add(url=URL, payload=b"pickle:" + PICKLE),
        ]
        pickling.runtime.drain(base_url=url, transport="http")
    ended = [pickling.tasks.get(stored_id(pickling, task)) for task in tasks]
    assert [str(task.state) for task in ended] == ["succeeded", "succeeded", "dead"]
    assert "was not loaded" in (ended[2].last_error or "")
    assert sorted(map(str, calls)) == sorted(map(str, [(((1,),), {}), ((OrderedDict(a=1),), {})]))
