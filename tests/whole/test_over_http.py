"""Over HTTP as in process: under the servers that people have, not under the development server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flask_taskqueue import State, Task
from flask_taskqueue.core.errors import InvalidUrlError
from tests.apps import runtime_of
from tests.readers import READS
from tests.waiting import wait_until
from tests.whole.echo_app import METHODS, create_app
from tests.whole.processes import process
from tests.whole.test_serving import answers, free_port

FACTORY = "tests.whole.echo_app:create_app()"
UWSGI = Path(sys.executable).with_name("uwsgi")
ASGI = (
    "import sys, uvicorn; from asgiref.wsgi import WsgiToAsgi; from tests.whole.echo_app import "
    "create_app; "
)
SERVERS = {
    "gunicorn sync": ["-m", "gunicorn", "-b", "127.0.0.1:PORT", FACTORY],
    "gunicorn gthread": ["-m", "gunicorn", "--threads", "4", "-b", "127.0.0.1:PORT", FACTORY],
    "waitress": [
        "-m",
        "waitress",
        "--listen=127.0.0.1:PORT",
        "--call",
        "tests.whole.echo_app:create_app",
    ],
    "uwsgi": [
        *(
            "-c",
            f"import os, sys; os.execv({str(UWSGI)!r}, ['uwsgi', *sys.argv[1:]])",
            "--http-socket",
            "127.0.0.1:PORT",
        ),
        *("--module", FACTORY, "--master", "--need-app", "--die-on-term"),
    ],
    "uvicorn, by asgiref": ["-c", ASGI + "uvicorn.run(WsgiToAsgi(create_app()), port=PORT)"],
}


class Twice:
    """An application in this process and behind a server, on one database."""

    def __init__(self, app: Flask, port: int) -> None:
        self.app = app
        self.tasks: Any = app.extensions["taskqueue.tests"]
        self.url = f"http://127.0.0.1:{port}"

    def run(self, *arguments: Any, **options: Any) -> tuple[Task, Task]:
        """What became of a task in process, and over HTTP."""
        ids = [
            self.tasks.add(*arguments, queue=queue, keep_result=True, **options).id
            for queue in ("in-process", "over-http")
        ]
        runtime = runtime_of(self.app)
        runtime.drain(queues=["in-process"])
        runtime.drain(queues=["over-http"], transport="http", base_url=self.url)
        first, second = (self.tasks.get(task_id) for task_id in ids)
        return first, second


@pytest.fixture(scope="module", params=SERVERS)
def twice(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Twice]:
    """Each server in turn."""
    if request.param == "uwsgi" and not UWSGI.exists():
        pytest.skip("uwsgi is not installed")
    folder, port = tmp_path_factory.mktemp("echo"), free_port()
    command = [word.replace("PORT", str(port)) for word in SERVERS[request.param]]
    environment = {"ECHO_FOLDER": str(folder)}
    with pytest.MonkeyPatch.context() as patch, process(command, environment, folder / "output"):
        patch.setenv("ECHO_FOLDER", str(folder))
        app = create_app()
        with app.app_context():
            runtime_of(app).store.ensure_queues()
            wait_until(lambda: answers(port), what="the server answers", timeout=60)
            yield Twice(app, port)
        runtime_of(app).store.database.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "params", [{"name": "ana", "number": 3}, {"name": "ü&="}], ids=["ascii", "escaped"]
)
def test_every_method_arrives(twice: Twice, method: str, params: dict[str, Any]) -> None:
    """With a body or without, with its parameters."""
    for task in twice.run("/named", params, method=method):
        assert (task.state, task.last_status) == (State.SUCCEEDED, 200), task.last_error
        assert method == "HEAD" or task.result.json == [params["name"], params.get("number", 0)]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_arrives_without_anything(twice: Twice, method: str) -> None:
    """No body, no parameters."""
    for task in twice.run("/echo", method=method):
        assert (task.state, task.last_error) == (State.SUCCEEDED, None)
        assert method == "HEAD" or task.result.json["body"] == ""


@pytest.mark.parametrize("look", READS)
def test_a_hook_may_read_the_body(twice: Twice, look: str) -> None:
    """However it does, the task's parameters are there, and its body is that of the task."""
    for task in twice.run("/named", {"name": "ana", "lang": "fr"}, headers={"X-Looks": look}):
        assert (task.state, task.last_error) == (State.SUCCEEDED, None)
        assert task.result.json == ["ana", 0]
    for task in twice.run("/echo", payload=b"{}" * 7000, headers={"X-Looks": look}):
        assert (task.state, task.last_error) == (State.SUCCEEDED, None)
        assert len(task.result.json["body"]) == 14_000


CHARACTERS = st.sampled_from(
    [
        *map(chr, range(0x21, 0x7F)),
        "%2f",
        "%2F",
        "%3F",
        "%25",
        "%c3%A9",
        "%ff",
        "%41",
        "%2e",
        "/./",
        "/../",
        "//",
        "?",
    ]
)
TEXTS = st.lists(CHARACTERS, max_size=12).map("".join)


@example(path="%ff", query="%ff=%00")
@example(path="%c3%a9", query="%c3")
@example(path="a%2Fb", query="next=%2fhome")
@example(path="a/../b", query='{1}|^`"<>[x]')
@example(path="100%", query="100%&a=%20")
@example(path="/%2F%2Fa%3Fb", query="?")
@example(path="", query="")
@given(path=TEXTS, query=TEXTS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_url_arrives_alike(twice: Twice, path: str, query: str) -> None:
    """Whatever path and query add() takes: both ways the app sees the same of it, and the guard
    lets it in.
    """
    try:
        first, second = twice.run(f"/echo/{path}?{query}", json={})
    except InvalidUrlError:
        return
    assert (second.state, second.last_status, second.last_error) == (
        first.state,
        first.last_status,
        first.last_error,
    )
    assert first.state is State.SUCCEEDED or "has no route" in str(first.last_error)
    assert [one.result and one.result.body for one in (first, second)] == [
        first.result and first.result.body
    ] * 2


def test_the_handler_is_told_the_deadline_of_its_queue(twice: Twice) -> None:
    """As the dispatcher reckons it."""
    _, task = twice.run("/deadline")
    assert 60 < task.result.json[0] <= 77
