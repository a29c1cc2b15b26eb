"""The traceback of a failed attempt: kept where the app ran, and shown to those who may see
payloads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from flask_taskqueue import PermanentFailure, Retry, State, Task, current_task
from flask_taskqueue.core.failures import traceback_excerpt
from flask_taskqueue.core.security.encryption import MARK
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase

NEVER = {"task_retry_limit": 0}
SECRET = "card 4711"

Opened = Callable[..., Bench]


@pytest.fixture
def opened(database: TestDatabase) -> Iterator[Opened]:
    """Applications on each database, with a dashboard and a handler that fails as its task says."""
    with ExitStack() as stack:

        def make(**config: Any) -> Bench:
            config = {
                "TASKQUEUE_DASHBOARD": True,
                "TASKQUEUE_DASHBOARD_ACCESS": lambda: True,
                "PROPAGATE_EXCEPTIONS": False,
                **config,
            }
            one = stack.enter_context(bench(database.url, **config))

            @one.tasks.worker("/w", retry=NEVER, deadline=5)
            def w(how: str) -> None:
                fail(how)

            @one.tasks.worker("/once", retry=NEVER, transactional=True)
            def once(how: str) -> None:
                fail(how)

            return one

        yield make


def fail(how: str) -> None:
    """Fail in one of several ways."""
    if how == "retry":
        try:
            raise OSError("the printer is away")
        except OSError as error:
            raise Retry("later") from error
    if how == "permanent":
        raise PermanentFailure("no printer")
    if how == "timeout":
        while True:
            time.sleep(0.01)
    if how == "succeed":
        return
    deeper(how)


def deeper(how: str) -> None:
    """Fail one frame further down."""
    raise LookupError(f"{SECRET}: {how}")


def run(one: Bench, url: str, how: str, transport: str = "wsgi") -> Task:
    """The task after its attempt, in process or over HTTP."""
    task = one.tasks.add(url, {"how": how})
    if transport == "wsgi":
        return one.run(task)
    with served(one.app) as address:
        one.runtime.drain(transport="http", base_url=address)
    return one.tasks.get(task.id)


def kept(one: Bench, task: Task) -> str | None:
    """The traceback of the task's attempt as it is stored."""
    store = one.store
    with store.reading() as connection:
        (row,) = store.finished_tasks.attempts(connection, task.id)
    return row.traceback


TRANSPORTS = pytest.mark.parametrize("transport", ["wsgi", "http"])


@TRANSPORTS
@pytest.mark.parametrize("url", ["/w", "/once"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("boom", ["in deeper", f"LookupError: {SECRET}: boom"]),
        ("retry", ["OSError: the printer is away", "direct cause of the following", "later"]),
        ("permanent", ["in fail", "no printer"]),
    ],
)
def test_a_failed_attempt_keeps_its_traceback(
    opened: Opened, url: str, how: str, says: list[str], transport: str
) -> None:
    """From the handler on, with causes; shown by the page, its twin and the command."""
    one = opened()
    task = run(one, url, how, transport)
    found = kept(one, task)
    assert found is not None
    assert all(text in found for text in says)
    assert "site-packages/flask" not in found
    assert "flask_taskqueue/web" not in found
    client = one.app.test_client()
    assert client.get(f"/taskqueue/tasks/{task.id}.json").json["tried"][0]["traceback"] == found
    assert "<summary>Traceback</summary>" in client.get(f"/taskqueue/tasks/{task.id}").text
    runner = one.app.test_cli_runner()
    assert found in runner.invoke(args=["taskqueue", "show", task.id]).output
    document = json.loads(
        runner.invoke(args=["taskqueue", "show", task.id, "--attempts", "--json"]).output
    )
    assert document["tried"][0]["traceback"] == found


def test_a_timeout_tells_where_the_handler_was(opened: Opened) -> None:
    """The traceback is that of the deadline, in the frame that it struck."""
    one = opened()
    runtime = one.runtime
    runtime.start()
    try:
        task = one.tasks.add("/w", {"how": "timeout"}, deadline=0.3, retry=NEVER).wait(20)
    finally:
        runtime.stop()
    assert task.last_reason == "timeout"
    assert "in fail" in str(kept(one, task))


@TRANSPORTS
def test_a_success_keeps_none(opened: Opened, transport: str) -> None:
    """There is nothing to tell."""
    one = opened()
    task = run(one, "/w", "succeed", transport)
    assert (task.state, kept(one, task)) == (State.SUCCEEDED, None)


def test_it_takes_the_permission_for_payloads(opened: Opened) -> None:
    """Who may only look sees neither it nor what it says; nor is it found by a search."""
    one = opened(TASKQUEUE_DASHBOARD_ACCESS=lambda: "read")
    task = run(one, "/w", "boom")
    client = one.app.test_client()
    for page in (f"tasks/{task.id}", f"tasks/{task.id}.json"):
        assert "in deeper" not in client.get(f"/taskqueue/{page}").text
    assert client.get("/taskqueue/tasks.json?q=deeper").json["tasks"] == []


def test_an_existing_view_keeps_it_too(opened: Opened) -> None:
    """A view that is no worker, and whatever the app does with the error afterwards."""
    one = opened()
    one.app.add_url_rule(
        "/plain", view_func=lambda: deeper("plain"), endpoint="plain", methods=["POST"]
    )
    one.app.register_error_handler(LookupError, lambda error: ("sorry", 500))
    task = one.run(one.tasks.add("/plain", retry=NEVER))
    assert f"LookupError: {SECRET}: plain" in str(kept(one, task))


