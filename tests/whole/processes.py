"""Real processes: started, killed, read from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def process(
    arguments: Sequence[str], environment: Mapping[str, str], output: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this Python (``-m`` and so on) and all its descendants, which do not outlive
    the block.
    """
    with output.open("ab") as out:
        running = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            cwd=output.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        # All at once: a parent that is left for last may have replaced a child by then.
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait(10)


def descendants(pid: int) -> list[psutil.Process]:
    """The live descendants of a process."""
    try:
        return [
            one
            for one in psutil.Process(pid).children(recursive=True)
            if one.status() != psutil.STATUS_ZOMBIE
        ]
    except psutil.NoSuchProcess:
        return []


def need(server: str) -> None:
    """Skip a test by name where a server is absent, or fail it where that is required."""
    if find_spec(server) is None:
        if server in os.environ.get("TASKQUEUE_TEST_REQUIRE", "").split(","):
            pytest.fail(f"{server} is required here and absent")
        pytest.skip(f"{server} is not installed")
