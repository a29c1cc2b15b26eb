"""The tutorial, as a reader does it: files written, commands run, terminals watched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import requests

from tests.waiting import wait_until
from tests.whole.processes import process
from tests.whole.test_serving import free_port

PAGE = Path(__file__).parents[2] / "docs/quickstart.md"
BLOCK = re.compile(
    r"^```(?:\{code-block\} )?(python|console|text)\n((?::[a-z-]+:[^\n]*\n)*)\n*(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SETTING_UP = "Start in an empty folder"


class Block(NamedTuple):
    """A block of the page: its section, its language, its caption and its text."""

    section: str
    language: str
    caption: str
    text: str


class Reader:
    """Somebody who follows the page in a folder, with as many terminals as it takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.running = ExitStack()
        self.terminals: list[Path] = []

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        if block.language == "python":
            self._write(block)
        elif block.language == "text":
            wanted = block.text.strip()
            wait_until(
                lambda: wanted in self.terminals[0].read_text(),
                what=f"the first terminal says {wanted!r}",
            )
        else:
            for command, shown in commands(block.text):
                self._run(command, shown)

    def _write(self, block: Block) -> None:
        """Servers are stopped before: they have the old code."""
        self._stop()
        name, _, where = block.caption.partition(", ")
        file = self.folder / name
        file.write_text((file.read_text() + "\n\n" if where else "") + block.text)

    def _run(self, command: str, shown: str) -> None:
        if command.endswith(" run"):
            self._start(command)
            return
        pattern = re.compile(re.escape(shown.strip()).replace("…", ".*"), re.DOTALL)
        if command.startswith("curl http"):
            wait_until(
                lambda: pattern.fullmatch(self._output(command)), what=f"{command} says {shown}"
            )
        else:
            said = self._output(command)
            assert pattern.fullmatch(said), f"{command}: {said}"

    def _output(self, command: str) -> str:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        shell = ["bash", "-c", command.replace("127.0.0.1:5000", f"127.0.0.1:{self.port}")]
        done = subprocess.run(
            shell,
            cwd=self.folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    def _start(self, command: str) -> None:
        """In a terminal of its own."""
        *settings, _flask, arguments = re.split(r"\s*\b(flask) ", command, maxsplit=1)
        serves = "taskqueue" not in arguments
        environment = dict(pair.split("=") for word in settings for pair in word.split())
        output = self.folder / f"terminal{len(self.terminals)}"
        output.write_text("")
        self.terminals.append(output)
        port = ["--port", str(self.port)] if serves else []
        self.running.enter_context(
            process(["-m", "flask", *arguments.split(), *port], environment, output)
        )
        ready = (lambda: answers(self.port)) if serves else (lambda: "Ctrl-C" in output.read_text())
        wait_until(ready, what=f"{command} is ready")

    def _stop(self) -> None:
        self.running.close()
        self.terminals.clear()


def answers(port: int) -> bool:
    """Whether a server is there, whatever it says."""
    try:
        return bool(requests.get(f"http://127.0.0.1:{port}/", timeout=60).status_code)
    except requests.ConnectionError:
        return False


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that a reader follows."""
    for section in page.split("\n## ")[1:]:
        for found in BLOCK.finditer(section):
            caption = re.search(r"^:caption: (.*)$", found[2], re.MULTILINE)
            yield Block(
                section.partition("\n")[0], found[1], caption[1] if caption else "", found[3]
            )


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a terminal, with what is shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def test_the_tutorial_can_be_followed(tmp_path: Path) -> None:
    """Every file, every command and everything that it says is seen."""
    reader = Reader(tmp_path)
    with reader.running:
        for block in blocks(PAGE.read_text(encoding="utf-8")):
            if block.section != SETTING_UP:
                reader.follow(block)
