"""Handlers: how they are called, what they know, what their answers mean."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, g, jsonify, redirect, request, session, url_for
from flask_wtf import CSRFProtect

from flask_taskqueue import PermanentFailure, Retry, State, TaskQueue, current_task
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench, runtime_of
from tests.databases import TestDatabase


def test_the_function_stays_a_function(on_sqlite: Bench) -> None:
    """Decorated, it can still be called and knows its name."""

    @on_sqlite.tasks.worker("/add")
    def add(a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    assert add(1, b=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add.")


def test_parameters_arrive_by_name(on_sqlite: Bench) -> None:
    """From a form, a query or a JSON object, converted; URL variables too."""
    seen: list[Any] = []

    @on_sqlite.tasks.worker("/form")
    def form(key: str, n: int, at: datetime | None = None) -> None:
        seen.append((key, n, at))

    @on_sqlite.tasks.worker("/item/<int:item>", methods=("GET",))
    def item(item: int, flag: bool) -> None:
        seen.append((item, flag))

    form.add("a", n=1)
    on_sqlite.tasks.add("/form", json={"key": "b", "n": 2, "at": "2026-01-01T00:00:00+00:00"})
    item.add(item=7, flag=True)
    on_sqlite.tasks.add("taskqueue.item", {"item": 8, "flag": "off"}, method="GET")
    assert on_sqlite.tasks.drain() == 4
    assert sorted(map(str, seen)) == sorted(
        [
            "('a', 1, None)",
            str(("b", 2, datetime.fromisoformat("2026-01-01T00:00:00+00:00"))),
            "(7, True)",
            "(8, False)",
        ]
    )


@pytest.mark.parametrize("limit", [None, 0])
def test_a_bad_parameter_is_death_with_its_name(on_sqlite: Bench, limit: int | None) -> None:
    """An hour after the first attempt: until then another release may have a handler that it
    fits, whatever the task's limits.
    """

    @on_sqlite.tasks.worker("/w")
    def handler(n: int) -> None: ...

    retry = {} if limit is None else {"retry": {"task_retry_limit": limit}}
    with TaskQueueTester(on_sqlite.app) as taskqueue:
        for params in ({"n": "x"}, {}):
            task = on_sqlite.tasks.add("/w", params, **retry)
            taskqueue.run(task)
            first = on_sqlite.tasks.get(task.id)
            assert (first.state, first.attempts, first.last_status) == (State.SCHEDULED, 1, 422)
            assert "parameter 'n'" in str(first.last_error)
            assert "the handler of another release" in str(first.last_error)
            taskqueue.advance(3601)
            taskqueue.run(task)
            last = on_sqlite.tasks.get(task.id)
            assert (last.state, last.attempts, last.last_reason) == (State.DEAD, 2, "permanent")
            assert "another release" not in str(last.last_error)


def test_a_roll_out_gives_up_nothing(sqlite_database: TestDatabase) -> None:
    """An old dispatcher meets tasks of the new release: for another URL, for a new parameter.
    The new one carries them out.
    """
    with bench(sqlite_database.url) as new:
        seen: list[Any] = []
        new.tasks.worker("/new")(lambda: seen.append("new"))

        @new.tasks.worker("/w")
        def handle(number: int, unit: str) -> None:
            seen.append((number, unit))

        lasting = {"retry": {"task_retry_limit": 0, "min_backoff_seconds": 600}}
        added = [
            new.tasks.add("/new", **lasting),
            new.tasks.add("/w", {"number": 1, "unit": "m"}, **lasting),
        ]
        with bench(sqlite_database.url) as old:

            @old.tasks.worker("/w")
            def handler(number: str, size: int) -> None: ...

            assert old.tasks.drain() == 2
            assert [old.tasks.get(task.id).state for task in added] == [
                State.SCHEDULED,
                State.SCHEDULED,
            ]
        for task in added:
            new.tasks.get(task.id).run_now()
        new.tasks.drain()
        assert [new.tasks.get(task.id).state for task in added] == [
            State.SUCCEEDED,
            State.SUCCEEDED,
        ]
        assert sorted(seen, key=str) == [(1, "m"), "new"]


@pytest.mark.parametrize(
    ("answer", "status", "state"),
    [
        (None, 204, State.SUCCEEDED),
        ("fine", 200, State.SUCCEEDED),
        ({"a": 1}, 200, State.SUCCEEDED),
        (("made", 201), 201, State.SUCCEEDED),
        (("no", 500), 500, State.SCHEDULED),
        (("gone", 410), 410, State.SCHEDULED),
    ],
)
def test_answers_are_as_flasks(on_sqlite: Bench, answer: Any, status: int, state: State) -> None:
    """None is 204; any 2xx is success, all else a failed attempt."""

    @on_sqlite.tasks.worker("/w")
    def handler() -> Any:
        return answer

    task = on_sqlite.run(handler.options(retry={"min_backoff_seconds": 60}).add())
    assert (task.last_status, task.state) == (status, state)


def test_current_task_tells_the_handler_what_it_is(on_sqlite: Bench) -> None:
    """The task, the attempt, the status before, the time left; outside of a handler it is
    unbound.
    """
    seen: list[Any] = []

    @on_sqlite.tasks.worker("/w", deadline=50, retry={"min_backoff_seconds": 0})
    def handler() -> Any:
        seen.append(
            (
                current_task.id,
                current_task.attempt,
                current_task.last_status,
                current_task.task.attempts,
            )
        )
        assert 40 < current_task.remaining <= 50
        assert not current_task.cancelled
        assert current_task.first_tried_at.tzinfo is not None
        return None if current_task.attempt == 2 else ("no", 503)

    task = on_sqlite.run(handler.add())
    assert seen == [(task.id, 1, None, 1), (task.id, 2, 503, 2)]
    with pytest.raises(RuntimeError, match="no current task"):
        _ = current_task.id


def test_headers_are_app_engines_under_our_prefix(on_sqlite: Bench) -> None:
    """Queue, name, counts and eta at each attempt; what came before on retries only."""
    seen: list[dict[str, str]] = []

    @on_sqlite.tasks.worker("/w", retry={"min_backoff_seconds": 0})
    def handler() -> Any:
        seen.append(
            {
                name: value
                for name, value in request.headers
                if name.lower().startswith(("x-taskqueue", "webhook", "x-mine"))
            }
        )
        return None if len(seen) == 2 else ("no", 503)

    task = on_sqlite.run(on_sqlite.tasks.add("/w", name="my-name", headers={"X-Mine": "1"}))
    first, second = seen
    assert first["X-Taskqueue-Queuename"] == "default"
    assert first["X-Taskqueue-Taskname"] == "my-name"
    assert (first["X-Taskqueue-Taskretrycount"], first["X-Taskqueue-Taskexecutioncount"]) == (
        "0",
        "0",
    )
    assert float(first["X-Taskqueue-Tasketa"]) == pytest.approx(task.eta.timestamp(), abs=1e-3)
    assert "X-Taskqueue-Taskpreviousresponse" not in first
    assert (second["X-Taskqueue-Taskretrycount"], second["X-Taskqueue-Taskexecutioncount"]) == (
        "1",
        "1",
    )
    assert (second["X-Taskqueue-Taskpreviousresponse"], second["X-Taskqueue-Taskretryreason"]) == (
        "503",
        "failure",
    )
    assert first["Webhook-Id"] == second["Webhook-Id"] == task.id
    assert "Webhook-Signature" not in first
    assert first["X-Mine"] == "1"


def test_an_exception_is_logged_once_and_is_a_failure(
    on_sqlite: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether Flask handles it or lets it through; never swallowed, never told twice."""

    @on_sqlite.tasks.worker("/w", retry={"min_backoff_seconds": 60})
    def handler() -> None:
        raise ValueError("boom")

    for propagate in (True, False):
        caplog.clear()
        on_sqlite.app.config["PROPAGATE_EXCEPTIONS"] = propagate
        task = on_sqlite.run(handler.add())
        assert (task.state, task.last_status) == (State.SCHEDULED, 500)
        assert "ValueError: boom" in str(task.last_error)
        assert len([record for record in caplog.records if record.exc_info]) == 1