@TRANSPORTS
@pytest.mark.parametrize("most", [0, 200])
def test_how_much_is_kept_can_be_set(opened: Opened, most: int, transport: str) -> None:
    """Its end, in whole lines; or nothing."""
    one = opened(TASKQUEUE_TRACEBACK_EXCERPT=most)
    found = kept(one, run(one, "/w", "boom", transport))
    if not most:
        assert found is None
        return
    assert found is not None
    assert len(found) <= most
    assert found.splitlines()[-1] == f"LookupError: {SECRET}: boom"


@TRANSPORTS
def test_it_is_encrypted_like_replies(opened: Opened, transport: str) -> None:
    """With keys nobody reads it in the tables; a new key takes it along."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    one = opened(TASKQUEUE_ENCRYPTION_KEYS=[old])
    task = run(one, "/w", "boom", transport)
    stored = kept(one, task)
    assert stored is not None
    assert stored.startswith(MARK.decode())
    assert "in deeper" in one.app.test_client().get(f"/taskqueue/tasks/{task.id}").text
    one = opened(TASKQUEUE_ENCRYPTION_KEYS=[new, old])
    with one.app.app_context():
        assert one.app.test_cli_runner().invoke(args=["taskqueue", "rotate-keys"]).exit_code == 0
    again = kept(one, task)
    assert again is not None
    assert again[: len(MARK) + 8] != stored[: len(MARK) + 8]


def test_over_http_nothing_of_it_is_in_the_reply(opened: Opened) -> None:
    """Whoever is between the two processes does not see it."""
    one = opened(TASKQUEUE_REPLY_EXCERPT=100_000)
    task = run(one, "/w", "boom", "http")
    store = one.store
    with store.reading() as connection:
        (row,) = store.finished_tasks.attempts(connection, task.id)
    assert "in deeper" in row.traceback
    assert "in deeper" not in f"{row.reply_headers} {row.reply_body}"


def test_over_http_an_existing_view_keeps_none(opened: Opened) -> None:
    """A view that is no worker has not looked whose lease it is."""
    one = opened()
    one.app.add_url_rule(
        "/plain", view_func=lambda: deeper("plain"), endpoint="plain", methods=["POST"]
    )
    task = one.tasks.add("/plain", retry=NEVER)
    with served(one.app) as address:
        one.runtime.drain(transport="http", base_url=address)
    assert (one.tasks.get(task.id).state, kept(one, task)) == (State.DEAD, None)


def test_over_http_it_is_kept_whatever_the_app_has_locked(opened: Opened) -> None:
    """The handler's own transaction, which is rolled back as ever, has changed the task's row
    and the counter; on SQLite that is the lock of the whole database.
    """
    one = opened()
    task_table = one.store.database.tables.task

    @one.tasks.worker("/locks", retry=NEVER)
    def locks() -> None:
        mine = task_table.c.id == current_task.id
        one.db.session.execute(sa.update(task_table).where(mine).values(progress="[1, 2, null]"))
        one.db.session.get(one.Counter, 1).count += 1
        one.db.session.flush()
        deeper("locks")

    task = one.tasks.add("/locks")
    with served(one.app) as address:
        one.runtime.drain(transport="http", base_url=address)
    assert "LookupError" in str(kept(one, task))
    assert (one.tasks.get(task.id).progress, one.count()) == (None, 0)


def test_what_cannot_be_printed_is_cut_or_left_out() -> None:
    """Endless recursion, endless texts, control characters, exceptions that cannot say what
    they are.
    """

    class Silent(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def again(number: int) -> None:
        again(number + 1)

    def told(call: Callable[[], object]) -> str:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever it is
            return str(traceback_excerpt(error, 2000))
        raise AssertionError

    def throw(error: Exception) -> None:
        raise error

    assert len(told(lambda: again(0))) <= 2000
    long = told(lambda: throw(ValueError("x" * 10**6)))
    assert len(long) <= 2000
    assert "in throw" in long
    assert "\x1b" not in told(lambda: throw(ValueError("\x1b[31m\0\ud800")))
    assert "Silent" in told(lambda: throw(Silent()))
    many = told(lambda: throw(ValueError("a\rb\n\n" * 10**6)))
    assert ("b\n\na\nb\n\na" in many, 1900 < len(many) <= 2000) == (True, True)


@pytest.mark.parametrize("path", ["/plain", "/worker", "/refuses", "/retries"])
def test_an_exception_that_cannot_say_what_it_is_is_named(opened: Opened, path: str) -> None:
    """As the error of the attempt that raised it."""
    one = opened()

    class Silent(Exception):
        def __str__(self) -> str:
            raise self

    class Refusal(Silent, PermanentFailure): ...

    class Again(Silent, Retry): ...

    def throw(kind: Callable[[], Exception]) -> Callable[[], object]:
        def handler() -> object:
            raise kind()

        return handler

    one.app.add_url_rule("/plain", "plain", throw(Silent), methods=["POST"])
    for rule, kind in (("/worker", Silent), ("/refuses", Refusal), ("/retries", Again)):
        one.tasks.worker(rule, endpoint=rule[1:])(throw(kind))
    task = one.run(one.tasks.add(path, retry=NEVER))
    assert task.state is State.DEAD
    assert "its text is not known: str() raised " in str(task.last_error)
    assert ("Silent: (" in str(task.last_error)) == (path in ("/plain", "/worker"))
