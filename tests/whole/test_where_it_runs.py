"""Which processes run a dispatcher, whatever started them."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import requests
from flask import Flask

from flask_taskqueue import State
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.processes import descendants, need, process
from tests.whole.test_serving import app, deliveries, free_port

__all__ = ["app"]

PROGRAM = """
import os, signal, sys, threading, time
import click
from flask.cli import FlaskGroup, ScriptInfo
from tests.whole import loop_app

def create_app():
    app = loop_app.create_app()

    @app.cli.command("serve")
    @click.argument("port", type=int)
    def serve(port):
        from wsgiref.simple_server import make_server
        make_server("127.0.0.1", port, app).serve_forever()

    @app.cli.command("sit")
    def sit():
        time.sleep(600)

    return app

class Plugins(FlaskGroup):
    def get_command(self, context, name):
        context.ensure_object(ScriptInfo).load_app()
        return super().get_command(context, name)

@click.group(cls=Plugins, create_app=create_app)
def early(): ...

@click.group()
def outer(): ...

@outer.group(cls=FlaskGroup, create_app=create_app)
def web(): ...

def forking(port):
    create_app().run(port=port, processes=4, threaded=False)

def late(port):
    "A server in another thread; the program's own SIGTERM handler is set after the start."
    from werkzeug.serving import make_server
    server = make_server("127.0.0.1", port, create_app(), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not open(os.environ["LOOP_LOG"]).read():
        time.sleep(0.05)
    ended = []
    def told(*_):
        ended.append(threading.current_thread() is threading.main_thread())
    signal.signal(signal.SIGTERM, told)
    while signal.getsignal(signal.SIGTERM) is told:
        time.sleep(0.05)
    print("ready", flush=True)
    while not ended:
        time.sleep(0.05)
    print("told", *ended, flush=True)
    os._exit(3)

if __name__ == "__main__":
    what = sys.argv.pop(1)
    if what in ("forking", "late"):
        globals()[what](int(sys.argv[1]))
    else:
        {"early": early, "outer": outer}[what]()
"""


@pytest.fixture
def program(app: Flask, tmp_path: Path) -> Path:
    """A program that serves the application in several ways."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


def answers(port: int) -> bool:
    """Whether a server answers; it may be slow."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=30).ok
    except requests.ConnectionError:
        return False


def ran(tmp_path: Path, count: int = 1) -> None:
    """Wait until so many tasks have run."""
    said = tmp_path / "output"
    wait_until(
        lambda: len(deliveries(tmp_path)) == count,
        what=f"tasks have run: {said.read_text()}",
        timeout=60,
    )


@pytest.mark.parametrize(
    "command",
    [("early", "run", "--port"), ("outer", "web", "run", "--port")],
    ids=["early", "nested"],
)
def test_a_development_server_runs_what_waits_without_a_visit(
    program: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Under whatever name, in whatever group of commands, however early the application was
    loaded.
    """
    loop_app.plain.add()
    with process([str(program), *command, str(free_port())], {}, tmp_path / "output"):
        ran(tmp_path)


def test_a_command_that_serves_runs_tasks_from_its_first_request_on(
    program: Path, tmp_path: Path
) -> None:
    """As any process that serves does; before that it runs none."""
    loop_app.plain.add()
    port = free_port()
    with process(
        ["-m", "flask", "--app", str(program), "serve", str(port)], {}, tmp_path / "output"
    ):
        wait_until(lambda: answers(port), what="the server answers", timeout=60)
        ran(tmp_path)


SITTING = ("-m", "flask", "--app", "PROGRAM", "sit")
GUNICORN = ("-m", "gunicorn", "-b", "127.0.0.1:PORT", "program:create_app()")
GRANIAN = (
    "-m",
    "granian",
    "--interface",
    "wsgi",
    "--host",
    "127.0.0.1",
    "--port",
    "PORT",
    "--factory",
    "program:create_app",
)


@pytest.mark.parametrize(
    "command",
    [SITTING, GUNICORN, (*GUNICORN, "--preload"), GRANIAN],
    ids=["command", "gunicorn", "preload", "granian"],
)
def test_on_means_on(program: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Without a visit, in a command too; under gunicorn in the workers, preloaded or not."""
    if command is GRANIAN:
        need("granian")
    loop_app.plain.add()
    words = [
        word.replace("PORT", str(free_port())).replace("PROGRAM", str(program)) for word in command
    ]
    environment = {
        "FLASK_TASKQUEUE_DISPATCHER": "on",
        "PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}",
    }
    with process(words, environment, tmp_path / "output") as server:
        ran(tmp_path)
        family = {process.pid for process in descendants(server.pid)} | (
            set() if "gunicorn" in words else {server.pid}
        )
        assert {dispatcher.pid for dispatcher in loop_app.tasks.dispatchers()} <= family
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert loop_app.tasks.dispatchers() == []
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_a_server_that_forks_for_each_request_runs_tasks_in_the_parent(
    program: Path, tmp_path: Path
) -> None:
    """What ends with its request would take tasks with it."""
    port = free_port()
    with process([str(program), "forking", str(port)], {}, tmp_path / "output") as server:
        wait_until(lambda: answers(port), what="the server answers", timeout=60)
        for _ in range(5):
            loop_app.plain.add()
            assert answers(port)
        ran(tmp_path, 5)
        assert {dispatcher.pid for dispatcher in loop_app.tasks.dispatchers()} == {server.pid}
    assert all(task.attempts == 1 for task in loop_app.tasks.find(state=State.SUCCEEDED))


def test_a_handler_that_comes_after_ours_is_called_when_leases_are_given_back(
    program: Path, tmp_path: Path
) -> None:
    """In the main thread; it may end the process without a word."""
    loop_app.slow.add(seconds=600)
    output = tmp_path / "output"
    with process(
        [str(program), "late", str(free_port())], {"FLASK_TASKQUEUE_GRACE_PERIOD": "0.5"}, output
    ) as server:
        wait_until(
            lambda: "ready" in output.read_text(),
            what="the program's handler has been seen",
            timeout=60,
        )
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 3
    (task,) = loop_app.tasks.find()
    assert "told True" in output.read_text()
    assert (task.state, task.attempts, task.crashes) == (State.SCHEDULED, 0, 0)


def test_the_log_says_once_why_a_serving_process_runs_no_dispatcher(
    program: Path, tmp_path: Path
) -> None:
    """And that nobody sees to what it adds is told by whoever adds it."""
    port, output = free_port(), tmp_path / "output"
    logging = (
        "-c",
        "import logging, sys; logging.basicConfig(level=20); sys.path.insert(0, "
        f"{str(tmp_path)!r}); import program; ",
    )
    command = (*logging[:1], logging[1] + f"program.create_app().run(port={port})")
    with process(command, {"FLASK_TASKQUEUE_DISPATCHER": "off"}, output):
        wait_until(lambda: answers(port), what="the server answers", timeout=60)
        assert answers(port)
        wait_until(lambda: "runs no dispatcher" in output.read_text(), what="it is told")
    assert output.read_text().count('runs no dispatcher: TASKQUEUE_DISPATCHER is "off"') == 1


_WARM = """
from flask import Flask
from flask_taskqueue import TaskQueue

app = Flask(__name__, instance_path={path!r})
app.secret_key = "a secret for tests"
TaskQueue(app)
app.get("/")(lambda: "warm")
assert app.test_client().get("/").text == "warm"
"""
_ASK = """
import threading, warm
def started():
    return any(thread.name.startswith("taskqueue") for thread in threading.enumerate())
print(started())
warm.app.test_client().get("/")
print(started())
"""


def test_a_request_that_a_module_makes_as_it_is_imported_starts_none(tmp_path: Path) -> None:
    """It serves nobody; a command, or gunicorn's master, may be what imports it."""
    (tmp_path / "warm.py").write_text(_WARM.format(path=str(tmp_path)), encoding="utf-8")
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    with process(("-c", _ASK), environment, tmp_path / "said") as running:
        assert running.wait(60) == 0
    assert (tmp_path / "said").read_text(encoding="utf-8").split() == ["False", "True"]


_UNDER_UWSGI = """
import sys, threading
from types import ModuleType

import warm

sys.modules["uwsgi"] = uwsgi = ModuleType("uwsgi")
uwsgi.has_threads, uwsgi.opt = {has_threads}, {{}}
warm.app.test_client().get("/")
print(any(thread.name.startswith("taskqueue") for thread in threading.enumerate()))
"""


@pytest.mark.parametrize("has_threads", [0, 1])
def test_uwsgi_itself_says_whether_a_dispatcher_can_work(tmp_path: Path, has_threads: int) -> None:
    """Without threads none starts, because what it leases would stand still; the log says so.

    Whatever the options: releases differ in what they mean.
    """
    (tmp_path / "warm.py").write_text(_WARM.format(path=str(tmp_path)), encoding="utf-8")
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    program = _UNDER_UWSGI.format(has_threads=has_threads)
    with process(("-c", program), environment, tmp_path / "said") as running:
        assert running.wait(60) == 0
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert ("runs no dispatcher: uWSGI runs without threads" in said) == (has_threads == 0)
    assert said.split()[-1] == str(bool(has_threads))


_ENDS = """
import threading
import flask_taskqueue.web.starting.autostart as autostart

going_on = threading.Event()
check = autostart.check_application
autostart.check_application = lambda app: going_on.wait() and check(app)


def after_all_else():
    going_on.set()
    for thread in threading.enumerate():
        if thread.name == "taskqueue-start":
            thread.join()


threading._register_atexit(after_all_else)  # the last to be registered is the first to be called

import warm

warm.app.test_client().get("/")
"""


@pytest.mark.slow
def test_a_process_that_ends_while_its_dispatcher_starts_leaves_none_behind(tmp_path: Path) -> None:
    """A start that goes on after the stop would leave a dispatcher that seems to have died."""
    (tmp_path / "warm.py").write_text(_WARM.format(path=str(tmp_path)), encoding="utf-8")
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    upgrade = ("-m", "flask", "--app", "warm", "taskqueue", "upgrade")
    for command in (upgrade, ("-c", _ENDS)):
        with process(command, environment, tmp_path / "said") as running:
            assert running.wait(60) == 0
    (database,) = tmp_path.glob("*.sqlite3")
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT pid FROM taskqueue_dispatcher").fetchall() == []
