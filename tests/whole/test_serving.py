"""Real servers: flask run, gunicorn, flask taskqueue run; strangers; Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
import requests
from flask import Flask
from standardwebhooks import Webhook

from flask_taskqueue import State
from flask_taskqueue.store.database.transaction import close_engine
from tests.apps import runtime_of
from tests.databases import TestDatabase
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.processes import descendants, process

FLASK = ("-m", "flask", "--app", "tests.whole.loop_app")


@pytest.fixture
def app(
    sqlite_database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Flask]:
    """The application in this process, its tables made; it enqueues and looks."""
    monkeypatch.setenv("LOOP_DATABASE", sqlite_database.url)
    monkeypatch.setenv("LOOP_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FLASK_TASKQUEUE_CREATE_TABLES", "true")
    (tmp_path / "log").touch()
    application = loop_app.create_app()
    with application.app_context():
        loop_app.db.create_all()
        yield application
        loop_app.db.session.remove()
        for engine in loop_app.db.engines.values():
            close_engine(engine)
        runtime_of(application).store.database.close()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a server answers."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=60).ok
    except (
        requests.ConnectionError,
        requests.Timeout,
    ):  # not yet; or it listens and is still being loaded
        return False


def deliveries(tmp_path: Path, word: str = "end") -> Counter[str]:
    """How often each task was delivered."""
    return Counter(
        line.split()[1]
        for line in (tmp_path / "log").read_text().splitlines()
        if line.startswith(word)
    )


UWSGI = (
    *(
        "-c",
        "import os, sysconfig, sys; os.execv(sysconfig.get_path('scripts') + '/uwsgi', "
        "['uwsgi', *sys.argv[1:]])",
    ),
    *(
        "--http-socket",
        "127.0.0.1:PORT",
        "--module",
        "tests.whole.loop_app:create_app()",
        "--processes",
        "2",
        "--threads",
        "2",
    ),
    *("--master", "--enable-threads", "--need-app", "--die-on-term"),
)
SERVERS: Mapping[str, tuple[str, ...]] = {
    "flask run": (*FLASK, "run", "--port", "PORT"),
    "flask run --debug": (*FLASK, "run", "--debug", "--port", "PORT"),
    "gunicorn": (
        "-m",
        "gunicorn",
        "-w",
        "4",
        "-b",
        "127.0.0.1:PORT",
        "tests.whole.loop_app:create_app()",
    ),
    "gunicorn --preload": (
        "-m",
        "gunicorn",
        "-w",
        "4",
        "--preload",
        "-b",
        "127.0.0.1:PORT",
        "tests.whole.loop_app:create_app()",
    ),
    "gunicorn gthread": (
        "-m",
        "gunicorn",
        "-w",
        "2",
        "--threads",
        "4",
        "-b",
        "127.0.0.1:PORT",
        "tests.whole.loop_app:create_app()",
    ),
    "gunicorn gevent": (
        "-m",
        "gunicorn",
        "-w",
        "2",
        "-k",
        "gevent",
        "-b",
        "127.0.0.1:PORT",
        "tests.whole.loop_app:create_app()",
    ),
    "uwsgi": (*UWSGI, "--lazy-apps"),
    "uwsgi, forked after loading": UWSGI,
}


@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
def test_a_server_runs_each_task_once_and_ends_cleanly(
    app: Flask, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Whatever serves: tasks run by themselves, once, and Ctrl-C leaves no traceback and nobody
    behind.
    """
    if command[: len(UWSGI)] == UWSGI and not (Path(sys.executable).parent / "uwsgi").exists():
        pytest.skip("uwsgi is not installed")
    port = free_port()
    with process(
        [word.replace("PORT", str(port)) for word in command], {}, tmp_path / "output"
    ) as server:
        wait_until(lambda: answers(port), what="the server answers")
        if "--lazy-apps" in command:  # a worker that is stopped while it loads says so by its exit
            output = tmp_path / "output"
            wait_until(
                lambda: output.read_text().count("WSGI app 0") >= 2, what="both workers are ready"
            )
        for _ in range(10):
            requests.get(f"http://127.0.0.1:{port}/", timeout=60)
        ids = [loop_app.plain.add().id for _ in range(100)]
        wait_until(lambda: len(deliveries(tmp_path)) == 100, what="every task has run", timeout=30)
        family = descendants(server.pid)
        dispatchers = loop_app.tasks.dispatchers()
        assert all(dispatcher.is_alive for dispatcher in dispatchers)
        assert (
            1
            <= len(
                {dispatcher.pid for dispatcher in dispatchers}
                & {server.pid, *(sample.pid for sample in family)}
            )
            == len(dispatchers)
        )
        server.send_signal(signal.SIGINT)
        for sample in family:
            if "--debug" in command and sample.is_running():
                sample.send_signal(signal.SIGINT)
        code = server.wait(15)
        # the parent of a reloading server passes its child's -2 on, as the byte that it is
        assert code in ((0, 1, -2, 254) if "--debug" in command else (0, 1, -2))
        wait_until(
            lambda: (
                not any(sample.is_running() and sample.status() != "zombie" for sample in family)
            ),
            what="nobody is left behind",
        )
    assert deliveries(tmp_path, "start") == Counter(ids)
    assert "Traceback" not in (tmp_path / "output").read_text()
    assert len(loop_app.tasks.find(state=State.SUCCEEDED)) == 100
    assert loop_app.tasks.dispatchers() == []


