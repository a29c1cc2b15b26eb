"""Threats: what was stored, by a user of add() or by whoever can write the tables, does more
than make one request.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import request

import flask_taskqueue
from flask_taskqueue import (
    InvalidHeaderError,
    InvalidTaskError,
    Task,
    TaskQueueError,
    TaskSpec,
    TaskTooLargeError,
)
from flask_taskqueue.core.queues.rates import FASTEST
from flask_taskqueue.core.states import State
from flask_taskqueue.core.times import LAST_MICROS, SECOND, to_micros
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench
from tests.apps import bench as application
from tests.databases import TestDatabase
from tests.misbehaving import ok, server

PACKAGE = Path(flask_taskqueue.__file__).parent

HEADERS: list[dict[Any, Any]] = [
    {"X-A": "a\r\nX-Evil: 1"},
    {"X-A": "a\rX-Evil: 1"},
    {"X-A": "a\nX-Evil: 1"},
    {"X-A": "a\x00b"},
    {"X-A": " a"},
    {"X-A": "x" * 9 * 1024},
    {"X-A": 5},
    {"X-A\r\nX-Evil": "1"},
    {"X-A: 1\nX-Evil": "1"},
    {"X A": "1"},
    {"X:A": "1"},
    {"": "1"},
    {"X_TaskQueue_QueueName": "x"},
    {"Content_Length": "5"},
    {"Transfer-Encoding": "chunked"},
    {"transfer-encoding": "identity, chunked"},
    {"Content-Length": "5"},
    {"Host": "evil.example"},
    {"Connection": "Upgrade"},
    {"Upgrade": "websocket"},
    {"Expect": "100-continue"},
    {"TE": "trailers"},
    {"Trailer": "X"},
    {"Proxy-Authorization": "x"},
    {"Forwarded": "for=x"},
    {"X-Forwarded-For": "x"},
    {"Cookie": "session=x"},
    {"webhook-signature": "v1,x"},
    {"X-TaskQueue-QueueName": "x"},
    {"X-A": "1", "x-a": "2"},
    {f"X-{number}": "x" * 1000 for number in range(20)},
]
COLUMNS: list[dict[str, Any]] = [
    {"headers": "{"},
    {"headers": "[1]"},
    {"headers": "5"},
    {"headers": "[" * 100_000},
    {"method": "POST / HTTP/1.1\r\nX-Evil: 1\r\n"},
    {"method": "CONNECT"},
    {"method": "post"},
    {"url": "/w\r\nX-Evil: 1"},
    {"url": "/w HTTP/1.1\r\nHost: evil"},
    {"url": "/w\x00"},
    {"url": "//evil.example/w"},
    {"url": "/\\evil.example/w"},
    {"url": b"/w"},
    {"name": "x\r\nX-Evil: 1"},
    {"name": "ünü"},
    {"batch_id": "x\nX-Evil: 1"},
    {"schedule": "x\r\nX-Evil: 1"},
    {"last_reason": "x\r\nX-Evil: 1", "attempts": 1},
    {"body": "a text"},
    {"follow_up": "["},
    {"follow_up": '[{"request": 5}]'},
    {"follow_up": '{"a": 1}'},
]


def rewrite(bench: Bench, task: Task, /, **values: Any) -> None:
    """Change a row as whoever can write the table would."""
    table = bench.store.database.tables.task
    written = {
        name: sa.literal(value, sa.String) if isinstance(value, str) else value
        for name, value in values.items()
    }
    with bench.store.database.engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == task.id).values(written))


@pytest.fixture
def ran(on_sqlite: Bench) -> list[str]:
    """What the handler of ``/w`` was called for, by the value of ``key``."""
    calls: list[str] = []

    @on_sqlite.tasks.worker("/w")
    def w(key: str = "") -> None:
        calls.append(key)

    return calls


@pytest.fixture
def watched(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application whose dashboard shows everybody everything."""
    with application(
        sqlite_database.url, TASKQUEUE_DASHBOARD=True, TASKQUEUE_DASHBOARD_ACCESS=lambda: True
    ) as one:
        yield one


