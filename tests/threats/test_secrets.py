"""Threat: a secret in a task reaches a log, an error, a repr."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Response, redirect

from flask_taskqueue import Task, TaskQueueError, TaskSpec
from flask_taskqueue.core.delivery.delivery import Delivery
from flask_taskqueue.core.delivery.verdict import OutgoingRequest, Reply
from flask_taskqueue.core.signals import attempt_finished
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.tasks.spec import NewTask
from flask_taskqueue.core.tasks.task import Result
from flask_taskqueue.store import ScheduleDefinition
from flask_taskqueue.store.leases.attempts import AttemptResult
from tests.apps import bench
from tests.databases import TestDatabase
from tests.misbehaving import request, server

MARK = "hunter2-do-not-show"


class TestSecretsInLogsErrorsAndReprs:
    """Bodies, headers, query strings, user information and keys are in tables and requests, and
    in nothing that is read on the side.
    """

    def test_a_marker_in_every_field(
        self, sqlite_database: TestDatabase, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Tasks of every fate are run, over both transports; no line of the log, no stored
        error and no repr has the marker.
        """
        caplog.set_level(logging.INFO)
        caplog.set_level(logging.DEBUG, logger="flask_taskqueue")
        shown: list[str] = []

        def leak(connection: socket.socket) -> None:
            request(connection)
            head = (
                "HTTP/1.1 302 Found\r\nLocation: "
                f"https://user:{MARK}@h.example/?{MARK}\r\nSet-Cookie: {MARK}\r\nX-{MARK}: "
                f"{MARK}\r\n\r\n"
            )
            connection.sendall(head.encode())

        def garble(connection: socket.socket) -> None:
            request(connection)
            connection.sendall(f"{MARK}\r\n\r\n".encode())

        secrets = {
            "SECRET_KEY": MARK * 2,
            "TASKQUEUE_SECRET": MARK * 3,
            "TASKQUEUE_ALLOWED_HOSTS": ["127.0.0.1"],
        }
        with (
            server(leak) as leaking,
            server(garble) as garbling,
            bench(sqlite_database.url, **secrets) as queue,
        ):
            tasks = queue.tasks
            attempt_finished.connect(
                lambda _, **event: shown.append(repr(event)), queue.app, weak=False
            )

            @tasks.worker("/number")
            def number(n: int = 0) -> None: ...

            @tasks.task
            def function(n: int) -> None: ...

            @tasks.worker("/answers", methods=("POST", "GET"))
            def answers() -> Response:
                return Response(MARK, 500, headers={"X-A": MARK, "Set-Cookie": MARK})

            @tasks.worker("/redirects")
            def redirects() -> Any:
                return redirect(f"/login?next={MARK}")

            options: dict[str, Any] = {
                "headers": {"Authorization": MARK, "X-Api-Key": MARK},
                "retry": {"task_retry_limit": 0},
            }
            specs = [
                TaskSpec("/number", payload=MARK, **options),
                TaskSpec("/number", {"n": MARK}, **options),
                TaskSpec("/number", json={"n": MARK}, **options),
                TaskSpec(
                    "/number", json={"n": [MARK]}, then=TaskSpec("/number", {"n": MARK}), **options
                ),
                TaskSpec("/_taskqueue/task/function", json={"n": MARK}, **options),
                TaskSpec("/answers", {"q": MARK}, method="GET", **options),
                TaskSpec("/answers", payload=MARK, keep_result=True, **options),
                TaskSpec("/redirects", payload=MARK, **options),
                TaskSpec(f"{leaking}/?token={MARK}", payload=MARK, **options),
                TaskSpec(f"{garbling}/?token={MARK}", payload=MARK, **options),
                TaskSpec(f"http://127.0.0.1:1/?token={MARK}", payload=MARK, **options),
                TaskSpec(f"http://127.0.0.2:1/?token={MARK}", payload=MARK, **options),
            ]
            added = [tasks.add(spec) for spec in specs[:-1]]
            shown += [_error(tasks.add, specs[-1]), *map(repr, specs), *map(repr, added)]
            tasks.drain()
            shown += [f"{task!r} {task.last_error}" for task in tasks.find()]
            assert len(shown) >= 3 * len(added)
            assert {task.last_status for task in tasks.find()} >= {None, 302, 422, 500}
        _absent([*shown, *caplog.messages, *(str(record.__dict__) for record in caplog.records)])

    def test_a_database_that_refuses(
        self, sqlite_database: TestDatabase, caplog: pytest.LogCaptureFixture
    ) -> None:
        """SQLAlchemy puts the parameters of a statement into its errors; ours do without."""
        with bench(sqlite_database.url) as queue:
            queue.tasks.worker("/w", retry={"task_retry_limit": 0})(lambda: Response(MARK, 500))
            store = queue.store
            table = store.database.tables.attempt.name
            task = queue.tasks.add("/w", payload=MARK, headers={"X-A": MARK})
            with store.database.engine.begin() as connection:
                refuse = "SELECT RAISE(FAIL, 'refused') WHERE (SELECT count(*) FROM refusals) = 0"
                connection.exec_driver_sql("CREATE TABLE refusals (n INTEGER)")
                connection.exec_driver_sql(
                    f"CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN {refuse}; END"
                )
            warned: list[str] = []

            class Relent(logging.Handler):
                def emit(self, record: logging.LogRecord) -> None:
                    warned.append(record.getMessage())
                    with store.database.engine.begin() as connection:
                        connection.exec_driver_sql("INSERT INTO refusals VALUES (1)")

            logger = logging.getLogger("flask_taskqueue")
            handler = Relent(logging.WARNING)
            logger.addHandler(handler)
            try:
                queue.tasks.drain()
            finally:
                logger.removeHandler(handler)
            assert "refuse" in warned[0]
            assert queue.attempts(task)
            with (
                pytest.raises(sa.exc.DBAPIError) as caught,
                store.database.engine.begin() as connection,
            ):
                connection.execute(sa.text("INSERT INTO nothing VALUES (:a)"), {"a": MARK})
        _absent([*warned, *caplog.messages, str(caught.value)])

    def test_errors_of_add(self, sqlite_database: TestDatabase) -> None:
        """What is wrong is said without the values that may be secret."""
        with bench(sqlite_database.url, TASKQUEUE_ALLOWED_HOSTS=["h.example"]) as queue:
            queue.tasks.worker("/w")(lambda: None)

            @queue.tasks.task
            def function(n: int) -> None: ...

            wrong: list[dict[str, Any]] = [
                {"url": f"w?token={MARK}"},
                {"url": f"//h.example/?token={MARK}"},
                {"url": f"/no-such-route?token={MARK}", "payload": b""},
                {"url": f"/w?token={MARK}\n"},
                {"url": f"/w?token={MARK}"},
                {"url": f"/w#{MARK}"},
                {"url": f"/w?{MARK * 200}"},
                {"url": f"https://user:{MARK}@h.example/"},
                {"url": f"https://other.example/?token={MARK}"},
                {"url": f"https://h.example:x/?token={MARK}"},
                {"url": f"ftp://h.example/?token={MARK}"},
                {"url": "/w", "target": f"https://user:{MARK}@h.example"},
                {"url": "/w", "headers": {"Authorization": f"{MARK}\n"}},
                {"url": "/w", "headers": {"Cookie": MARK}},
                {"url": "/w", "headers": MARK},
                {"url": "/w", "json": {"a": MARK, "b": object()}},
                {"url": "/w", "params": {"a": MARK, "b": None}},
                {"url": "/w", "params": {"a": 1}, "payload": MARK},
                {"url": "/w", "payload": [MARK]},
                {"url": "/w", "payload": MARK * 10_000},
                {"url": f"/_taskqueue/task/none?{MARK}", "json": MARK},
            ]
            _absent(_error(queue.tasks.add, TaskSpec(**item)) for item in wrong)
            _absent([_error(function.enqueue, MARK), _error(function.enqueue, {MARK: object()})])

    def test_reprs_of_what_holds_a_payload(self, sqlite_database: TestDatabase) -> None:
        """Inside too: an error report shows the local variables of each frame."""
        with bench(sqlite_database.url) as queue:
            queue.tasks.worker("/w")(lambda: None)
            task: Task = queue.tasks.add(
                "/w", payload=MARK, headers={"A": MARK}, then=TaskSpec("/w", {"a": MARK})
            )
            with queue.store.reading() as connection:
                record = queue.store.tasks.get(connection, task.id)
        held = TaskRequest("POST", f"/w?{MARK}", {"A": MARK}, MARK.encode())
        reply = Reply(200, {"a": MARK}, MARK.encode())
        definition = {
            "name": "a",
            "text": "b",
            "timezone": "c",
            "misfire": "d",
            "overlap": "e",
            "description": None,
        }
        values = [
            task,
            record,
            held,
            NewTask(id="x", request=held, follow_up=MARK),
            OutgoingRequest(
                "POST", f"http://user:{MARK}@h.example/?{MARK}", {"A": MARK}, MARK.encode()
            ),
            reply,
            Result(200, {"A": MARK}, MARK.encode()),
            AttemptResult(record, None, 0.0, reply_headers=MARK, reply_body=MARK.encode()),  # type: ignore[arg-type]
            Delivery(record=record, started=0, expires=0),
            TaskSpec(f"/w?{MARK}", {"a": MARK}, payload=MARK),
            ScheduleDefinition(**definition, task=MARK),
        ]
        _absent(map(repr, values))


def _error(call: Any, *args: Any) -> str:
    with pytest.raises((TaskQueueError, TypeError)) as caught:
        call(*args)
    return str(caught.value)


def _absent(texts: Any) -> None:
    for text in texts:
        assert MARK not in text
