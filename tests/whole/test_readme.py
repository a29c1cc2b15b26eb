"""The first page, as a stranger does it: the app saved, the server started, the button pressed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import requests

from tests.waiting import wait_until
from tests.whole.processes import ROOT, process
from tests.whole.test_serving import free_port
from tests.whole.test_tutorial import answers

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_first_page_shows_what_a_stranger_sees(tmp_path: Path) -> None:
    """The greeting in the terminal, and the task in the list with the columns shown."""
    (tmp_path / "app.py").write_text(blocks("python")[0])
    in_terminal, in_list = blocks("text")[:2]
    output, port = tmp_path / "terminal", free_port()
    output.write_text("")
    assert "\n    flask --app app run\n" in PAGE
    run = ["-m", "flask", "--app", "app", "run", "--port", str(port)]
    with process(run, {"PYTHONUNBUFFERED": "1"}, output):
        wait_until(lambda: answers(port), what="the server answers")
        reply = requests.post(f"http://127.0.0.1:{port}/", data={"name": "Ana"}, timeout=60)
        assert reply.status_code == 200
        wait_until(lambda: "Hello, Ana!" in output.read_text(), what="the terminal greets")
        seen = re.sub(r" - - \[[^]]+\]", " - -", COLOUR.sub("", output.read_text()))
        for line in in_terminal.replace(":5000", f":{port}").splitlines():
            assert line in seen
        assert "\n    flask --app app taskqueue list\n" in PAGE
        listed = [line.split() for line in listing(tmp_path).splitlines()]
    [columns, shown] = [line.split() for line in in_list.splitlines()]
    assert listed[0] == columns
    assert listed[1][1:6] == shown[1:6]


def listing(folder: Path) -> str:
    """What the list says once the task has ended."""
    command = [sys.executable, "-m", "flask", "--app", "app", "taskqueue", "list"]
    said: list[str] = []

    def ended() -> bool:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(done.stdout)
        return "succeeded" in done.stdout

    wait_until(ended, what="the task has succeeded")
    return said[-1]
