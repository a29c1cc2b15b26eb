"""Failures are seen where people look: on the terminal, where nobody has set logging up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue import State
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.processes import process
from tests.whole.test_serving import FLASK, answers, app, free_port  # noqa: F401 - a fixture

SERVERS = {
    "flask run": (*FLASK, "run", "--port", "PORT"),
    "gunicorn": ("-m", "gunicorn", "-b", "127.0.0.1:PORT", "tests.whole.loop_app:create_app()"),
    "flask taskqueue run": (*FLASK, "taskqueue", "run"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
def test_a_failed_attempt_is_one_line(app: Flask, tmp_path: Path, command: tuple[str, ...]) -> None:  # noqa: F811
    """With the task, its URL, the status, the number of the attempt, the error, and what comes
    next; a success adds none to the log.
    """
    port = free_port()
    output = tmp_path / "output"
    with process([word.replace("PORT", str(port)) for word in command], {}, output):
        if "PORT" in " ".join(command):
            wait_until(lambda: answers(port), what="the server answers", timeout=60)
        fails, dies = (
            loop_app.flaky.add(),
            loop_app.flaky.options(retry={"task_retry_limit": 0}).add(),
        )
        assert fails.wait(60).state is State.SUCCEEDED
        assert dies.wait(60).state is State.DEAD
        wait_until(lambda: dies.id in output.read_text(), what="it is told")
    lines = output.read_text().splitlines()
    (failed,) = [line for line in lines if fails.id in line and "500" in line]
    (dead,) = [line for line in lines if dies.id in line]
    for line in (failed, dead):
        assert "/flaky" in line
        assert "the reply was 500" in line
        assert re.search(r"(attempt|try) 1\b", line)
    assert re.search(r"(again|retry) in \d+\.\d s", failed)
    assert "dead" in dead
    assert "Traceback" not in output.read_text()