def test_all_at_once_run_each_task_once(app: Flask, tmp_path: Path) -> None:
    """flask run --debug with code reloads, gunicorn, preloaded gunicorn and flask taskqueue run
    on one database.
    """
    ports = [free_port() for _ in range(3)]
    module = tmp_path / "reloaded.py"
    module.write_text("from tests.whole.loop_app import create_app\n")
    gunicorn = ("-m", "gunicorn", "-w", "4", "-b")
    commands = [
        ("-m", "flask", "--app", "reloaded", "run", "--debug", "--port", str(ports[0])),
        (*gunicorn, f"127.0.0.1:{ports[1]}", "tests.whole.loop_app:create_app()"),
        (*gunicorn, f"127.0.0.1:{ports[2]}", "--preload", "tests.whole.loop_app:create_app()"),
        (*FLASK, "taskqueue", "run", "--processes", "2"),
    ]
    outputs = [
        process(command, {}, tmp_path / f"output{number}")
        for number, command in enumerate(commands)
    ]
    with (
        outputs[0] as debugging,
        outputs[1] as plain,
        outputs[2] as preloaded,
        outputs[3] as running,
    ):
        servers = [debugging, plain, preloaded, running]
        for port in ports:
            wait_until(lambda port=port: answers(port), what="the server answers", timeout=30)  # type: ignore[misc]
        ids = []
        for batch in range(4):
            ids += [loop_app.plain.add().id for _ in range(150)]
            module.write_text(f"from tests.whole.loop_app import create_app\n\nBATCH = {batch}\n")
            for port in ports:
                wait_until(lambda port=port: answers(port), what="the server answers", timeout=30)  # type: ignore[misc]
        wait_until(lambda: len(deliveries(tmp_path)) == 600, what="every task has run", timeout=60)
        live = {
            process.pid
            for server in servers
            for process in [psutil.Process(server.pid), *descendants(server.pid)]
        }
        pids = [dispatcher.pid for dispatcher in loop_app.tasks.dispatchers()]
        assert sorted(set(pids) & live) == sorted(pids)
    assert deliveries(tmp_path, "start") == Counter(ids)


def test_curl_with_forged_headers_is_refused(app: Flask, tmp_path: Path) -> None:
    """From the outside a worker route is a 403."""
    port = free_port()
    forged = [
        *(
            "-H",
            "X-TaskQueue-QueueName: default",
            "-H",
            "X-TaskQueue-TaskRetryCount: 0",
            "-H",
            "X-AppEngine-QueueName: default",
        ),
        *(
            "-H",
            f"webhook-timestamp: {int(time.time())}",
            "-H",
            "webhook-id: x",
            "-H",
            "webhook-signature: v1,AAAA",
            "-d",
            "a=b",
        ),
    ]
    with process(
        [*FLASK, "run", "--port", str(port)],
        {"FLASK_TASKQUEUE_DISPATCHER": "off"},
        tmp_path / "output",
    ):
        wait_until(lambda: answers(port), what="the server answers")
        curl = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            f"http://127.0.0.1:{port}/plain",
        ]
        for arguments in ([], forged):
            assert (
                subprocess.run(
                    [*curl, "-X", "POST", *arguments], check=True, capture_output=True, text=True
                ).stdout
                == "403"
            )
    assert (tmp_path / "log").read_text() == ""


