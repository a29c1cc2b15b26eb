"""The testing kit on real applications, with every database and with one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from flask import current_app, redirect, request
from flask_wtf import CSRFProtect
from werkzeug.exceptions import ServiceUnavailable

from flask_taskqueue import (
    BadTaskStateError,
    BadTransactionStateError,
    ConfigurationError,
    InvalidEtaError,
    InvalidUrlError,
    PermanentFailure,
    Retry,
    State,
    current_task,
)
from flask_taskqueue.appengine import taskqueue as appengine
from flask_taskqueue.store.database.transaction import close_engine
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.laid import Laid
from tests.receivers import receiver

Kit = tuple[Bench, TaskQueueTester]


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
def kit(request: pytest.FixtureRequest, laid: Laid, tmp_path: Any) -> Iterator[Kit]:
    """An application and its tester, on each database in turn."""
    if request.param == "memory":
        with bench("sqlite://") as one, TaskQueueTester(one.app) as tester:
            yield one, tester
        return
    with (
        laid.lend(request.param, tmp_path) as database,
        bench(database.url) as one,
        TaskQueueTester(one.app) as tester,
    ):
        yield one, tester


@pytest.fixture
def on_file(sqlite_database: TestDatabase) -> Iterator[Kit]:
    """An application on a SQLite file, and its tester."""
    with bench(sqlite_database.url) as one, TaskQueueTester(one.app) as tester:
        yield one, tester


def test_a_path_that_no_task_can_have_is_a_mistake_of_the_test(on_file: Kit) -> None:
    """It is told as by ``add()``; a misspelt one would always pass."""
    app, taskqueue = on_file
    app.tasks.worker("/worker/mail", methods=("GET",))(lambda: None)
    taskqueue.refute_enqueued("/worker/mail")
    taskqueue.refute_enqueued("/worker/mail?user=1")
    taskqueue.refute_enqueued("https://other.example/worker/mial")
    with pytest.raises(InvalidUrlError, match="answers POST /worker/mial"):
        taskqueue.refute_enqueued("/worker/mial")


def test_a_path_may_be_that_of_another_host(sqlite_database: TestDatabase) -> None:
    """Where tasks may go to one."""
    allowed: dict[str, Any] = {"TASKQUEUE_ALLOWED_HOSTS": ["other.example"]}
    with bench(sqlite_database.url, **allowed) as app, TaskQueueTester(app.app) as taskqueue:
        taskqueue.refute_enqueued("/hook")
        app.tasks.add("/hook", target="https://other.example")
        with pytest.raises(AssertionError, match="1 tasks matched"):
            taskqueue.refute_enqueued("/hook")


def test_the_only_task_of_a_handler_is_run_by_it(on_file: Kit) -> None:
    """And its parameters are found; without one, or with several, the error says so."""
    app, taskqueue = on_file

    @app.tasks.worker("/worker/mail")
    def mail(user: str) -> str:
        return user

    with pytest.raises(AssertionError, match="there are 0 tasks for"):
        taskqueue.run(mail)
    mail.add("ann")
    assert taskqueue.params(mail) == {"user": "ann"}
    assert taskqueue.run(mail).ok
    with pytest.raises(InvalidUrlError):
        taskqueue.run(5)


def test_a_task_is_stored_and_runs_when_the_test_says_so(kit: Kit) -> None:
    """And the test's session sees what the handler did."""
    one, taskqueue = kit

    @one.tasks.worker("/w", transactional=True)
    def handler(key: str) -> str:
        one.db.session.get(one.Counter, 1).count += 1
        return f"did {key}"

    assert one.db.session.get(one.Counter, 1).count == 0
    handler.add("a")
    task = taskqueue.assert_enqueued("/w", params={"key": "a"}, queue="default", count=1)
    assert (task.state, one.db.session.get(one.Counter, 1).count) == (State.SCHEDULED, 0)
    attempt = taskqueue.run(task)
    assert (attempt.ok, attempt.status, attempt.text, attempt.task.state) == (
        True,
        200,
        "did a",
        State.SUCCEEDED,
    )
    assert one.db.session.get(one.Counter, 1).count == 1
    with pytest.raises(BadTaskStateError, match="succeeded"):
        taskqueue.run(task)


