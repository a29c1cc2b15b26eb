"""Results: a reply is kept whole, or says wherever it is looked at that it was cut."""

from __future__ import annotations

import base64
import json
import math
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Response

from flask_taskqueue import ResultNotJsonError, ResultTruncatedError, State, current_task
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase

CAP = 100
OPTIONS = {
    "TASKQUEUE_REPLY_EXCERPT": CAP,
    "TASKQUEUE_DASHBOARD_ACCESS": lambda: True,
    "TASKQUEUE_DASHBOARD": True,
}


@pytest.mark.parametrize("keys", [None, [base64.urlsafe_b64encode(b"k" * 32).decode()]])
def test_a_result_is_whole_or_says_that_it_was_cut(
    database: TestDatabase, keys: list[str] | None
) -> None:
    """By the task, for a function's result and a view's reply, encrypted too."""
    with bench(database.url, TASKQUEUE_ENCRYPTION_KEYS=keys, **OPTIONS) as one:

        @one.tasks.task
        def function(size: int) -> str:
            return "x" * (size - 2)

        @one.tasks.worker("/view")
        def view(size: int) -> str:
            return json.dumps("x" * (size - 2))

        for size in (CAP - 1, CAP, CAP + 1, 50 * CAP):
            tasks = [
                function.options(keep_result=True).enqueue(size),
                view.options(keep_result=True).add(size),
            ]
            one.tasks.drain()
            for task in tasks:
                assert one.tasks.get(task.id).state is State.SUCCEEDED
                result = task.result
                assert result is not None
                assert not [name for name in result.headers if name.startswith(":")]
                assert result.truncated == (size > CAP)
                if not result.truncated:
                    assert result.json == "x" * (size - 2)
                    assert len(result.text) == size
                    continue
                assert result.body == b'"' + b"x" * (CAP - 1)
                for look in ("json", "text"):
                    with pytest.raises(
                        ResultTruncatedError,
                        match=r"the 100 bytes .* raise TASKQUEUE_REPLY_EXCERPT",
                    ):
                        getattr(result, look)


UNFIT: list[tuple[Any, str]] = [
    ({"mean": math.nan}, "not JSON compliant"),
    (object(), "type object is not JSON"),
    (1j, "type complex is not JSON"),
    ({(1, 2): 3}, "unhashable"),
    ({1: "a", "1": "b"}, "two keys of an object become the same text"),
    ("\ud800", "half of a surrogate pair"),
    (10**5000, "digits"),
]


@pytest.mark.parametrize("over_http", [False, True])
def test_a_result_that_json_cannot_hold_says_so(
    sqlite_database: TestDatabase, caplog: pytest.LogCaptureFixture, over_http: bool
) -> None:
    """Where it is looked at and in the log, if it was to be kept. The task has succeeded: what
    the function did is done, once.
    """
    ran: list[int] = []
    with bench(sqlite_database.url) as one:

        def result(number: int) -> Any:
            ran.append(number)
            assert current_task.keep_result == (number < len(UNFIT))
            return UNFIT[number % len(UNFIT)][0]

        plain = one.tasks.task(name="plain")(result)
        transactional = one.tasks.task(name="transactional", transactional=True)(result)
        kept = [
            function.options(keep_result=True).enqueue(number)
            for function in (plain, transactional)
            for number in range(len(UNFIT))
        ]
        others = [plain.enqueue(len(UNFIT) + number) for number in range(len(UNFIT))]
        if over_http:
            with served(one.app) as url:
                one.runtime.drain(transport="http", base_url=url)
        else:
            one.tasks.drain()
        states = [one.tasks.get(task.id).state for task in kept + others]
        assert states == [State.SUCCEEDED] * len(ran)
        for task, (_, why) in zip(kept, UNFIT * 2, strict=True):
            assert task.result is not None
            sentence = f"the result of .*result is not kept, because JSON cannot hold it: .*{why}"
            for look in ("json", "text"):
                with pytest.raises(ResultNotJsonError, match=sentence):
                    getattr(task.result, look)
            assert re.search(f"task {task.id}: {sentence}", caplog.text)
        warned = [record for record in caplog.records if "is not kept" in record.getMessage()]
        assert len(warned) == len(kept)