def test_the_http_transport_delivers_to_the_server(app: Flask, tmp_path: Path) -> None:
    """flask taskqueue run --transport http, to gunicorn: signed, let in, once."""
    port = free_port()
    environment = {"FLASK_TASKQUEUE_DISPATCHER": "off"}
    server = [
        "-m",
        "gunicorn",
        "--threads",
        "4",
        "-b",
        f"127.0.0.1:{port}",
        "tests.whole.loop_app:create_app()",
    ]
    dispatcher = [
        *FLASK,
        "taskqueue",
        "run",
        "--transport",
        "http",
        "--base-url",
        f"http://127.0.0.1:{port}",
    ]
    with (
        process(server, environment, tmp_path / "server") as web,
        process(dispatcher, {}, tmp_path / "output"),
    ):
        wait_until(lambda: answers(port), what="the server answers")
        tasks = [loop_app.plain.add() for _ in range(30)]
        for task in tasks:
            assert task.wait(20).last_status == 204
        loop_app.db.session.add(loop_app.Counter(id=1, count=0))
        loop_app.db.session.commit()
        batch = loop_app.tasks.batch(
            [loop_app.count.spec() for _ in range(20)], on_finish=loop_app.plain.spec()
        )
        wait_until(lambda: loop_app.tasks.get_batch(batch.id).is_finished, what="the batch is over")
        ended = loop_app.tasks.get_batch(batch.id)
        assert (ended.succeeded, ended.dead) == (20, 0)
        wait_until(
            lambda: loop_app.tasks.queue("default").statistics().succeeded == 51,
            what="each is counted, once",
        )
        every = loop_app.tasks.find(limit=100)
        family = {web.pid, *(process.pid for process in descendants(web.pid))}
        ran_in = {int(line.split()[3]) for line in (tmp_path / "log").read_text().splitlines()}
    assert ran_in <= family
    assert len(every) == 51
    assert deliveries(tmp_path) == Counter(task.id for task in every)