def test_delays_and_retries_happen_in_simulated_time(kit: Kit) -> None:
    """A task never runs before its eta, a retry never before its wait; no test waits."""
    one, taskqueue = kit
    one.tasks.worker("/w", retry={"min_backoff_seconds": 60})(
        lambda: "no" if current_task.attempt > 2 else ("not yet", 503)
    )
    one.tasks.add("/w", countdown="1h")
    assert taskqueue.run_due() == ()
    taskqueue.advance("59m")
    assert taskqueue.run_due() == ()
    taskqueue.advance(60)
    assert [attempt.status for attempt in taskqueue.run_due()] == [503]
    assert taskqueue.run_all() == ()
    assert [attempt.status for attempt in taskqueue.advance(3600, run=True)] == [503, 200]
    assert taskqueue.get("/w").attempts == 3
    passed = taskqueue.now - datetime.now(UTC)
    assert timedelta(hours=1.99) < passed < timedelta(hours=2.01)


def test_rates_of_keys_follow_simulated_time() -> None:
    """Each key gets its tokens as the time is advanced; `run` ignores them."""
    queues = {"api": {"rate_per_key": "1/m", "bucket_size_per_key": 1}}
    with (
        bench("sqlite://", TASKQUEUE_QUEUES=queues) as one,
        TaskQueueTester(one.app) as taskqueue,
    ):
        one.tasks.worker("/call", queue="api")(lambda: None)
        for key in ("ana", "ana", "ana", "bo"):
            one.tasks.add("/call", rate_key=key)
        assert [attempt.task.rate_key for attempt in taskqueue.run_all()] == ["ana", "bo"]
        assert taskqueue.run_all() == ()
        taskqueue.advance("1m")
        assert [attempt.task.rate_key for attempt in taskqueue.run_all()] == ["ana"]
        (last,) = one.tasks.find(state="scheduled")
        assert taskqueue.run(last).ok


def test_a_rolled_back_add_is_not_enqueued(kit: Kit) -> None:
    """And one that was committed is."""
    one, taskqueue = kit
    one.tasks.worker("/w")(lambda: None)
    one.db.session.add(one.Counter(id=2, count=0))
    one.tasks.add("/w", {"key": "a"})
    with pytest.raises(BadTransactionStateError, match="uncommitted"):
        taskqueue.run_due()
    one.db.session.rollback()
    taskqueue.refute_enqueued()
    one.db.session.add(one.Counter(id=2, count=0))
    one.tasks.add("/w", {"key": "b"})
    one.db.session.commit()
    taskqueue.assert_enqueued("/w", params={"key": "b"}, count=1)
    assert taskqueue.run_all().ok


def test_schedules_fire_in_simulated_time(kit: Kit) -> None:
    """Each at its times by the clock on the wall, however far the time is advanced."""
    one, taskqueue = kit
    ran: list[datetime] = []

    @one.tasks.cron("every day 03:00", timezone="Europe/Zurich")
    @one.tasks.worker("/nightly")
    def nightly() -> None:
        ran.append(current_task.task.eta)

    assert taskqueue.advance("5d", run=True).ok
    assert len(ran) == 5
    assert all(
        later - earlier in (timedelta(hours=23), timedelta(days=1), timedelta(hours=25))
        for earlier, later in pairwise(ran)
    )
    taskqueue.advance("1d")
    taskqueue.assert_enqueued("/nightly", state="scheduled", count=1)


def test_time_goes_on_while_a_schedule_waits_for_its_task(kit: Kit) -> None:
    """Its fire times follow one by one once the task has succeeded."""
    one, taskqueue = kit
    ran: list[datetime] = []

    @one.tasks.cron("0 * * * *", misfire="all", retry={"min_backoff_seconds": 10_000})
    @one.tasks.worker("/hourly")
    def hourly() -> Any:
        ran.append(current_task.task.eta)
        return ("not yet", 500) if len(ran) == 1 else None

    taskqueue.advance("2h")
    taskqueue.assert_enqueued("/hourly", state="scheduled", count=1)
    taskqueue.advance("4h", run=True)
    assert ran[0] == ran[1]
    assert len(ran) == 7
    assert all(later - earlier == timedelta(hours=1) for earlier, later in pairwise(ran[1:]))