class TestHeaderInjectionAndRequestSmuggling:
    """Nothing that is stored changes where a request ends, whom it is for, or what it proves."""

    @pytest.mark.slow
    def test_refused_when_added(self, on_sqlite: Bench, ran: list[str]) -> None:
        """Line breaks, NUL, underscores, what frames a message, what names a host, what is
        ours, 9 kB.
        """
        for headers in HEADERS:
            with pytest.raises(InvalidHeaderError):
                on_sqlite.tasks.add("/w", headers=headers)
        for method in ("POST / HTTP/1.1\r\nX: 1", "CONNECT", "TRACE", ""):
            with pytest.raises(InvalidTaskError):
                on_sqlite.tasks.add("/w", method=method or "EAT")
        assert on_sqlite.tasks.find() == []

    @pytest.mark.slow
    @pytest.mark.parametrize("transport", ["wsgi", "http"])
    def test_written_by_hand(self, on_sqlite: Bench, ran: list[str], transport: str) -> None:
        """The task is dead with the reason, nothing was sent, and the dispatcher goes on."""
        tasks = on_sqlite.tasks
        bad = {}
        for values in [*({"headers": json.dumps(one)} for one in HEADERS), *COLUMNS]:
            task = tasks.add("/w", {"key": "bad"})
            rewrite(on_sqlite, task, **values)
            bad[task.id] = values
        smuggled = tasks.add("/w", {"key": "bad"})
        rewrite(on_sqlite, smuggled, id="x.1\r\nX-Evil: 1")
        connected: list[int] = []

        def answer(connection: socket.socket) -> None:
            connected.append(1)
            ok(connection)

        with server(answer) as url:
            law = {"min_backoff_seconds": 3600}
            good = tasks.add("/w", {"key": "good"}, retry=law)
            on_sqlite.runtime.drain(transport=transport, base_url=url)
        sent = tasks.get(good.id)
        if transport == "wsgi":
            assert sent.state is State.SUCCEEDED
        else:  # the server is not the app, so its 200 says nothing of the handler
            assert (sent.state, "did not run" in str(sent.last_error)) == (State.SCHEDULED, True)
        for task_id, values in bad.items():
            task = tasks.get(task_id)
            assert (task.state, "malformed" in str(task.last_error)) == (State.DEAD, True), (
                values,
                task.last_error,
            )
        assert tasks.get("x.1\r\nX-Evil: 1").state is State.DEAD
        assert (ran, connected) == ((["good"], []) if transport == "wsgi" else ([], [1]))