def test_another_host_can_verify_what_it_gets(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver with the standardwebhooks package and the secret of webhook-secret accepts
    ours.
    """
    received: list[tuple[dict[str, str], bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=receiver.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{receiver.server_port}"
    monkeypatch.setenv("FLASK_TASKQUEUE_ALLOWED_HOSTS", f'["{host}"]')
    sender = loop_app.create_app()
    with sender.app_context():
        loop_app.tasks.add(f"http://{host}/hook?x=1", json={"grün": 1})
        assert loop_app.tasks.drain() == 1
    runtime_of(sender).store.database.close()
    receiver.shutdown()
    receiver.server_close()
    (headers, body) = received[0]
    secret = app.test_cli_runner().invoke(args=["taskqueue", "webhook-secret", host]).output.strip()
    assert Webhook(secret).verify(body, headers) == {"grün": 1}


def test_sigterm_lets_running_tasks_end(app: Flask, tmp_path: Path) -> None:
    """And starts no other; exit code 0, nothing counted twice."""
    ids = [loop_app.slow.add(seconds=1).id for _ in range(20)]
    with process(
        [*FLASK, "taskqueue", "run", "--threads", "8"], {}, tmp_path / "output"
    ) as running:
        wait_until(lambda: len(deliveries(tmp_path, "start")) == 8, what="eight tasks run")
        running.send_signal(signal.SIGTERM)
        assert running.wait(15) == 0
    assert loop_app.tasks.dispatchers() == []
    assert len(deliveries(tmp_path)) == 8
    left = [
        task
        for task in loop_app.tasks.find()
        if task.id in ids and task.state is not State.SUCCEEDED
    ]
    assert {(task.state, task.attempts, task.crashes) for task in left} == {(State.SCHEDULED, 0, 0)}
    assert len(left) == 12


def test_a_sigterm_to_every_process_lets_running_tasks_end_too(app: Flask, tmp_path: Path) -> None:
    """systemd sends it to the whole unit unless told otherwise, and Heroku to the whole dyno:
    each child gets it twice.
    """
    task = loop_app.slow.add(seconds=1)
    with process([*FLASK, "taskqueue", "run"], {}, tmp_path / "output") as running:
        wait_until(lambda: deliveries(tmp_path, "start"), what="the task runs")
        os.killpg(running.pid, signal.SIGTERM)
        assert running.wait(15) == 0
    assert loop_app.tasks.get(task.id).state is State.SUCCEEDED


def test_what_does_not_end_in_time_is_given_back(app: Flask, tmp_path: Path) -> None:
    """After the grace period, at once, with no attempt burnt."""
    task = loop_app.slow.add(seconds=60)
    environment = {"FLASK_TASKQUEUE_GRACE_PERIOD": "0.5"}
    with process([*FLASK, "taskqueue", "run"], environment, tmp_path / "output") as running:
        wait_until(lambda: deliveries(tmp_path, "start"), what="the task runs")
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    back = loop_app.tasks.get(task.id)
    assert (back.state, back.attempts, back.crashes) == (State.SCHEDULED, 0, 0)


def test_a_task_whose_process_is_killed_is_attempted_again_at_once(
    app: Flask, tmp_path: Path
) -> None:
    """The supervisor gives back what the dead process held: within a second, not within the
    lease.
    """
    task = loop_app.slow.add(seconds=3)
    with process([*FLASK, "taskqueue", "run"], {}, tmp_path / "output") as running:
        wait_until(lambda: deliveries(tmp_path, "start"), what="the task runs")
        (dispatcher,) = loop_app.tasks.dispatchers()
        (child,) = descendants(running.pid)
        assert (dispatcher.pid, dispatcher.is_alive) == (child.pid, True)
        killed = time.monotonic()
        child.kill()
        wait_until(
            lambda: deliveries(tmp_path, "start")[task.id] == 2,
            what="it is attempted again",
            timeout=10,
        )
        waited = time.monotonic() - killed
        assert task.wait(10).attempts == 2
        assert len(loop_app.tasks.dispatchers()) == 1
        assert dispatcher not in loop_app.tasks.dispatchers()
    assert waited < 5
    assert loop_app.tasks.get(task.id).crashes == 1


def test_a_process_that_dies_after_the_commit_does_not_run_the_task_again(
    app: Flask, tmp_path: Path
) -> None:
    """The handler's changes and the task's end are one commit."""
    loop_app.db.session.add(loop_app.Counter(id=1, count=0))
    loop_app.db.session.commit()
    task = loop_app.count_and_die.add()
    with process([*FLASK, "taskqueue", "run"], {}, tmp_path / "output"):
        assert task.wait(20).state is State.SUCCEEDED
        assert loop_app.plain.add().wait(20).state is State.SUCCEEDED
    assert deliveries(tmp_path, "start")[task.id] == 1
    loop_app.db.session.expire_all()
    counter = loop_app.db.session.get(loop_app.Counter, 1)
    assert counter is not None
    assert counter.count == 1


def test_ctrl_c_ends_the_dispatchers(app: Flask, tmp_path: Path) -> None:
    """The terminal sends it to every process; what runs ends, no traceback, exit code 0."""
    task = loop_app.slow.add(seconds=0.5)
    with process(
        [*FLASK, "taskqueue", "run", "--processes", "2"], {}, tmp_path / "output"
    ) as running:
        wait_until(lambda: deliveries(tmp_path, "start"), what="the task runs")
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(15) == 0
    assert loop_app.tasks.get(task.id).state is State.SUCCEEDED
    assert "Traceback" not in (tmp_path / "output").read_text()


@pytest.mark.parametrize("command", ["routes", "shell"])
def test_commands_start_no_dispatcher(app: Flask, tmp_path: Path, command: str) -> None:
    """They load the application and run no task."""
    loop_app.plain.add()
    with process([*FLASK, command], {}, tmp_path / "output") as running:
        assert running.wait(20) == 0
    assert (
        re.search(r"taskqueue\.plain +POST +/plain", (tmp_path / "output").read_text())
        or command == "shell"
    )
    assert (tmp_path / "log").read_text() == ""


def test_a_burst_ends_when_nothing_is_due(app: Flask, tmp_path: Path) -> None:
    """For cron: what is due is attempted, the rest is left."""
    ids = [loop_app.plain.add().id for _ in range(20)]
    loop_app.plain.options(countdown=3600).add()
    with process([*FLASK, "taskqueue", "run", "--burst"], {}, tmp_path / "output") as running:
        assert running.wait(30) == 0
    assert deliveries(tmp_path) == Counter(ids)
    assert "20 attempts" in (tmp_path / "output").read_text()


@pytest.mark.slow
def test_a_burst_does_not_wait_for_what_hangs(app: Flask, tmp_path: Path) -> None:
    """A handler that cannot be interrupted ends with the process, or a cron would pile them up."""
    task, others = loop_app.hang.add(), [loop_app.plain.add().id for _ in range(3)]
    with process([*FLASK, "taskqueue", "run", "--burst"], {}, tmp_path / "output") as running:
        assert running.wait(60) == 0
    assert deliveries(tmp_path, "start") == Counter([task.id, *others])
    ended = loop_app.tasks.get(task.id)
    assert (ended.state, ended.last_reason) == ("dead", "timeout")
    assert loop_app.tasks.dispatchers() == []
