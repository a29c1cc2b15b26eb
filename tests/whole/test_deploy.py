"""The servers of docs/deploy, started with the files that are shown: they serve, run a task and
end.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.waiting import wait_until
from tests.whole.processes import descendants, process
from tests.whole.test_serving import free_port
from tests.whole.test_tutorial import PAGE, answers, blocks

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
UWSGI = Path(sys.executable).with_name("uwsgi")

SERVERS = {
    "gunicorn": (
        [
            "-m",
            "gunicorn",
            "-c",
            "gunicorn.conf.py",
            "--bind",
            "127.0.0.1:PORT",
            "app:create_app()",
        ],
        "Booting worker",
    ),
    "uwsgi": (["-c", f"import os; os.execv({str(UWSGI)!r}, ['uwsgi', 'uwsgi.ini'])"], "WSGI app 0"),
}
"""How each is started, and what each of its two workers says when it is there."""

BUSY = """
import time
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_taskqueue import TaskQueue


def create_app():
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "of a busy site"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///busy.db"
    db = SQLAlchemy(app)
    tasks = TaskQueue(app, db)

    @tasks.worker("/work")
    def work():
        Path("working").touch()
        while not Path("stopping").exists():
            time.sleep(0.05)
        time.sleep(1)

    @app.get("/")
    def page():
        return "page"

    @app.get("/add")
    def add():
        return tasks.add("/work").id

    @app.get("/slow")
    def slow():
        Path("serving").touch()
        while not Path("stopping").exists():
            time.sleep(0.05)
        time.sleep(1)
        return "slow"

    return app
"""
"""An application whose task and page go on for a second after it was told to stop."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an application: the guest book of the tutorial, with the files for
    deployment beside it.
    """
    guests = [
        block.text
        for block in blocks(PAGE.read_text(encoding="utf-8"))
        if block.caption == "app.py" and "create_app" in block.text
    ]
    (tmp_path / "app.py").write_text(guests[0])
    for file in DEPLOY.iterdir():
        shutil.copy(file, tmp_path)
    with process(
        ["-m", "flask", "--app", "app", "taskqueue", "upgrade"], {}, tmp_path / "upgraded"
    ) as upgrade:
        assert upgrade.wait(30) == 0
    return tmp_path


@pytest.mark.parametrize("name", SERVERS)
def test_a_shipped_configuration_serves_runs_a_task_and_ends(folder: Path, name: str) -> None:
    """In the server's own processes, with nothing else started; SIGTERM ends all of them
    cleanly.
    """
    if name == "uwsgi" and not UWSGI.exists():
        pytest.skip("uwsgi is not installed")
    port = free_port()
    configuration = folder / "uwsgi.ini"
    configuration.write_text(configuration.read_text().replace(":8000", f":{port}"))
    command, word_of_a_worker = SERVERS[name]
    command = [word.replace("PORT", str(port)) for word in command]
    output = folder / "output"
    with process(command, {}, output) as server:
        wait_until(
            lambda: output.read_text().count(word_of_a_worker) == 2 and answers(port),
            what="both workers are there",
            timeout=30,
        )
        assert (
            requests.post(
                f"http://127.0.0.1:{port}/", data={"text": "so glad to be here"}, timeout=60
            ).status_code
            == 202
        )
        wait_until(
            lambda: requests.get(f"http://127.0.0.1:{port}/", timeout=60).text == "5 words\n",
            what="the task has run",
        )
        family = descendants(server.pid)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        wait_until(
            lambda: (
                not any(sample.is_running() and sample.status() != "zombie" for sample in family)
            ),
            what="nobody is left behind",
        )
    assert "Traceback" not in output.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_is_stopped_while_it_serves_lets_the_tasks_beside_end(
    tmp_path: Path, name: str
) -> None:
    """And the request as well; no attempt is lost, and no dispatcher seems to have died."""
    if name == "uwsgi" and not UWSGI.exists():
        pytest.skip("uwsgi is not installed")
    port = free_port()
    for file in DEPLOY.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "app.py").write_text(BUSY)
    configuration = tmp_path / "uwsgi.ini"
    configuration.write_text(configuration.read_text().replace(":8000", f":{port}"))
    output = tmp_path / "output"
    flask = ["-m", "flask", "--app", "app", "taskqueue"]
    with process([*flask, "upgrade"], {}, tmp_path / "upgraded") as upgrade:
        assert upgrade.wait(30) == 0
    command, word_of_a_worker = SERVERS[name]
    with (
        process([word.replace("PORT", str(port)) for word in command], {}, output) as server,
        ThreadPoolExecutor(1) as visitors,
    ):
        wait_until(
            lambda: output.read_text().count(word_of_a_worker) == 2 and answers(port),
            what="both workers are there",
            timeout=30,
        )
        task = requests.get(f"http://127.0.0.1:{port}/add", timeout=60).text
        wait_until((tmp_path / "working").exists, what="the task runs")
        slow = visitors.submit(requests.get, f"http://127.0.0.1:{port}/slow", timeout=60)
        wait_until((tmp_path / "serving").exists, what="the page is being served")
        server.send_signal(signal.SIGTERM)
        (tmp_path / "stopping").touch()
        assert slow.result(60).text == "slow"
        assert server.wait(60) == 0
    with process([*flask, "show", task, "--json"], {}, tmp_path / "shown") as show:
        assert show.wait(30) == 0
    shown = json.loads((tmp_path / "shown").read_text())
    assert (shown["state"], shown["attempts"], shown["crashes"]) == ("succeeded", 1, 0)
    with process([*flask, "doctor"], {}, tmp_path / "told") as doctor:
        doctor.wait(30)
    assert "died" not in (tmp_path / "told").read_text()