def test_an_error_page_does_not_hide_a_failure(on_sqlite: Bench) -> None:
    """An error handler for everything that answers 200 is common; the handler failed all the
    same.
    """
    on_sqlite.app.register_error_handler(Exception, lambda _: ("Sorry!", 200))

    @on_sqlite.tasks.worker("/w", retry={"min_backoff_seconds": 60})
    def handler() -> None:
        raise KeyError("x")

    task = on_sqlite.run(handler.add())
    assert (task.state, task.last_error) == (State.SCHEDULED, "KeyError: 'x'")


@pytest.mark.slow
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_handler_that_exits_kills_nothing(on_sqlite: Bench, error: type[BaseException]) -> None:
    """sys.exit() in a handler is a failed attempt, not the end of the dispatcher."""

    @on_sqlite.tasks.worker("/w", retry={"task_retry_limit": 0})
    def handler() -> None:
        raise error

    task = on_sqlite.run(handler.add())
    assert (task.state, task.last_status) == (State.DEAD, 500)


def test_retry_and_permanent_failure(on_sqlite: Bench) -> None:
    """The handler may ask for a delay, or say that it is pointless."""

    @on_sqlite.tasks.worker("/retry")
    def retry() -> None:
        raise Retry("not yet", after=600)

    @on_sqlite.tasks.worker("/never")
    def never() -> None:
        raise PermanentFailure("no such\nuser ü")

    @on_sqlite.tasks.worker("/mute")
    def mute() -> None:
        raise PermanentFailure

    again = on_sqlite.run(retry.add())
    assert (again.state, again.last_error) == (State.SCHEDULED, "not yet")
    assert again.due_at is not None
    assert 590 < (again.due_at - again.created_at).total_seconds() < 660
    dead = on_sqlite.run(never.add())
    assert (dead.state, dead.last_error) == (State.DEAD, "no such user ü")
    dead = on_sqlite.run(mute.add())
    assert dead.state is State.DEAD
    assert "the handler gave no reason" in str(dead.last_error)