def test_immediate_runs_a_task_inside_add_or_after_the_commit(kit: Kit) -> None:
    """Those that tasks add too, one after the other."""
    one, taskqueue = kit
    ran: list[str] = []

    @one.tasks.worker("/w")
    def handler(step: str) -> None:
        ran.append(f"begin {step}")
        if step == "first":
            handler.add("second")
        ran.append(f"end {step}")

    with taskqueue.immediate():
        handler.add("first")
        assert ran == ["begin first", "end first", "begin second", "end second"]
        one.db.session.add(one.Counter(id=2, count=0))
        handler.add("third")
        assert len(ran) == 4
        one.db.session.commit()
        assert ran[4:] == ["begin third", "end third"]
    handler.add("fourth")
    assert len(ran) == 6


def test_the_tests_session_sees_what_ran_immediately(kit: Kit) -> None:
    """Also in an object that it had loaded, once the block has ended; its changes stay."""
    one, taskqueue = kit

    @one.tasks.worker("/w", transactional=True)
    def handler() -> None:
        one.db.session.get(one.Counter, 1).count += 1

    one.app.add_url_rule("/view", view_func=lambda: handler.add().id)
    counter = one.db.session.get(one.Counter, 1)
    assert counter.count == 0
    with taskqueue.immediate():
        one.app.test_client().get("/view")
    assert counter.count == 1
    with taskqueue.immediate():
        counter.count = 5
    assert counter.count == 5
    one.db.session.rollback()


def test_run_due_attempts_what_was_due_once(on_file: Kit) -> None:
    """In order, with pauses, limits and keys; run_all goes on with what is added meanwhile."""
    one, taskqueue = on_file
    ran: list[str] = []

    @one.tasks.worker("/w")
    def handler(step: str) -> None:
        ran.append(step)
        if step == "adds":
            handler.options(priority=9).add("added")

    for step in ("adds", "b"):
        handler.add(step)
    for step in ("k1", "k2"):
        handler.options(serial_key="k").add(step)
    assert len(taskqueue.run_due()) == 4
    assert ran == ["adds", "b", "k1", "k2"]
    one.tasks.queue("default").pause()
    assert taskqueue.run_all() == ()
    one.tasks.queue("default").resume()
    assert taskqueue.get(taskqueue.tasks()[-1]).attempts == 0
    assert [attempt.task.url for attempt in taskqueue.run_all()] == ["/w"]
    assert ran[4:] == ["added"]


def test_rates_hold_in_simulated_time(sqlite_database: TestDatabase) -> None:
    """What a bucket does not let through waits until time passes."""
    with (
        bench(
            sqlite_database.url, TASKQUEUE_QUEUES={"mail": {"rate": "60/h", "bucket_size": 2}}
        ) as one,
        TaskQueueTester(one.app) as taskqueue,
    ):
        one.tasks.worker("/w")(lambda: None)
        one.tasks.queue("mail").add(["/w"] * 5)
        assert len(taskqueue.run_all()) == 2
        assert len(taskqueue.advance("1m", run=True)) == 1
        assert len(taskqueue.advance("1h", run=True)) == 2


def test_tasks_that_add_themselves_are_noticed(on_file: Kit) -> None:
    """After so many attempts, with the URL that is to blame."""
    one, taskqueue = on_file

    @one.tasks.worker("/loop")
    def loop() -> None:
        loop.add()

    loop.add()
    with pytest.raises(AssertionError, match=r"after 20 attempts \(/loop 20 times\)"):
        taskqueue.run_all(max_tasks=20)
    assert len(taskqueue.tasks("/loop", state="scheduled")) == 1


def test_an_assertion_that_fails_tells_what_came_close(on_file: Kit) -> None:
    """With the params as they are, and that a form's are strings."""
    one, taskqueue = on_file
    for rule in ("/worker/mail", "/worker/other"):
        one.tasks.worker(rule, endpoint=rule[8:])(lambda: None)
    with pytest.raises(AssertionError, match="there are no tasks at all"):
        taskqueue.assert_enqueued("/worker/mail")
    one.tasks.add("/worker/other")
    one.tasks.add("/worker/mail", {"user": 1, "tag": ["a", "b"]})
    with pytest.raises(AssertionError) as failed:
        taskqueue.assert_enqueued("/worker/mail", params={"user": 1})
    text = str(failed.value)
    assert text.startswith(
        "no task matched url='/worker/mail' params⊇{'user': 1}\n  closest: /worker/mail "
        "params={'user': '1', 'tag': ['a', 'b']}"
    )
    assert "params['user'] is '1', not 1; form params are strings" in text
    taskqueue.assert_enqueued("/worker/mail", params={"tag": ("a", "b")})
    with pytest.raises(AssertionError, match="1 tasks matched url='/worker/mail', not 2"):
        taskqueue.assert_enqueued("/worker/mail", count=2)
    with pytest.raises(AssertionError, match="1 tasks matched url='/worker/other'"):
        taskqueue.refute_enqueued("/worker/other")
    with pytest.raises(AssertionError, match="there are 0 tasks for '/nowhere', not one"):
        taskqueue.get("/nowhere")


