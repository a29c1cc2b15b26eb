"""Real processes: started, killed, read from."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


@contextmanager
def process(arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this Python (``-m`` and so on) and all its descendants, which do not outlive the block."""
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
        for one in [*descendants(running.pid), running]:
            try:
                os.kill(one.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        running.wait(10)


def descendants(pid: int) -> list[psutil.Process]:
    """The live descendants of a process."""
    try:
        return [one for one in psutil.Process(pid).children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def kill_at_random(pid: int, every: float, while_true: Iterator[bool], *, after: float = 1.0) -> int:
    """Kill -9 a random descendant every so many seconds, as long as the iterator says so; how many.

    One is killed only when it has lived for ``after`` seconds, so that there is progress on a machine that is busy.
    """
    kills = 0
    for go_on in while_true:
        if not go_on:
            break
        time.sleep(every)
        victims = [one for one in descendants(pid) if time.time() - one.create_time() > after]
        if victims:
            try:
                random.choice(victims).kill()
                kills += 1
            except psutil.NoSuchProcess:
                continue
    return kills