def test_async_handlers_run(on_sqlite: Bench) -> None:
    """As async views do."""
    seen = []

    @on_sqlite.tasks.worker("/w")
    async def handler(key: str) -> None:
        seen.append((key, current_task.attempt))

    on_sqlite.tasks.add("/w", {"key": "a"})
    on_sqlite.tasks.drain()
    assert seen == [("a", 1)]


def test_handlers_run_in_a_real_request(on_sqlite: Bench) -> None:
    """url_for, hooks, g and jsonify work; nothing leaks from one delivery to the next."""
    seen = []
    on_sqlite.app.before_request(lambda: setattr(g, "seen", seen))
    on_sqlite.app.teardown_request(lambda _: seen.append("teardown"))

    @on_sqlite.tasks.worker("/w")
    def handler() -> Response:
        assert "leak" not in g
        g.leak = True
        session["leak"] = True
        g.seen.append(url_for("taskqueue.handler"))
        return jsonify(ok=True)

    for _ in range(2):
        handler.add()
    assert on_sqlite.tasks.drain() == 2
    assert sorted(seen) == ["/w", "/w", "teardown", "teardown"]


def test_workers_declared_before_and_after_for_many_apps(tmp_path: Any) -> None:
    """One TaskQueue, factories, either order; a worker on a blueprint of the user's too."""
    tasks = TaskQueue()
    blueprint = Blueprint("mine", __name__, url_prefix="/mine")
    seen = []

    @tasks.worker("/early")
    def early() -> None:
        seen.append("early")

    @tasks.worker("/on-blueprint", blueprint=blueprint)
    def own() -> None:
        seen.append("own")

    def create_app(name: str) -> Flask:
        app = Flask(name, instance_path=str(tmp_path / name))
        app.config.update(
            TESTING=True,
            SECRET_KEY="secret",
            TASKQUEUE_DATABASE_URI=f"sqlite:///{tmp_path / name}.db",
        )
        tasks.init_app(app)

        @tasks.worker("/late")
        def late() -> None:
            seen.append(f"late in {name}")

        app.register_blueprint(blueprint)
        return app

    apps = [create_app("one"), create_app("two")]
    for app in apps:
        with app.app_context():
            early.add(), own.add(), tasks.add("/late"), tasks.add("mine.own")
            assert tasks.drain() == 4
        runtime_of(app).store.database.close()
    assert sorted(seen) == ["early"] * 2 + ["late in one", "late in two"] + ["own"] * 4
    with pytest.raises(RuntimeError, match="set up for 2"):
        tasks.add("/early")


def test_outside_of_a_context_the_only_application_is_meant(on_sqlite: Bench) -> None:
    """A plain thread may add a task."""
    import threading

    @on_sqlite.tasks.worker("/w")
    def handler() -> None: ...

    ids: list[str] = []
    thread = threading.Thread(target=lambda: ids.append(handler.add().id))
    thread.start()
    thread.join()
    assert on_sqlite.run(on_sqlite.tasks.get(ids[0])).state is State.SUCCEEDED