class TestLogInjection:
    """One event is one line, whatever is in it."""

    def test_a_line_of_the_log_stays_one(
        self, on_sqlite: Bench, ran: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Names, URLs, methods and ids with line breaks, escape sequences and bidirectional
        marks.
        """
        caplog.set_level(logging.DEBUG, logger="flask_taskqueue")
        hostile = "\nERROR root: forged\r\x1b[2J\x1b]0;x\x07\u202e\u2028\x85\x00"
        for column in ("url", "method", "name", "queue", "headers", "retry", "target"):
            task = on_sqlite.tasks.add("/w")
            rewrite(
                on_sqlite, task, **{column: f"/w{hostile}"[: 10 if column == "method" else None]}
            )
        task = on_sqlite.tasks.add("/w")
        rewrite(on_sqlite, task, id=f"x{hostile}")
        on_sqlite.tasks.drain()
        on_sqlite.runtime.sweep()
        assert len(caplog.messages) >= 7
        for line in caplog.messages:
            assert line.isprintable(), line

    def test_nor_do_errors_bring_control_characters_along(self, on_sqlite: Bench) -> None:
        """What a handler raises, what it answers and where it redirects to is stored without
        them.
        """
        hostile = "a\x1b[2J\u202e"

        @on_sqlite.tasks.worker("/raises", retry={"task_retry_limit": 0})
        def raises() -> None:
            raise RuntimeError(hostile)

        @on_sqlite.tasks.worker("/redirects", retry={"task_retry_limit": 0})
        def redirects() -> Any:
            return "", 302, {"Location": f"/{hostile}"}

        on_sqlite.app.config["PROPAGATE_EXCEPTIONS"] = False
        for task in (
            on_sqlite.run(on_sqlite.tasks.add("/raises")),
            on_sqlite.run(on_sqlite.tasks.add("/redirects")),
        ):
            assert task.last_error is not None
            assert task.last_error.isprintable()


SQL = [
    "' OR '1'='1",
    "' OR 1=1 --",
    '" OR ""="',
    "'; DROP TABLE taskqueue_task; --",
    "1; DELETE FROM taskqueue_task",
    "x' UNION SELECT 1,2,3 --",
    "') OR pg_sleep(5) --",
    "%' OR 'a' LIKE '%",
    "%",
    "_%" * 13,
    "\\",
    "%(id)s",
    ":id",
    "$1",
    "?",
    "{0}",
    "\x00",
    "é" * 300,
    "\ud800",
]


CONSTANTS = {
    "sa.literal_column(str(step))": "the priorities, which are numbers of ours",
    "sa.literal_column(f\"'{State.LEASED}'\")": "the name of a state",
    "sa.literal_column(f\"'{reason}'\")": "the reasons of core.failures",
}


class TestSqlInjection:
    """Whatever is asked for is a value, not a part of a statement."""

    @pytest.mark.slow
    def test_all_filters(self, database: TestDatabase) -> None:
        """Nothing is found, nothing is changed, nothing fails otherwise than it would for any
        unknown word.
        """
        with application(database.url) as queue:
            tasks = queue.tasks
            tasks.worker("/w")(lambda: None)
            kept = [tasks.add("/w", name="one", unique_key="a").id, tasks.add("/w").id]
            mail = tasks.queue("default")
            for text in SQL:
                finds: list[Callable[[str], Any]] = [
                    *(
                        lambda one, name=name: tasks.find(**{name: one})
                        for name in ("queue", "url", "name", "batch", "search")
                    ),
                    *(lambda one, name=name: mail.find(**{name: one}) for name in ("url", "name")),
                    mail.get,
                ]
                for find in finds:
                    assert not find(text), (find, text)
                changes: list[Callable[[str], Any]] = [
                    *(
                        tasks.get,
                        tasks.delete,
                        tasks.requeue,
                        tasks.run_now,
                        tasks.get_batch,
                        tasks.get_schedule,
                        tasks.queue,
                    ),
                    *(
                        lambda one, name=name: tasks.find(**{name: one})
                        for name in ("state", "status")
                    ),
                    lambda one: tasks.find(before=one) and None,
                    *(
                        lambda one, name=name: tasks.add("/w", **{name: one})
                        for name in ("queue", "name")
                    ),
                ]
                for change in changes:
                    try:
                        assert not change(text), (change, text)
                    except (TaskQueueError, ValueError):
                        continue
                assert mail.delete([text]) == 0
                assert (
                    mail.delete_matching(url=text)
                    == mail.run_now(url=text)
                    == mail.requeue_dead(url=text)
                    == 0
                )
            assert sorted(task.id for task in tasks.find() if task.id in kept) == sorted(kept)
            assert {task.state for task in tasks.find()} == {State.SCHEDULED}

    @pytest.mark.slow
    def test_no_statement_is_put_together_from_texts(self) -> None:
        """Literal SQL in the package is constant: no f-string, no %, no + where a driver or
        text() gets it.
        """
        for path in PACKAGE.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
                    "text",
                    "literal_column",
                ):
                    constant = all(isinstance(argument, ast.Constant) for argument in node.args[:1])
                    assert constant or ast.unparse(node) in CONSTANTS, (path, ast.unparse(node))


class TestCodeExecutionByStoredData:
    """Rows are data: a task names its handler by what the application has registered, and holds
    JSON or bytes.
    """

    @pytest.mark.slow
    def test_nothing_in_the_package_makes_code_of_data(self) -> None:
        """No pickle, no eval, no import by a name, no YAML that makes objects.

        Two modules for deferred calls of App Engine do, and tests/appengine shows for what: one
        imports modules that the app allows, one loads pickles that are signed for their task.
        """
        modules = set(
            "pickle cPickle marshal shelve dill cloudpickle jsonpickle pkgutil runpy code".split()
        )
        names = set(
            "eval exec __import__ import_string import_module exec_module load_module "
            "find_modules locate unsafe_load".split()
        )
        loaders = {
            "yaml.load",
            "yaml.full_load",
            "yaml.Loader",
            "yaml.UnsafeLoader",
            "yaml.FullLoader",
        }
        deferred = {
            PACKAGE / "core" / "arguments" / "named_functions.py": {"import_module"},
            PACKAGE / "appengine" / "pickled.py": {"pickle"},
        }
        for path in PACKAGE.rglob("*.py"):
            may = deferred.get(path, set())
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found = {name.name.partition(".")[0] for name in node.names}
                    assert not (modules - may) & found, path
                elif isinstance(node, ast.ImportFrom):
                    assert str(node.module).partition(".")[0] not in modules, path
                elif isinstance(node, ast.Name | ast.Attribute):
                    name = node.id if isinstance(node, ast.Name) else node.attr
                    assert name not in names - may, (path, ast.unparse(node))
                    assert ast.unparse(node) not in loaders | {"compile"}, path

    def test_a_row_that_names_a_function_of_python_is_dead(
        self, on_sqlite: Bench, ran: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether by its name or by the URL of a function that was never registered: for an
        hour another release may have it.
        """
        called: list[Any] = []
        monkeypatch.setattr(os, "system", called.append)
        tasks = on_sqlite.tasks
        with TaskQueueTester(on_sqlite.app) as taskqueue:
            named, addressed, shaped = (
                tasks.add("/w", json={"key": "x"}, retry={"task_retry_limit": 0}) for _ in range(3)
            )
            rewrite(on_sqlite, named, name="os.system")
            rewrite(on_sqlite, addressed, url="/_taskqueue/task/os.system")
            rewrite(
                on_sqlite,
                shaped,
                body=b'{"key": {"py/object": "os.system", "__reduce__": ["os.system", ["id"]]}}',
            )
            tasks.drain()
            assert [tasks.get(one.id).state for one in (named, addressed, shaped)] == [
                State.DEAD,
                State.SCHEDULED,
                State.SCHEDULED,
            ]
            taskqueue.advance(3601)
            tasks.drain()
            assert [tasks.get(one.id).state for one in (named, addressed, shaped)] == [
                State.DEAD
            ] * 3
        assert (called, ran) == ([], [])

    def test_a_pickle_is_only_bytes(
        self, on_sqlite: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As body, as headers, as the tasks that follow."""

        class Bomb:
            def __reduce__(self) -> Any:
                return os.system, ("true",)

        called: list[Any] = []
        bomb = pickle.dumps(Bomb())
        monkeypatch.setattr(os, "system", called.append)
        got: list[bytes] = []

        @on_sqlite.tasks.worker("/bytes")
        def handler() -> None:
            got.append(request.get_data())

        task = on_sqlite.run(on_sqlite.tasks.add("/bytes", payload=bomb))
        assert (task.state, got, called) == (State.SUCCEEDED, [bomb], [])


class TestPoisonAndFlood:
    """One task, or many, do not take the queue down. Tasks that kill their process:
    test_a_poison_task_is_found.
    """

    def test_a_task_that_is_too_large_is_refused(self, on_sqlite: Bench, ran: list[str]) -> None:
        """100 kB and one byte, counted with URL, method and headers."""
        room = 102_400 - len("POST/w") - len("Content-Type: application/octet-stream\r\n")
        on_sqlite.tasks.add("/w", payload=b"x" * room)
        with pytest.raises(TaskTooLargeError):
            on_sqlite.tasks.add("/w", payload=b"x" * (room + 1))

    def test_what_follows_is_written_by_hand(self, database: TestDatabase) -> None:
        """What no column takes is refused before the database refuses it, which would stop the
        dispatcher.
        """
        request = {"method": "POST", "url": "/w", "headers": {}, "body": ""}
        wrong = [
            *("[" * 100_000, "{", "5", '[{"request": 5}]', '{"a": 1}', "[null]", "[[]]", '["a"]'),
            *(
                json.dumps([{"request": request, **changed}])
                for changed in (
                    *(
                        {"priority": "x"},
                        {"priority": 10**9},
                        {"priority": None},
                        {"delay": 2**70},
                        {"lock_limit": {}},
                        {"unknown": 1},
                    ),
                    *(
                        {"queue": "x" * 200},
                        {"name": "a\x00"},
                        {"unique_key": ["a"]},
                        {"lock_key": "s:" + "x" * 300},
                        {"schedule": 5},
                    ),
                    *(
                        {"eta": "never"},
                        {"eta": 5},
                        {"deadline": "1"},
                        {"keep_result": "yes"},
                        {"retry": 5},
                        {"batch_id": "x" * 40},
                    ),
                )
            ),
            *(
                json.dumps([{"request": {**request, **changed}}])
                for changed in (
                    {"method": "X" * 20},
                    {"url": 5},
                    {"url": "/\x00"},
                    {"headers": "x"},
                    {"body": "\u20ac"},
                    {"body": 5},
                )
            ),
        ]
        with application(database.url) as queue:
            calls: list[int] = []
            queue.tasks.worker("/w")(lambda: calls.append(1))
            store = queue.store
            bad = []
            for text in wrong:
                bad.append(queue.tasks.add("/w"))
                rewrite(queue, bad[-1], follow_up=text)
            batch = queue.tasks.batch([TaskSpec("/w")], on_finish=TaskSpec("/w"))
            table = store.database.tables.batch
            with store.database.engine.begin() as connection:
                connection.execute(
                    sa.update(table).where(table.c.id == batch.id).values(on_finish=wrong[8])
                )
            queue.tasks.drain()
            assert len(calls) == 1
            assert [
                task.id for task in bad if queue.tasks.get(task.id).state is not State.DEAD
            ] == []
            assert queue.tasks.get_batch(batch.id).is_finished

    def test_json_without_end_is_a_failed_task(self, on_sqlite: Bench, ran: list[str]) -> None:
        """Nested deeper than Python can read."""
        deep = on_sqlite.tasks.add(
            "/w",
            payload=b"[" * 100_000,
            headers={"Content-Type": "application/json"},
            retry={"task_retry_limit": 0},
        )
        good = on_sqlite.tasks.add("/w", {"key": "good"})
        on_sqlite.app.config["PROPAGATE_EXCEPTIONS"] = False
        on_sqlite.tasks.drain()
        assert on_sqlite.tasks.get(deep.id).state is State.DEAD
        assert (on_sqlite.tasks.get(good.id).state, ran) == (State.SUCCEEDED, ["good"])


@pytest.mark.slow
def test_a_row_that_is_malformed_is_shown_and_hides_no_other(watched: Bench) -> None:
    """Its page and the commands say what they can, and lists show it among the others."""
    watched.tasks.worker("/w")(lambda: None)
    written = [
        (column, text)
        for column in ("headers", "retry", "progress", "state")
        for text in ("", "{", "[]", "null", "5", '"a"', '{"a": [1]}', "[" * 10_000)
    ]
    tasks = []
    for column, text in written:
        task = watched.tasks.add("/w")
        rewrite(watched, task, **{column: text if column != "state" else f"a {text:.5}"})
        tasks.append(task)
    assert {task.id for task in watched.tasks.find()} == {task.id for task in tasks}
    commands = watched.app.test_cli_runner()
    assert commands.invoke(args=["taskqueue", "list"]).exit_code == 0
    for (column, text), task in zip(written, tasks, strict=True):
        shown = watched.app.test_client().get(f"/taskqueue/tasks/{task.id}").status_code
        told = commands.invoke(args=["taskqueue", "show", task.id, "--json"]).exit_code
        assert (shown, told) == (200, 0), (column, text)
        assert "malformed" in watched.tasks.why(task).sentence or column != "state"


def test_a_reply_whose_headers_are_malformed_hides_nothing_else(watched: Bench) -> None:
    """The page of its task and ``show`` name the attempt all the same."""
    watched.tasks.worker("/w")(lambda: ("not now", 503))
    task = watched.tasks.add("/w", retry={"task_retry_limit": 0})
    watched.tasks.drain()
    attempt = watched.store.database.tables.attempt
    watched.store.transact(
        lambda connection: connection.execute(sa.update(attempt).values(reply_headers="["))
    )
    page = watched.app.test_client().get(f"/taskqueue/tasks/{task.id}")
    assert (page.status_code, "not now" in page.text) == (200, True)
    told = watched.app.test_cli_runner().invoke(args=["taskqueue", "show", task.id, "--attempts"])
    assert (told.exit_code, "503" in told.output) == (0, True)


@pytest.mark.slow
def test_a_text_where_sqlite_should_hold_a_number_or_bytes_hides_and_holds_up_nothing(
    watched: Bench,
) -> None:
    """Whatever the column: pages, commands and lists show the row, and others run."""
    watched.tasks.worker("/w")(lambda: None)
    commands, client = watched.app.test_cli_runner(), watched.app.test_client()
    columns = [*watched.store.database.tables.task.c.keys()]
    for column in columns:
        task = watched.tasks.add("/w", countdown=3600)
        good = watched.tasks.add("/w")
        rewrite(watched, task, **{column: "soon"})
        assert good.id in {found.id for found in watched.tasks.find()}, column
        pages = ("", "tasks", f"tasks/{task.id}", "queues", "health/dispatcher")
        shown = [client.get(f"/taskqueue/{page}").status_code for page in pages]
        assert 500 not in shown, (column, shown)
        for args in (["list"], ["show", task.id], ["show", task.id, "--json"], ["stats"]):
            told = commands.invoke(args=["taskqueue", *args])
            assert told.exit_code in (0, 3), (column, args, told.exception)
        watched.tasks.drain()
        assert watched.tasks.get(good.id).state is State.SUCCEEDED, column
        with watched.store.database.engine.begin() as connection:
            connection.execute(sa.delete(watched.store.database.tables.task))


def test_a_task_that_is_due_after_all_time_is_dead_with_the_reason(on_sqlite: Bench) -> None:
    """Because no dispatcher would ever take it."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    tasks = [on_sqlite.tasks.add("/w", priority=priority) for priority in (-9, 0, 9)]
    for task, due_at in zip(tasks, ("soon", 2**62, "1"), strict=True):
        rewrite(on_sqlite, task, due_at=due_at)
    left = on_sqlite.tasks.add("/w")
    rewrite(on_sqlite, left, due_at=LAST_MICROS)
    on_sqlite.tasks.drain()
    assert "is no time" in on_sqlite.tasks.why(tasks[0]).sentence
    store = on_sqlite.store
    assert store.transact(store.end_unreachable) == 2
    assert store.transact(store.end_unreachable) == 0
    ended = [on_sqlite.tasks.get(task.id) for task in tasks]
    assert [task.state for task in ended] == [State.DEAD, State.DEAD, State.SUCCEEDED]
    assert "a due_at after all time" in ended[0].last_error
    assert on_sqlite.tasks.get(left.id).state is State.SCHEDULED


@pytest.mark.parametrize(
    ("limits", "starts", "why"),
    [
        ({"rate": -1}, False, "rate of queue default is 0"),
        ({"rate": "5/s"}, False, "rate of queue default is 0"),
        ({"max_concurrent": -1}, False, "no task at a time"),
        ({"max_concurrent": "one"}, False, "no task at a time"),
        ({"rate_per_key": -1}, False, "rate per key of queue default is 0"),
        ({"rate_per_key": "5/s"}, False, "rate per key of queue default is 0"),
        ({"rate": 500, "bucket_size": -1}, True, ""),
        ({"rate": 500, "bucket_size": "five"}, True, ""),
        ({"rate_per_key": 500, "bucket_size_per_key": 0}, True, ""),
    ],
)
def test_a_limit_written_by_hand_that_is_none_holds_up_its_queue_alone(
    database: TestDatabase, limits: dict[str, Any], starts: bool, why: str
) -> None:
    """Until somebody sets it right: it might be the one that keeps a receiver from a flood."""
    if database.name != "sqlite" and any(isinstance(limit, str) for limit in limits.values()):
        pytest.skip("only SQLite keeps a text in a column of numbers")
    queues = {"default": {"rate_per_key": "500/s"}, "other": {}}
    with application(database.url, TASKQUEUE_QUEUES=queues) as bench:
        bench.tasks.worker("/w")(lambda: None)
        task, other = bench.tasks.add("/w", rate_key="a"), bench.tasks.add("/w", queue="other")
        queue = bench.store.database.tables.queue
        with bench.store.database.engine.begin() as connection:
            for name, limit in limits.items():
                value = sa.literal(limit, sa.String) if isinstance(limit, str) else limit
                connection.execute(
                    sa.update(queue).where(queue.c.name == "default").values({name: value})
                )
        bench.tasks.drain()
        bench.runtime.sweep()
        assert bench.tasks.get(other.id).state is State.SUCCEEDED
        assert bench.tasks.get(task.id).state.is_finished is starts
        if not starts:
            told = bench.tasks.why(task)
            assert why in " ".join(cause.sentence for cause in (told, *told.others))
            right = {"rate": "500/s", "max_concurrent": 5, "rate_per_key": "500/s"}
            bench.tasks.queue("default").configure(**{name: right[name] for name in limits})
            assert bench.run(task).state is State.SUCCEEDED


@pytest.mark.slow
def test_a_text_in_place_of_a_number_of_any_other_table_holds_up_no_task(watched: Bench) -> None:
    """On SQLite: drains, sweeps, pages and the doctor go on, whichever column it is."""
    watched.tasks.worker("/w")(lambda fails=False: ("", 500) if fails else "")
    watched.tasks.add("/w", {"fails": "yes"}, retry={"task_retry_limit": 0})
    watched.tasks.drain()
    now = to_micros(datetime.now(UTC))
    asked = {"target": "/default", "status": 503, "retry_after": 1.0, "rate": FASTEST}
    instants = {"slowed_at": now, "asked_at": now, "over_at": now + 3600 * SECOND, "empty_at": 0}
    watched.store.transact(
        lambda connection: connection.execute(
            sa.insert(watched.store.database.tables.slowdown).values(asked | instants)
        )
    )
    commands, client = watched.app.test_cli_runner(), watched.app.test_client()
    tables, engine = watched.store.database.tables, watched.store.database.engine
    held_back = {"queue": {"rate", "max_concurrent", "paused_at", "deleted_at"}}
    for table in tables.all:
        name = table.name.removeprefix("taskqueue_")
        for column in table.c:
            if name == "task" or not isinstance(column.type, sa.Integer | sa.Double):
                continue
            with engine.begin() as connection:
                before = [row._asdict() for row in connection.execute(sa.select(table))]
                connection.execute(sa.update(table).values({column: sa.literal("soon", sa.String)}))
            task = watched.tasks.add("/w")
            watched.tasks.drain()
            watched.runtime.sweep()
            ran = watched.tasks.get(task.id).state is State.SUCCEEDED
            assert ran or column.name in held_back[name], column
            pages = ("", "queues", "handlers", "errors", "cron", "system", "health/dispatcher")
            shown = [client.get(f"/taskqueue/{page}").status_code for page in pages]
            assert 500 not in shown, (column, shown)
            for command in ("doctor", "stats", "queues", "health", "circuits", "check"):
                told = commands.invoke(args=["taskqueue", command])
                assert isinstance(told.exception, SystemExit | None), (column, command)
            with engine.begin() as connection:
                connection.execute(sa.delete(table))
                if before:
                    connection.execute(sa.insert(table), before)


def test_bytes_in_place_of_the_task_of_a_schedule_hold_up_no_task(on_sqlite: Bench) -> None:
    """On SQLite; the schedule does not fire, and says why."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    on_sqlite.tasks.add_schedule("nightly", "/w", "every day 03:00")
    on_sqlite.tasks.drain()
    schedule = on_sqlite.store.database.tables.schedule
    with on_sqlite.store.database.engine.begin() as connection:
        broken = {"task": sa.literal(b"\xff", sa.LargeBinary), "next_at": 1}
        assert connection.execute(sa.update(schedule).values(broken)).rowcount == 1
    task = on_sqlite.tasks.add("/w")
    assert on_sqlite.run(task).state is State.SUCCEEDED
    assert on_sqlite.app.test_cli_runner().invoke(args=["taskqueue", "cron", "list"]).exit_code == 0
    assert "Expecting value" in str(on_sqlite.tasks.get_schedule("nightly").last_error)


@pytest.mark.parametrize("column", ["attempts", "executions", "answered", "crashes", "pardons"])
def test_a_count_at_its_greatest_stays_there_and_holds_up_nothing(
    database: TestDatabase, column: str
) -> None:
    """A task that runs, one that fails and one whose lease ran out all come to an end."""
    with application(database.url) as bench:
        bench.tasks.worker("/w", endpoint="w")(lambda: None)
        law = {"task_retry_limit": 0}
        bench.tasks.worker("/fails", endpoint="fails", retry=law)(lambda: ("", 500))
        bench.tasks.worker("/commits", endpoint="commits", transactional=True)(lambda: None)
        tasks = [bench.tasks.add(url) for url in ("/w", "/fails", "/commits", "/w")]
        lost = {"state": "leased", "lease_id": "x", "held_by": "x", "attempts": 1}
        rewrite(bench, tasks[-1], **lost, started_at=1, due_at=1)
        for task in tasks:
            rewrite(bench, task, **{column: 2**31 - 1})
        bench.tasks.drain()
        ended = [bench.tasks.get(task.id) for task in tasks]
        last = State.DEAD if column == "crashes" else State.SUCCEEDED
        assert [task.state for task in ended] == [
            State.SUCCEEDED,
            State.DEAD,
            State.SUCCEEDED,
            last,
        ]
        assert all(task.attempts <= 2**31 - 1 >= task.crashes for task in ended)


def test_a_lease_that_no_dispatcher_takes_over_is_ended(database: TestDatabase) -> None:
    """That of a queue or priority that is none, or one that ends after all time."""
    with application(database.url) as bench:
        bench.tasks.worker("/w")(lambda: None)
        wrong: list[dict[str, Any]] = [
            {"queue": "none"},
            {"priority": 32767},
            {"due_at": LAST_MICROS + 1},
        ]
        tasks = [bench.tasks.add("/w") for _ in wrong]
        lost = {"state": "leased", "lease_id": "x", "held_by": "x", "attempts": 1, "due_at": 1}
        for task, values in zip(tasks, wrong, strict=True):
            rewrite(bench, task, **{**lost, "started_at": 1, **values})
        bench.runtime.sweep()
        ended = [bench.tasks.get(task.id) for task in tasks]
        assert [task.state for task in ended] == [State.DEAD] * 3
        assert all("malformed" in str(task.last_error) for task in ended)


@pytest.mark.parametrize("column", ["started_at", "lease_id", "held_by"])
def test_a_lost_lease_of_which_something_is_missing_is_taken_over(
    database: TestDatabase, column: str
) -> None:
    """Whoever wrote its row has left it out."""
    with application(database.url) as bench:
        bench.tasks.worker("/w")(lambda: None)
        task = bench.tasks.add("/w")
        lost = {"state": "leased", "lease_id": "x", "held_by": "x", "attempts": 1, "due_at": 1}
        rewrite(bench, task, **{**lost, "started_at": 1, column: None})
        assert bench.run(task).state is State.SUCCEEDED
        assert [reason for _, reason, _ in bench.attempts(task)] == ["crash", "success"]


def test_an_id_that_looks_like_a_list_is_that_of_one_task(database: TestDatabase) -> None:
    """Commas, quotes, braces, backslashes, spaces at its ends, and the word NULL."""
    with application(database.url) as bench:
        bench.tasks.worker("/w")(lambda: None)
        ids = ["a,b", 'a"b', "{a}", "a\\b", " a ", "NULL", "a'b", "[1]", "%s", "{}", '"', ","]
        for task_id in ids:
            rewrite(bench, bench.tasks.add("/w"), id=task_id)
        good = bench.tasks.add("/w")
        assert bench.run(good).state is State.SUCCEEDED
        states = {task_id: bench.tasks.get(task_id).state for task_id in ids}
        assert {state for state in states.values() if not state.is_finished} == set(), states
