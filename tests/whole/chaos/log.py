"""The log of deliveries: handlers append to it, the checker reads it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """What one handler said, and when on the clock that all processes of a machine share
    (seconds).
    """

    word: str
    task_id: str
    attempt: int
    pid: int
    at: float


def write(
    path: str | Path, word: str, task_id: str, attempt: int = 0, *, pid: int | None = None
) -> None:
    """Append a line about an attempt, in one write: processes do not mix theirs, and none is half
    there when one is killed.

    It is by this process, or about another, ``pid``.
    """
    append(
        path,
        f"{word} {task_id} {attempt} {os.getpid() if pid is None else pid} {time.monotonic_ns()}",
    )


def append(path: str | Path, line: str) -> None:
    """Append any line so."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def read(path: str | Path) -> list[Line]:
    """All lines, in the order in which they were written."""
    file = Path(path)
    texts = file.read_text().splitlines() if file.exists() else []
    return [
        Line(word, task_id, int(attempt), int(pid), int(at) / 1e9)
        for word, task_id, attempt, pid, at in (text.split() for text in texts)
    ]