def test_what_no_assertion_can_mean_is_refused(on_file: Kit) -> None:
    """No tasks, which is for the opposite assertion to say, and an eta without a time zone."""
    one, taskqueue = on_file
    handler = one.tasks.worker("/w")(lambda: None)
    with pytest.raises(ValueError, match="refute_enqueued"):
        taskqueue.assert_enqueued(handler, count=0)
    with pytest.raises(InvalidEtaError, match="attach its time zone"):
        taskqueue.assert_enqueued(handler, eta=datetime.now(UTC).replace(tzinfo=None))
    one.tasks.add("/w", countdown=60)
    taskqueue.refute_enqueued(handler, eta=timedelta(seconds=30))
    with pytest.raises(AssertionError, match="1 tasks matched"):
        taskqueue.refute_enqueued(handler, eta=timedelta(seconds=60))


def test_tasks_are_found_by_what_they_are(on_file: Kit) -> None:
    """URL, endpoint, handler, task function; JSON compares as JSON; eta by instant or delay."""
    one, taskqueue = on_file

    @one.tasks.worker("/w")
    def handler(key: str) -> None: ...

    @one.tasks.task
    def resize(width: int) -> None: ...

    @one.app.get("/plain")
    def plain() -> str:
        return ""

    handler.options(countdown="10m", name="n").add("a")
    resize.enqueue(width=5)
    one.tasks.add("/plain", {"q": "x"}, method="GET")
    for url in ("/w", "taskqueue.handler", handler):
        assert taskqueue.assert_enqueued(url, params={"key": "a"}, name="n").url == "/w"
    one.tasks.add("/plain?next=%2fhome|", method="GET")
    for url in ("/plain?next=%2fhome|", "/plain?next=%2Fhome%7C"):
        taskqueue.assert_enqueued(url, count=1)
    due = taskqueue.assert_enqueued(handler, eta=timedelta(minutes=10)).eta
    taskqueue.assert_enqueued(handler, eta=due, count=1)
    taskqueue.refute_enqueued(handler, params={"key": "b"})
    with pytest.raises(AssertionError, match="eta is"):
        taskqueue.assert_enqueued(handler, eta=timedelta(minutes=9))
    assert taskqueue.params(taskqueue.assert_enqueued("/plain", params={"q": "x"})) == {"q": "x"}
    assert len(taskqueue.tasks(resize)) == 1
    assert "width" in str(taskqueue.params(taskqueue.get(resize)))


def test_the_params_of_any_body_can_be_compared(on_file: Kit) -> None:
    """JSON is known as Flask knows it; a body that only claims to be JSON has no params."""
    one, taskqueue = on_file
    one.tasks.worker("/w")(lambda: None)
    for kind in ("Application/JSON; charset=utf-8", "application/vnd.api+json"):
        task = one.tasks.add("/w", payload=b'{"a": 1}', headers={"Content-Type": kind})
        assert taskqueue.params(task) == {"a": 1}
    for body in (b"", b"{", b"\xff", b"[1]", b"[" * 50_000):
        task = one.tasks.add("/w", payload=body, headers={"Content-Type": "application/json"})
        assert taskqueue.params(task) == {}
    taskqueue.assert_enqueued("/w", params={"a": 1}, count=2)
    with pytest.raises(AssertionError, match="there is no param 'b'"):
        taskqueue.assert_enqueued("/w", params={"b": 1})


