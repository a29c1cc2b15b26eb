"""add() and its kin, through an application."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, url_for
from flask_migrate import Migrate, init, migrate, upgrade
from flask_sqlalchemy import SQLAlchemy

from flask_taskqueue import (
    BadTaskStateError,
    ConfigurationError,
    InvalidDeadlineError,
    InvalidTaskError,
    InvalidTaskRetryOptionsError,
    InvalidUrlError,
    RetryOptions,
    State,
    TablesMissingError,
    TaskQueue,
    UnknownQueueError,
    UnknownTaskError,
    WaitTimeoutError,
)
from tests.apps import Bench, bench, closing, runtime_of
from tests.databases import TestDatabase


@pytest.fixture
def queue(on_sqlite: Bench) -> Bench:
    """An application with a worker and an ordinary route."""
    on_sqlite.tasks.worker("/w", deadline=7, retry={"task_retry_limit": 3})(lambda: None)
    on_sqlite.app.add_url_rule(
        "/slash/", view_func=lambda: "ok", endpoint="slash", methods=["POST"]
    )
    on_sqlite.app.add_url_rule(
        "/_ah/queue/default", view_func=lambda: "ok", endpoint="ah", methods=["POST"]
    )
    return on_sqlite


def test_a_task_is_what_was_asked_for(queue: Bench) -> None:
    """The value tells it back, and does not change."""
    eta = datetime.now(UTC) + timedelta(minutes=5)
    task = queue.tasks.add("/w", name="n", eta=eta, priority=3)
    assert (task.name, task.queue, task.url, task.method, task.eta, task.due_at) == (
        "n",
        "default",
        "/w",
        "POST",
        eta,
        eta,
    )
    assert (task.state, task.attempts, task.crashes, task.finished_at, task.last_status) == (
        State.SCHEDULED,
        0,
        0,
        None,
        None,
    )
    assert queue.tasks.get(task.id) == task
    with pytest.raises(AttributeError):
        task.state = State.DEAD  # type: ignore[misc]


def test_the_default_url_is_app_engines(queue: Bench) -> None:
    """/_ah/queue/ and the queue's name."""
    assert queue.tasks.add().url == "/_ah/queue/default"


def test_a_worker_gives_its_tasks_what_it_declares(queue: Bench) -> None:
    """However it is named; add() may say otherwise."""

    def stored(**options: Any) -> tuple[float, str]:
        task = queue.tasks.add("/w", **options)
        store = queue.store
        with store.reading() as connection:
            record = store.tasks.get(connection, task.id)
        return record.deadline, record.retry

    assert stored() == (7, '{"task_retry_limit":3}')
    assert stored(deadline="1m", retry=RetryOptions()) == (60, "{}")


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"url": "/nowhere"}, InvalidUrlError, "no route of the application answers POST /nowhere"),
        ({"url": "/w", "method": "GET"}, InvalidUrlError, "answers GET /w; it answers POST"),
        ({"url": "/slahs/"}, InvalidUrlError, "did you mean '/slash/'"),
        ({"url": "nowhere"}, InvalidUrlError, "no endpoint"),
        ({"url": "statik"}, InvalidUrlError, "did you mean 'static'"),
        ({"url": print}, InvalidUrlError, "decorate it with @tasks.task and call print.enqueue"),
        ({"url": "/w", "step": 2}, TypeError, r"go into a dict: add\(url, {'step': ...}\)"),
        ({"url": "http://127.0.0.1/x"}, InvalidUrlError, "TASKQUEUE_ALLOWED_HOSTS"),
        (
            {"url": ["/w", "/w"]},
            InvalidUrlError,
            r"tasks.add_many\(tasks\) takes any number.*tasks.queue\(name\).add\(\[...\]\)",
        ),
        ({"url": (one for one in ["/w"])}, InvalidUrlError, "tasks.add_many"),
        ({"url": b"/w"}, InvalidUrlError, "must be a path"),
        (
            {"url": "/w", "target": "http://evil.example"},
            InvalidUrlError,
            "TASKQUEUE_ALLOWED_HOSTS",
        ),
        ({"url": 5}, InvalidUrlError, "must be a path"),
        ({"url": "/w", "queue": "mial"}, UnknownQueueError, "default"),
        ({"url": "/w", "priority": 10}, InvalidTaskError, "from -9 to 9"),
        ({"url": "/w", "priority": 1.5}, InvalidTaskError, "whole number"),
        ({"url": "/w", "deadline": 0}, InvalidDeadlineError, "more than 0"),
        ({"url": "/w", "deadline": 86_401}, InvalidDeadlineError, "24 hours"),
        ({"url": "/w", "deadline": "soon"}, InvalidDeadlineError, "deadline"),
        ({"url": "/w", "retry": {"limit": 1}}, InvalidTaskRetryOptionsError, "limit"),
        ({"url": "/w", "retry": 5}, InvalidTaskRetryOptionsError, "RetryOptions"),
    ],
)
def test_bad_input_is_refused_at_the_call(
    queue: Bench, arguments: dict[str, Any], error: type[Exception], word: str
) -> None:
    """What, which value, what to do; nothing is stored."""
    with pytest.raises(error, match=word):
        queue.tasks.add(**arguments)
    assert queue.tasks.find() == []