def test_a_login_hook_is_told_how_to_let_tasks_pass(on_sqlite: Bench) -> None:
    """Without the exemption the redirect is a failure that explains itself; with it the task
    runs.
    """
    exempt = False

    @on_sqlite.app.before_request
    def login() -> Any:
        if exempt and on_sqlite.tasks.is_task_request():
            return None
        return redirect("/login?next=x")

    @on_sqlite.tasks.worker("/w", retry={"min_backoff_seconds": 0, "task_retry_limit": 0})
    def handler() -> None: ...

    assert "is_task_request" in str(on_sqlite.run(handler.add()).last_error)
    exempt = True
    assert on_sqlite.run(handler.add()).state is State.SUCCEEDED
    assert on_sqlite.app.test_client().get("/w").status_code == 302


@pytest.mark.parametrize(
    ("config", "runs"), [({}, False), ({"PREFERRED_URL_SCHEME": "https"}, True)]
)
def test_an_app_that_wants_https_is_told_its_address(
    sqlite_database: TestDatabase, config: dict[str, str], runs: bool
) -> None:
    """By the scheme it prefers; without, the failure says which settings say it."""
    with bench(sqlite_database.url, **config) as one:

        @one.app.before_request
        def secure() -> Any:
            return None if request.is_secure else redirect(request.url.replace("http:", "https:"))

        task = one.run(one.tasks.worker("/w", retry={"task_retry_limit": 0})(lambda: None).add())
    assert (task.state is State.SUCCEEDED) is runs
    assert runs or "set TASKQUEUE_BASE_URL to its https address" in str(task.last_error)


def test_a_rate_limiter_is_told_how_to_let_tasks_pass(on_sqlite: Bench) -> None:
    """Its 429 comes before the handler, so the failure is not the handler's."""

    @on_sqlite.app.before_request
    def limit() -> Any:
        return ("slow down", 429)

    error = str(
        on_sqlite.run(
            on_sqlite.tasks.worker("/w", retry={"task_retry_limit": 0})(lambda: None).add()
        ).last_error
    )
    assert "the reply was 429, but the task's view did not run" in error
    assert "request_filter on a function that returns tasks.is_task_request()" in error


@pytest.mark.parametrize("csrf_first", [True, False])
def test_csrf_protection_does_not_hit_worker_routes(tmp_path: Any, csrf_first: bool) -> None:
    """Flask-WTF's, in either order of initialisation; other routes stay protected."""
    app = Flask(__name__)
    app.config.update(
        TESTING=True, SECRET_KEY="secret", TASKQUEUE_DATABASE_URI=f"sqlite:///{tmp_path}/q.db"
    )
    csrf = CSRFProtect()
    if csrf_first:
        csrf.init_app(app)
    tasks = TaskQueue(app)
    if not csrf_first:
        csrf.init_app(app)
    seen = []
    app.add_url_rule("/form", view_func=lambda: "form", endpoint="form", methods=["POST"])

    @tasks.worker("/w")
    def handler() -> None:
        seen.append(1)

    with app.app_context():
        handler.add()
        assert tasks.drain() == 1
    assert seen == [1]
    assert app.test_client().post("/form").status_code == 400
    runtime_of(app).store.database.close()


def test_one_line_is_logged_per_attempt(on_sqlite: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """With its facts as attributes, and never a parameter."""
    caplog.set_level(logging.INFO, "flask_taskqueue")

    @on_sqlite.tasks.worker("/w", methods=("GET",))
    def handler(token: str) -> None: ...

    task = on_sqlite.run(handler.add(token="marker-secret"))
    (line,) = [record for record in caplog.records if record.name == "flask_taskqueue"]
    assert line.task_id == task.id  # type: ignore[attr-defined]
    assert (line.status, line.outcome, line.attempt) == (204, "success", 1)  # type: ignore[attr-defined]
    assert "marker-secret" not in caplog.text + repr(task)
    assert "/w" in line.getMessage()


def test_abort_is_a_failure_with_its_status(on_sqlite: Bench) -> None:
    """As in any view."""

    @on_sqlite.tasks.worker("/w")
    def handler() -> None:
        abort(429)

    task = on_sqlite.run(handler.add())
    assert (task.last_status, task.state) == (429, State.SCHEDULED)


def test_the_base_url_of_the_command_comes_before_that_of_the_configuration(
    sqlite_database: TestDatabase,
) -> None:
    """As every option of flask taskqueue run comes before its setting."""
    with bench(sqlite_database.url, TASKQUEUE_BASE_URL="http://configured.example") as one:
        runtime = one.runtime
        for given, used in (
            ("http://given.example", "http://given.example"),
            (None, "http://configured.example"),
        ):
            routes = runtime.routes(given, "http")
            assert routes.own_url == used
            routes.own.close()
