"""The servers of docs/deploy, started with the files that are shown: they serve, run a task and
end.
"""

from __future__ import annotations

import shutil
import signal
import sys
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