def test_a_handler_stands_for_all_values_of_its_urls_variables(on_file: Kit) -> None:
    """Where tasks are found, as where a test answers for them; a URL with a query is that URL."""
    one, taskqueue = on_file

    @one.tasks.worker("/resize/<int:image>")
    def resize(image: int, width: int = 0) -> None: ...

    @one.app.get("/resize/all")
    def resize_all() -> str:
        return ""

    first, second = resize.add(7, width=3), resize.add(8)
    one.tasks.add("/resize/all", method="GET")
    for handler in (resize, "taskqueue.resize"):
        assert [task.id for task in taskqueue.tasks(handler)] == [first.id, second.id]
    assert taskqueue.assert_enqueued(resize, params={"width": "3"}).url == "/resize/7"
    taskqueue.assert_enqueued("/resize/8", count=1)
    with pytest.raises(AssertionError, match="no task matched url='/resize/<int:image>' params"):
        taskqueue.assert_enqueued(resize, params={"width": "4"})
    with taskqueue.respond(503, url=resize), taskqueue.respond(302, url="/resize/all?now"):
        assert [attempt.status for attempt in taskqueue.run_due()] == [503, 503, 200]
    one.tasks.add("/resize/all?now", method="GET")
    with taskqueue.respond(302, url="/resize/all?now"):
        assert [attempt.status for attempt in taskqueue.run_due()] == [302]
    with pytest.raises(InvalidUrlError, match="is neither a worker nor a task function"):
        taskqueue.tasks(resize_all)


def test_respond_answers_in_the_handlers_place(on_file: Kit) -> None:
    """With a status, trouble on the way, what a handler raises, a timeout; so many times."""
    one, taskqueue = on_file
    ran: list[int] = []
    one.tasks.worker("/w", retry={"min_backoff_seconds": 1})(lambda: ran.append(1))
    task = one.tasks.add("/w")
    with (
        taskqueue.respond(503, times=2, headers={"Retry-After": "50"}),
        taskqueue.respond(500, url="/other"),
    ):
        first = taskqueue.run(task)
        assert (first.status, first.ok, first.retry_in) == (503, False, 50)
        taskqueue.run(task)
        assert taskqueue.run(task).status == 204
    assert ran == [1]
    for how, outcome in (
        ({"exc": ConnectionError}, "connection"),
        ({"timeout": True}, "timeout"),
        ({"exc": TimeoutError("slow")}, "timeout"),
        ({"exc": ValueError("bad")}, "failure"),
    ):
        with taskqueue.respond(**how):  # type: ignore[arg-type]
            attempt = taskqueue.run(one.tasks.add("/w"))
        assert (attempt.outcome, attempt.status) == (outcome, 500 if outcome == "failure" else None)
    assert isinstance(attempt.exception, ValueError)
    with pytest.raises(ValueError, match="one of"), taskqueue.respond():
        pass


def test_what_respond_raises_is_answered_as_if_the_handler_had_raised_it(on_file: Kit) -> None:
    """A handler's, a function's or a view's: with the words for a retry and a permanent failure,
    statuses, and the app's error handlers; what follows is called again.
    """
    one, taskqueue = on_file
    ran: list[str] = []
    handler = one.tasks.worker("/w", transactional=True)(lambda: ran.append("handler"))

    @one.tasks.task
    def function() -> None:
        ran.append("function")

    @one.app.post("/view")
    def view() -> str:
        ran.append("view")
        return ""

    one.app.register_error_handler(KeyError, lambda error: ("no such order", 409))
    with taskqueue.respond(exc=ServiceUnavailable, times=1):  # the first request to the app
        assert taskqueue.run(one.tasks.add("/view")).status == 503
    for exc, outcome, status, retry_in in (
        (Retry(after=60), "failure", 503, 60),
        (PermanentFailure("no such order"), "permanent", 422, None),
        (ServiceUnavailable(retry_after=40), "failure", 503, 40),
        (KeyError, "failure", 409, 0.1),
    ):
        for added in (handler.add(), function.enqueue()):
            with taskqueue.respond(exc=exc):
                attempt = taskqueue.run(added)
            assert (attempt.outcome, attempt.status, attempt.retry_in) == (
                outcome,
                status,
                retry_in,
            )
    assert ran == []
    taskqueue.run_all()
    for added in (handler.add(), function.enqueue(), one.tasks.add("/view")):
        assert taskqueue.run(added).ok
    assert ran[-3:] == ["handler", "function", "view"]


