"""Servers that are stopped while a task runs: whatever they do with signals, it is no crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
import requests
from flask import Flask

from flask_taskqueue import State
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.processes import descendants, need, process
from tests.whole.test_serving import FLASK, answers, app, deliveries, free_port

__all__ = ["app"]

WSGIREF = (
    "from wsgiref.simple_server import make_server; from tests.whole.loop_app import create_app; "
)
RUN = "from tests.whole.loop_app import create_app; "
GUNICORN = ("-m", "gunicorn", "-b", "127.0.0.1:PORT")
GEVENT = (
    "from gevent import monkey; monkey.patch_all(); from gevent.pywsgi import WSGIServer; "
    f"{RUN}WSGIServer(('127.0.0.1', PORT), create_app()).serve_forever()"
)
UVICORN = (
    "-m",
    "uvicorn",
    "--factory",
    "--interface",
    "wsgi",
    "--port",
    "PORT",
    "tests.whole.loop_app:create_app",
)
UVICORN_WORKER = (*GUNICORN, "-k", "uvicorn.workers.UvicornWorker", "tests.whole.asgi_app:app")
SERVERS: Mapping[str, tuple[str, ...]] = {
    "waitress": (
        "-m",
        "waitress",
        "--listen=127.0.0.1:PORT",
        "--call",
        "tests.whole.loop_app:create_app",
    ),
    "uvicorn": UVICORN,
    "uvicorn, two workers": (*UVICORN, "--workers", "2"),
    "gunicorn, UvicornWorker": UVICORN_WORKER,
    "gunicorn, UvicornWorker, preloaded": (*UVICORN_WORKER, "--preload"),
    "gunicorn": (*GUNICORN, "tests.whole.loop_app:create_app()"),
    "gunicorn gthread": (*GUNICORN, "--threads", "4", "tests.whole.loop_app:create_app()"),
    "granian": (
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "--host",
        "127.0.0.1",
        "--port",
        "PORT",
        "--factory",
        "tests.whole.loop_app:create_app",
    ),
    "flask run": (*FLASK, "run", "--port", "PORT"),
    "flask run --debug": (*FLASK, "run", "--debug", "--port", "PORT"),
    "app.run(debug=True)": ("-m", "tests.whole.debugged", "PORT"),
    "app.run": ("-c", RUN + "create_app().run(port=PORT)"),
    "wsgiref": ("-c", WSGIREF + "make_server('127.0.0.1', PORT, create_app()).serve_forever()"),
}
PROGRAMS = ("waitress", "uvicorn", "granian")
each_server = pytest.mark.parametrize("name", SERVERS)


def command(name: str, port: int) -> list[str]:
    """How a server is started."""
    for program in PROGRAMS:
        if program in name.lower():
            need(program)
    return [word.replace("PORT", str(port)) for word in SERVERS[name]]


def begin_slow(port: int, seconds: float, tmp_path: Path) -> str:
    """The id of a task that runs by itself after a visit."""
    wait_until(lambda: answers(port), what="the server answers", timeout=60)
    task = loop_app.slow.add(seconds=seconds)
    wait_until(
        lambda: (
            requests.get(f"http://127.0.0.1:{port}/", timeout=30).ok
            and deliveries(tmp_path, "start")
        ),
        what="it runs",
        timeout=60,
    )
    return task.id


def gone(family: list[psutil.Process]) -> bool:
    """Whether none of them lives."""
    return not any(
        sample.is_running() and sample.status() != psutil.STATUS_ZOMBIE for sample in family
    )


@each_server
def test_what_runs_when_a_server_is_stopped_is_given_back(
    app: Flask, tmp_path: Path, name: str
) -> None:
    """Once the grace period is over, before the process dies: due at once, no attempt and no
    crash counted; the server ends as told.
    """
    port = free_port()
    with process(
        command(name, port), {"FLASK_TASKQUEUE_GRACE_PERIOD": "0.5"}, tmp_path / "output"
    ) as server:
        task = begin_slow(port, 600, tmp_path)
        family = descendants(server.pid)
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        wait_until(lambda: gone(family), what="nobody is left behind", timeout=60)
    back = loop_app.tasks.get(task)
    assert (back.state, back.attempts, back.crashes) == (State.SCHEDULED, 0, 0), (
        tmp_path / "output"
    ).read_text()
    assert "Traceback" not in (tmp_path / "output").read_text()


@each_server
def test_what_runs_when_a_server_is_stopped_ends_within_the_grace_period(
    app: Flask, tmp_path: Path, name: str
) -> None:
    """SIGTERM to every process, as systemd sends it, and so twice to workers: the task
    succeeds, once.
    """
    port = free_port()
    with process(command(name, port), {}, tmp_path / "output") as server:
        task = begin_slow(port, 3, tmp_path)
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
    done = loop_app.tasks.get(task)
    assert (done.state, done.attempts) == (State.SUCCEEDED, 1), (tmp_path / "output").read_text()
    assert "Traceback" not in (tmp_path / "output").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_other_signals_that_end_a_server_are_no_crashes_either(
    app: Flask, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, a terminal that is closed, a quit: the server ends of it, as it would by itself."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"this run ignores {number.name}, and so does what it starts (nohup?)")
    port = free_port()
    with process(
        command("waitress", port), {"FLASK_TASKQUEUE_GRACE_PERIOD": "0.5"}, tmp_path / "output"
    ) as server:
        task = begin_slow(port, 600, tmp_path)
        server.send_signal(number)
        assert server.wait(60) == (0 if number is signal.SIGINT else -number)
    back = loop_app.tasks.get(task)
    assert (back.state, back.attempts, back.crashes) == (State.SCHEDULED, 0, 0)


@pytest.mark.parametrize("name", ["flask run", "flask run --debug", "app.run(debug=True)"])
def test_ctrl_c_in_a_terminal_is_no_crash(app: Flask, tmp_path: Path, name: str) -> None:
    """Where every process gets it: those who reload the code wait for those who serve."""
    port = free_port()
    with process(
        command(name, port), {"FLASK_TASKQUEUE_GRACE_PERIOD": "2"}, tmp_path / "output"
    ) as server:
        ends = begin_slow(port, 1, tmp_path)
        too_long = loop_app.slow.add(seconds=600).id
        wait_until(lambda: deliveries(tmp_path, "start")[too_long], what="both run")
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(60) == 0
    done, back = loop_app.tasks.get(ends), loop_app.tasks.get(too_long)
    assert (done.state, done.attempts) == (State.SUCCEEDED, 1), (tmp_path / "output").read_text()
    assert (back.state, back.attempts, back.crashes) == (State.SCHEDULED, 0, 0)
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_ctrl_c_ends_a_server_whose_threads_are_greenlets(app: Flask, tmp_path: Path) -> None:
    """The first one, which raises in the program and not in a greenlet of ours."""
    need("gevent")
    port = free_port()
    with process(
        ("-c", GEVENT.replace("PORT", str(port))),
        {"FLASK_TASKQUEUE_GRACE_PERIOD": "0.5"},
        tmp_path / "output",
    ) as server:
        task = begin_slow(port, 600, tmp_path)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == -signal.SIGINT
    back = loop_app.tasks.get(task)
    assert (back.state, back.attempts, back.crashes) == (State.SCHEDULED, 0, 0)


def test_a_second_ctrl_c_does_not_wait(app: Flask, tmp_path: Path) -> None:
    """The first one lets running tasks end, while the server still serves; with the second they
    are given back at once.
    """
    port = free_port()
    with process(
        command("flask run", port), {"FLASK_TASKQUEUE_GRACE_PERIOD": "3600"}, tmp_path / "output"
    ) as server:
        task = begin_slow(port, 600, tmp_path)
        server.send_signal(signal.SIGINT)
        waits = loop_app.plain.add()
        assert answers(port)
        server.send_signal(signal.SIGINT)
        server.wait(60)
    assert {
        (one.state, one.attempts, one.crashes) for one in map(loop_app.tasks.get, (task, waits.id))
    } == {(State.SCHEDULED, 0, 0)}
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_a_program_that_kills_itself_is_still_poison(app: Flask, tmp_path: Path) -> None:
    """What ends without a signal to stop counts as a crash: three of them are the end."""
    task = loop_app.poison.add()
    for _ in range(3):
        port = free_port()
        with process(
            command("waitress", port), {"FLASK_TASKQUEUE_LEASE": "1"}, tmp_path / "output"
        ) as server:
            wait_until(
                lambda port=port: answers(port) or server.poll() is not None,
                what="it serves",
                timeout=60,
            )  # type: ignore[misc]
            wait_until(lambda: server.poll() is not None, what="it has died", timeout=60)
    with process(
        command("waitress", port := free_port()),
        {"FLASK_TASKQUEUE_LEASE": "1"},
        tmp_path / "output",
    ):
        wait_until(
            lambda: answers(port) and loop_app.tasks.get(task.id).state is State.DEAD,
            what="it is dead",
            timeout=60,
        )


def test_over_http_nothing_begins_beside_what_a_stopped_dispatcher_has_sent(
    app: Flask, tmp_path: Path
) -> None:
    """Its handler runs on in the web process, past the grace period; the next attempt begins
    when the deadline has passed.
    """
    port = free_port()
    server = (
        "-m",
        "gunicorn",
        "--threads",
        "4",
        "-b",
        f"127.0.0.1:{port}",
        "tests.whole.loop_app:create_app()",
    )
    dispatcher = (
        *FLASK,
        "taskqueue",
        "run",
        "--transport",
        "http",
        "--base-url",
        f"http://127.0.0.1:{port}",
    )
    with process(server, {"FLASK_TASKQUEUE_DISPATCHER": "off"}, tmp_path / "server"):
        wait_until(lambda: answers(port), what="the server answers", timeout=60)
        task = loop_app.slow.options(deadline=12, retry={"task_retry_limit": 0}).add(seconds=4)
        with process(
            dispatcher, {"FLASK_TASKQUEUE_GRACE_PERIOD": "0.5"}, tmp_path / "output"
        ) as first:
            wait_until(lambda: deliveries(tmp_path, "start"), what="it runs", timeout=60)
            first.send_signal(signal.SIGTERM)
            first.wait(60)
        with process(dispatcher, {}, tmp_path / "output"):
            ended = task.wait(60)
    assert (ended.state, ended.attempts, ended.crashes) == (State.SUCCEEDED, 1, 0)
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == [
        "start",
        "end",
        "start",
        "end",
    ]