def test_the_word_for_the_other_kind_of_task_works_too(queue: Bench) -> None:
    """Whether it is a worker or a task function."""

    @queue.tasks.worker("/greet")
    def greet(name: str) -> None: ...

    @queue.tasks.task
    def send(name: str) -> None: ...

    assert greet.enqueue("Ana").url == greet.add("Ana").url == "/greet"
    assert send.add("Ana").url == send.enqueue("Ana").url
    assert greet.options(queue="default").enqueue("Ana").url == "/greet"
    assert send.options(queue="default").add("Ana").url == send.add("Ana").url


def test_what_was_meant_is_said(queue: Bench) -> None:
    """A task function is called by itself; a parameter called name is not the name of the task."""

    @queue.tasks.worker("/greet")
    def greet(name: str) -> None: ...

    @queue.tasks.task
    def send(name: str) -> None: ...

    with pytest.raises(InvalidUrlError, match=r"call send.enqueue\(...\)"):
        queue.tasks.add(send)  # type: ignore[arg-type]
    with pytest.raises(InvalidUrlError, match=r"call send.enqueue\(...\)"):
        queue.tasks.add(send, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidUrlError, match=r"call .add\(...\) on it"):
        queue.tasks.add(greet.options(countdown=3))  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"greet: .*'countdown'; .* handler.options\(countdown=60\)"
    ):
        greet.add("Ana", countdown=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="int is a int, not a function"):
        queue.tasks.task(3)  # type: ignore[call-overload]
    with pytest.raises(InvalidTaskError, match=r"add\(url, {'name': 'Ana'}\)"):
        queue.tasks.add("/greet", name="Ana")
    assert queue.tasks.find() == []
    assert queue.tasks.add("/greet", {"name": "Ana"}, name="greet-ana").name == "greet-ana"

    @queue.tasks.worker("/perhaps")
    def perhaps(name: str | None) -> None: ...

    assert queue.tasks.add("/perhaps", name="of-the-task").name == "of-the-task"


def test_a_worker_may_be_named_where_a_task_of_it_is_wanted(queue: Bench) -> None:
    """As the callback of a batch, say: it is called without arguments."""
    done: list[str] = []

    @queue.tasks.worker("/all-done")
    def all_done() -> None:
        done.append("all")

    queue.tasks.batch(["/w"], on_finish=all_done)
    queue.tasks.drain()
    assert done == ["all"]


def test_the_application_root_is_part_of_its_urls(queue: Bench) -> None:
    """In process as behind the server that mounts it there, with a server name and without."""
    queue.app.config["APPLICATION_ROOT"] = "/shop"
    seen: list[str] = []

    @queue.tasks.worker("/link")
    def link() -> None:
        seen.append(url_for("static", filename="a.css"))

    assert queue.run(link.add()).state is State.SUCCEEDED
    assert seen == ["/shop/static/a.css"]