def test_absolute_urls_need_no_network(sqlite_database: TestDatabase) -> None:
    """Respond stands for the host; without it nothing is sent, and the attempt says what to do."""
    with (
        receiver() as host,
        bench(sqlite_database.url, TASKQUEUE_ALLOWED_HOSTS=[host.host]) as one,
        TaskQueueTester(one.app) as taskqueue,
    ):
        one.tasks.add(f"{host.url}/hook", {"a": "b"})
        (attempt,) = taskqueue.run_all()
        assert (attempt.outcome, attempt.ok, host.got) == ("connection", False, [])
        assert "taskqueue.respond(200)" in str(attempt.error)
        taskqueue.advance(1)
        with taskqueue.respond(202, body="thanks"):
            assert [attempt.text for attempt in taskqueue.run_all()] == ["thanks"]
        assert host.got == []


def test_chaos_shows_what_may_happen_in_production(kit: Kit) -> None:
    """A plain handler runs twice; the changes of a transactional one happen once."""
    one, taskqueue = kit
    ran: list[str] = []

    @one.tasks.worker("/plain")
    def plain() -> None:
        ran.append("plain")

    @one.tasks.worker("/once", transactional=True)
    def once() -> None:
        one.db.session.get(one.Counter, 1).count += 1

    for how in ({"duplicate": True}, {"crash": True}):
        with taskqueue.chaos(**how, times=2):
            plain.add()
            once.add()
            taskqueue.run_due()
        assert taskqueue.run_all().ok
    assert len(ran) == 4
    assert one.count() == 2
    crashes = [
        (task.url, task.attempts, task.crashes, task.state) for task in taskqueue.tasks()[2:]
    ]
    assert crashes == [("/plain", 2, 1, "succeeded"), ("/once", 1, 0, "succeeded")]


def test_a_crashed_task_with_a_unique_key_is_due_immediately(kit: Kit) -> None:
    """Like any other."""
    one, taskqueue = kit
    one.tasks.worker("/w")(lambda: None)
    task = one.tasks.add("/w", unique_key="k")
    with taskqueue.chaos(crash=True):
        taskqueue.run_due()
    assert taskqueue.run_all().ok
    assert taskqueue.get(task).attempts == 2


def test_poison_ends_as_dead(on_file: Kit) -> None:
    """After three crashes, as in production."""
    one, taskqueue = on_file
    one.tasks.worker("/w")(lambda: None)
    task = one.tasks.add("/w")
    with taskqueue.chaos(crash=True, times=None):
        assert [attempt.outcome for attempt in taskqueue.run_all()] == ["crash"] * 3
    assert taskqueue.get(task).state is State.DEAD


def test_a_task_of_a_pull_queue_is_not_run(sqlite_database: TestDatabase) -> None:
    """It is left to whoever leases it, also where a test names it."""
    queues = {"pulled": {"mode": "pull"}}
    with (
        bench(sqlite_database.url, TASKQUEUE_QUEUES=queues) as one,
        TaskQueueTester(one.app) as taskqueue,
    ):
        appengine.Queue("pulled").add(appengine.Task(payload="x", method="PULL"))
        task = taskqueue.assert_enqueued(queue="pulled")
        assert taskqueue.run_all() == ()
        with pytest.raises(BadTaskStateError, match="pull queue pulled: lease it"):
            taskqueue.run(task)
        assert len(appengine.Queue("pulled").lease_tasks(60, 1)) == 1


def test_a_worker_is_tested_with_genuine_headers(on_file: Kit) -> None:
    """Through hooks and CSRF protection; a failure tells why."""
    one, taskqueue = on_file
    CSRFProtect(one.app)

    @one.app.before_request
    def login() -> Any:
        if not one.tasks.is_task_request():
            return redirect("/login")
        return None

    @one.tasks.worker("/w")
    def handler(user: int) -> dict[str, Any]:
        if user == 0:
            raise ValueError("nobody")
        if user == 1:
            raise PermanentFailure("gone")
        if user == 2:
            raise Retry("later", after=30)
        return {
            "name": request.headers["X-TaskQueue-TaskName"],
            "user": user,
            "app": current_app.name,
        }

    reply = taskqueue.assert_worker_ok("/w", params={"user": 17})
    assert reply.json["user"] == 17
    assert reply.json["name"] == reply.task.id
    with pytest.raises(AssertionError, match="ValueError: nobody") as failed:
        taskqueue.assert_worker_ok(handler, {"user": 0})
    assert isinstance(failed.value.__cause__, ValueError)
    with pytest.raises(AssertionError, match="gone"):
        taskqueue.assert_worker_ok(handler, {"user": 1})
    assert taskqueue.run(handler.spec(2) and handler.add(2)).retry_in == 30
    assert one.app.test_client().post("/w").status_code == 302