def test_none_is_a_result_and_a_text_is_no_json(on_sqlite: Bench) -> None:
    """As `json` says, of the task and of an attempt in a test."""

    @on_sqlite.tasks.task(keep_result=True)
    def nothing() -> None: ...

    @on_sqlite.tasks.worker("/w", keep_result=True)
    def text() -> str:
        return "hello"

    with TaskQueueTester(on_sqlite.app) as tester:
        for task, wanted in ((nothing.enqueue(), None), (text.add(), "the reply is not JSON")):
            attempt, result = tester.run(task), task.result
            assert result is not None
            for reply in (attempt, result):
                if wanted is None:
                    assert reply.json is None
                else:
                    with pytest.raises(ResultNotJsonError, match=wanted):
                        _ = reply.json


def test_of_a_reply_of_which_nothing_is_kept_it_is_told(on_sqlite: Bench) -> None:
    """No body and no headers are nothing; a body that is not kept is not taken for an empty one."""
    with bench(on_sqlite.app.config["SQLALCHEMY_DATABASE_URI"], TASKQUEUE_REPLY_EXCERPT=0) as one:

        @one.tasks.worker("/w")
        def handler(text: str) -> str:
            return text

        full, empty = (
            handler.options(keep_result=True).add("text"),
            handler.options(keep_result=True).add(""),
        )
        one.tasks.drain()
        assert full.result is not None
        assert empty.result is not None
        assert (full.result.truncated, empty.result.truncated, empty.result.text) == (
            True,
            False,
            "",
        )


def test_over_http_it_is_told_too(sqlite_database: TestDatabase) -> None:
    """Whether the server says how long its reply is or not."""
    with bench(sqlite_database.url, **OPTIONS) as one:

        @one.tasks.worker("/whole")
        def whole() -> str:
            return "x" * 50 * CAP

        @one.tasks.worker("/streamed")
        def streamed() -> object:
            return one.app.response_class(iter(["x" * CAP] * 50))

        with served(one.app) as url:
            tasks = [worker.options(keep_result=True).add() for worker in (whole, streamed)]
            one.runtime.drain(transport="http", base_url=url)
        for task in tasks:
            assert one.tasks.get(task.id).state is State.SUCCEEDED, one.tasks.get(
                task.id
            ).last_error
            assert task.result is not None
            assert (task.result.truncated, len(task.result.body)) == (True, CAP)


def test_pages_and_commands_tell_it(sqlite_database: TestDatabase) -> None:
    """The task's page, its twin and `show`, of failures too."""
    with bench(sqlite_database.url, **OPTIONS) as one:

        @one.tasks.worker("/w", retry={"task_retry_limit": 0})
        def handler(size: int) -> tuple[str, int]:
            return "x" * size, 500

        for size, cut in ((CAP, False), (CAP + 1, True)):
            task = handler.add(size)
            one.tasks.drain()
            client = one.app.test_client()
            assert (
                "100 bytes kept; there were more" in client.get(f"/taskqueue/tasks/{task.id}").text
            ) == cut
            (tried,) = client.get(f"/taskqueue/tasks/{task.id}.json").get_json()["tried"]
            output = (
                one.app.test_cli_runner()
                .invoke(args=["taskqueue", "show", task.id, "--attempts", "--json"])
                .stdout
            )
            (shown,) = json.loads(output)["tried"]
            for document in (tried, shown):
                assert document["reply_truncated"] == cut
                assert document["reply_body"] == "x" * CAP
                assert not [name for name in document["reply_headers"] if name.startswith(":")]


def test_an_attempt_of_a_test_tells_it(sqlite_database: TestDatabase) -> None:
    """As the task's result does."""
    with bench(sqlite_database.url, **OPTIONS) as one, TaskQueueTester(one.app) as tester:

        @one.tasks.worker("/w")
        def handler(size: int) -> str:
            return "x" * size

        assert tester.run(handler.add(CAP)).text == "x" * CAP
        attempt = tester.run(handler.add(CAP + 1))
        assert (attempt.ok, attempt.truncated) == (True, True)
        with pytest.raises(ResultTruncatedError, match="TASKQUEUE_REPLY_EXCERPT"):
            _ = attempt.text


def test_a_large_body_is_not_kept_in_memory(sqlite_database: TestDatabase) -> None:
    """Nor lost: it is run to its end before the task counts as done."""
    pieces: list[int] = []

    def stream() -> Iterator[bytes]:
        for number in range(64):
            pieces.append(number)
            yield bytes(1_048_576)

    with bench(sqlite_database.url) as one:
        one.tasks.worker("/large")(lambda: Response(stream()))
        task = one.tasks.add("/large")
        tracemalloc.start()
        try:
            one.tasks.drain()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert one.tasks.get(task.id).state is State.SUCCEEDED
    assert len(pieces) == 64
    assert most < 32 * 1_048_576
