"""The commands as processes: exit codes, streams, Ctrl-C, completion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import TestDatabase
from tests.waiting import wait_until
from tests.whole.processes import ROOT, process

APPLICATION = """
from flask import Flask
from flask_taskqueue import TaskQueue

app = Flask(__name__)
app.config.from_prefixed_env()
tasks = TaskQueue(app)

@tasks.worker("/work")
def work(what: str = "good") -> str:
    return what
"""


@pytest.fixture
def environment(sqlite_database: TestDatabase, tmp_path: Path) -> dict[str, str]:
    """An application of one file, and what its processes are told."""
    (tmp_path / "shop.py").write_text(APPLICATION, encoding="utf-8")
    settings = {
        "SECRET_KEY": "a secret for tests",
        "TASKQUEUE_DATABASE_URI": sqlite_database.url,
        "TASKQUEUE_CREATE_TABLES": "true",
    }
    given = {f"FLASK_{key}": value for key, value in settings.items()}
    return {**os.environ, "PYTHONPATH": str(ROOT), "FLASK_APP": str(tmp_path / "shop.py"), **given}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """A command, ended."""
    command = [sys.executable, "-m", "flask", "taskqueue", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_script_can_rely_on_commands(environment: dict[str, str], tmp_path: Path) -> None:
    """With a dispatcher add --wait ends with the task; data alone is on stdout; what is not
    there has exit code 3.
    """
    with process(
        ["-m", "flask", "taskqueue", "run", "--threads", "1"], environment, tmp_path / "run.log"
    ):
        wait_until(
            lambda: json.loads(run(environment, "stats", "--json").stdout or "{}").get(
                "dispatchers"
            ),
            what="it runs",
            timeout=30,
        )
        added = run(environment, "add", "/work", "-p", "what=fine", "--wait", "30", "--json")
        assert (added.returncode, json.loads(added.stdout)["state"]) == (0, "succeeded"), (
            added.stderr
        )
    listed = run(environment, "list", "--jsonl")
    assert [json.loads(line)["last_status"] for line in listed.stdout.splitlines()] == [200]
    assert run(environment, "show", "0000").returncode == 3


def test_ctrl_c_ends_top(environment: dict[str, str], tmp_path: Path) -> None:
    """With exit code 130, and no traceback."""
    output = tmp_path / "top.log"
    with process(["-m", "flask", "taskqueue", "top", "-n", "60"], environment, output) as running:
        wait_until(lambda: b"QUEUE" in output.read_bytes(), what="it has looked", timeout=30)
        running.send_signal(signal.SIGINT)
        assert running.wait(15) == 130
    assert b"Traceback" not in output.read_bytes()


def test_a_shell_completes_commands(environment: dict[str, str]) -> None:
    """As Flask's own."""
    words = {
        "_FLASK_COMPLETE": "bash_complete",
        "COMP_WORDS": "flask taskqueue do",
        "COMP_CWORD": "2",
    }
    flask = str(Path(sys.executable).with_name("flask"))
    found = subprocess.run(
        [flask],
        env={**environment, **words},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.stdout == "plain,doctor\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["stats", "list --json", "list --help", "--help"])
def test_output_that_cannot_be_written_is_an_error_of_one_line(
    environment: dict[str, str], words: str, unbuffered: str
) -> None:
    """As on a full disk; the exit code says so to a script."""
    command = [sys.executable, "-m", "flask", "taskqueue", *words.split()]
    with open("/dev/full", "w", encoding="utf-8") as full:
        ended = subprocess.run(
            command,
            env={**environment, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    (line,) = ended.stderr.splitlines()
    assert line == "Error: the output could not be written: No space left on device"
    assert ended.returncode == 1