def test_it_refuses_an_application_that_is_not_in_testing(sqlite_database: TestDatabase) -> None:
    """It empties tables."""
    with bench(sqlite_database.url) as one:
        one.app.testing = False
        with pytest.raises(ConfigurationError, match="TESTING"):
            TaskQueueTester(one.app)


def test_each_test_begins_with_an_empty_queue(sqlite_database: TestDatabase) -> None:
    """What was there is gone, pauses too, and the clock is right again."""
    with bench(sqlite_database.url) as one:
        one.tasks.worker("/w")(lambda: None)
        one.tasks.add("/w")
        one.tasks.queue("default").pause()
        with TaskQueueTester(one.app) as taskqueue:
            taskqueue.refute_enqueued()
            one.tasks.add("/w")
            taskqueue.advance("1d")
            assert len(taskqueue.run_all()) == 1
        with TaskQueueTester(one.app) as taskqueue:
            assert abs(taskqueue.now - datetime.now(UTC)) < timedelta(minutes=1)
            taskqueue.refute_enqueued()
        one.tasks.add("/w")
        assert one.tasks.drain() == 1


def test_a_test_may_end_with_uncommitted_changes(kit: Kit) -> None:
    """They are rolled back, as the end of the app's context would; nothing waits for them."""
    one, taskqueue = kit
    one.tasks.worker("/w")(lambda: None)
    task = one.tasks.add("/w")
    one.db.session.add(one.Counter(id=2, count=0))
    one.db.session.flush()
    assert task.delete()
    taskqueue.__exit__(None, None, None)
    assert one.db.session.get(one.Counter, 2) is None
    one.db.session.rollback()
    taskqueue.__enter__()


def test_an_app_has_one_tester_at_a_time(on_file: Kit) -> None:
    """A second one would take the clock of the first away; it is refused, and the first goes on."""
    one, taskqueue = on_file
    handler = one.tasks.worker("/w")(lambda: None)
    with pytest.raises(ConfigurationError, match="under test already"), TaskQueueTester(one.app):
        pass
    with taskqueue.immediate():
        assert taskqueue.get(handler.add()).state is State.SUCCEEDED


@pytest.fixture(params=["sqlite", "postgresql"])
def isolated(request: pytest.FixtureRequest, laid: Laid, tmp_path: Any) -> Iterator[Bench]:
    """An application whose test is one transaction that is rolled back."""
    with laid.lend(request.param, tmp_path) as database, bench(database.url) as one:
        one.db.session.remove()
        engine = one.db.engine
        if request.param == "sqlite":
            sa.event.listen(
                engine,
                "connect",
                lambda connection, _: setattr(connection, "isolation_level", None),
            )
            sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
            close_engine(engine)
        one.db.session.configure(join_transaction_mode="create_savepoint")
        connection = engine.connect()
        transaction = connection.begin()
        one.db.engines[None] = connection
        try:
            yield one
        finally:
            one.db.session.remove()
            transaction.rollback()
            connection.close()
            one.db.engines[None] = engine
            with engine.connect() as reader:
                assert reader.scalar(sa.select(sa.func.count()).select_from(one.Counter)) == 1
                assert reader.scalar(sa.text("SELECT count FROM counter")) == 0


def test_a_test_that_is_rolled_back_leaves_nothing(isolated: Bench) -> None:
    """The queue works on the test's connection: what is added, run and changed is rolled back
    with the rest.
    """
    with TaskQueueTester(isolated.app) as taskqueue:

        @isolated.tasks.worker("/w", transactional=True)
        def handler(fail: bool = False) -> Any:
            isolated.db.session.get(isolated.Counter, 1).count += 1
            return ("no", 500) if fail else None

        isolated.db.session.add(isolated.Counter(id=2, count=0))
        handler.add()
        isolated.db.session.rollback()
        taskqueue.refute_enqueued()
        isolated.db.session.add(isolated.Counter(id=2, count=0))
        handler.add()
        isolated.db.session.commit()
        handler.add(fail=True)
        assert [attempt.status for attempt in taskqueue.run_due()] == [204, 500]
        assert isolated.db.session.get(isolated.Counter, 1).count == 1
        assert [task.state for task in taskqueue.tasks()] == ["succeeded", "scheduled"]