def test_waiting_while_testing_says_what_would_run_the_task(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """No dispatcher starts by itself there."""
    with pytest.raises(WaitTimeoutError):
        queue.tasks.add("/w").wait(0.01)
    assert "call tasks.drain() first" in caplog.text


def test_outside_of_debug_an_unknown_path_is_logged(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be served by something in front of the application."""
    queue.app.testing = False
    assert queue.tasks.add("/nowhere").url == "/nowhere"
    assert "no route of the application answers POST /nowhere" in caplog.text


def test_a_path_that_would_redirect_is_stored_as_it_is_answered(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """With its slash; a redirect would be a failure."""
    caplog.set_level(logging.WARNING)
    assert queue.run(queue.tasks.add("/slash")).state is State.SUCCEEDED
    assert "/slash redirects to /slash/" in caplog.text


def test_waiting_ends_with_the_task_or_with_the_time(queue: Bench) -> None:
    """The task itself goes on."""
    task = queue.tasks.add("/w")
    started = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="still scheduled"):
        task.wait(0.1)
    assert time.monotonic() - started < 2
    queue.tasks.drain()
    assert task.wait(0).state is State.SUCCEEDED


def test_unknown_ids_raise(queue: Bench) -> None:
    """Whatever is asked of them."""
    for ask in (
        queue.tasks.get,
        queue.tasks.delete,
        queue.tasks.requeue,
        queue.tasks.run_now,
        queue.tasks.wait,
    ):
        with pytest.raises(UnknownTaskError, match="'nobody'"):
            ask("nobody")


def test_a_dead_task_can_be_requeued_and_others_cannot(queue: Bench) -> None:
    """It starts again from its first attempt."""
    fail = True

    @queue.tasks.worker("/flaky", retry={"task_retry_limit": 0})
    def flaky() -> Any:
        return ("no", 500) if fail else None

    dead = queue.run(flaky.add())
    assert dead.state is State.DEAD
    fail = False
    again = dead.requeue()
    assert (again.state, again.attempts) == (State.SCHEDULED, 0)
    assert queue.run(again).state is State.SUCCEEDED
    with pytest.raises(BadTaskStateError, match="is succeeded"):
        again.requeue()


def test_run_now_and_delete(queue: Bench) -> None:
    """A task for later is made due; a deleted one never runs."""
    later, never = (queue.tasks.add("/w", countdown=3600) for _ in range(2))
    assert never.delete()
    later.run_now()
    assert queue.tasks.drain() == 1
    assert queue.tasks.get(never.id).state is State.CANCELLED
    assert not never.delete()


def test_missing_tables_name_the_command(tmp_path: Path) -> None:
    """Outside of debug and testing they are not created by themselves; init-db creates them."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="secret", SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/app.db")
    SQLAlchemy(app)
    tasks = TaskQueue(app)
    tasks.worker("/w")(lambda: None)
    with closing(app):
        with pytest.raises(TablesMissingError, match="flask taskqueue init-db"):
            tasks.add("/w")
        runner = app.test_cli_runner()
        assert "Created taskqueue_task" in runner.invoke(args=["taskqueue", "init-db"]).output
        assert "there already" in runner.invoke(args=["taskqueue", "init-db"]).output
        assert tasks.add("/w").state is State.SCHEDULED


def test_without_a_database_of_the_app_a_file_is_made(tmp_path: Path) -> None:
    """In the instance folder, tables and all; in WAL and with every commit on disk."""
    app = Flask(__name__, instance_path=str(tmp_path / "instance"))
    app.config.update(SECRET_KEY="secret")
    tasks = TaskQueue(app)
    tasks.worker("/w")(lambda: None)
    tasks.add("/w")
    assert (tmp_path / "instance/taskqueue.sqlite3").exists()
    database = runtime_of(app).store.database
    with database.reading() as connection:
        modes = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert modes == ["wal", 2, 10_000]
    database.close()


def test_a_bind_of_the_app_holds_the_tables(tmp_path: Path) -> None:
    """And create_all() makes them there, and nowhere else."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="secret",
        TASKQUEUE_BIND_KEY="queue",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/app.db",
    )
    app.config["SQLALCHEMY_BINDS"] = {"queue": f"sqlite:///{tmp_path}/queue.db"}
    db = SQLAlchemy(app)
    TaskQueue(app, db)
    with closing(app), app.app_context():
        db.create_all()
        assert sa.inspect(db.engines["queue"]).has_table("taskqueue_task")
        assert not sa.inspect(db.engine).has_table("taskqueue_task")


@pytest.mark.parametrize(
    "config",
    [
        {"TASKQUEUE_BIND_KEY": "x"},
        {"TASKQUEUE_BIND_KEY": "x", "TASKQUEUE_DATABASE_URI": "sqlite://"},
    ],
)
def test_settings_that_contradict_themselves_are_refused(config: dict[str, str]) -> None:
    """At once, by their keys."""
    app = Flask(__name__)
    app.config.update(config)
    with pytest.raises(ConfigurationError, match="TASKQUEUE_BIND_KEY"):
        TaskQueue(app)


def test_without_a_secret_nothing_is_delivered(tmp_path: Path) -> None:
    """And the error says which key to set."""
    app = Flask(__name__, instance_path=str(tmp_path))
    tasks = TaskQueue(app)
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        tasks.drain()
    runtime_of(app).store.database.close()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:'get_engine' is deprecated:DeprecationWarning"
)  # of Flask-Migrate's own template
def test_flask_migrate_sees_the_tables(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration creates them, a second finds nothing to change."""
    monkeypatch.chdir(tmp_path)
    with bench(database.url) as queue:
        queue.db.drop_all()
        Migrate(queue.app, queue.db, directory=str(tmp_path / "migrations"))
        # Alembic's env.py configures logging for a process of its own.
        monkeypatch.setattr("logging.config.fileConfig", lambda *_, **__: None)
        init()
        migrate(message="first")
        upgrade()
        queue.tasks.worker("/w")(lambda: None)
        assert queue.run(queue.tasks.add("/w")).state is State.SUCCEEDED
        migrate(message="second")
        versions = sorted(
            (tmp_path / "migrations/versions").glob("*.py"),
            key=lambda path: path.stat().st_mtime_ns,
        )
        assert "taskqueue_task" in versions[0].read_text()
        assert len(versions) == 1 or "op." not in versions[1].read_text()
