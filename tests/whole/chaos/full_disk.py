"""The disk of a SQLite database is full, and then it is not."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_taskqueue import TaskQueueError
from tests.databases import Servers, TestDatabase
from tests.whole import loop_app
from tests.whole.processes import descendants

from .history import Fault
from .scenario import Scenario
from .stage import Stage


@contextmanager
def small_disk(name: str, _servers: Servers, directory: Path) -> Iterator[TestDatabase]:
    """A disk of eight megabytes; only root can have one."""
    disk = directory / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    ).returncode:
        pytest.skip("a full disk: only root can mount a small one")
    try:
        yield TestDatabase(name, f"sqlite:///{disk / 'test.db'}")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def play(stage: Stage, *, tasks: int, limit: float) -> None:
    """What was acknowledged is done once there is room again; the dispatcher lives on."""
    ballast = stage.directory / "disk" / "ballast"
    with stage.dispatchers(1) as running:
        added = add(stage, tasks)
        stage.wait_begun(10)
        children = {process.pid for process in descendants(running.pid)}
        full = time.monotonic()
        fill(ballast)
        refused = 0
        while refused < 3:
            before = len(added)
            added += add(stage, 1)
            refused += len(added) == before
        ballast.unlink()
        stage.faults.append(Fault("outage", full, time.monotonic()))
        stage.wait_drained(limit)
        assert {process.pid for process in descendants(running.pid)} == children
    with loop_app.db.engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"


def add(stage: Stage, count: int) -> list[str]:
    """The ids of those that could be stored; they are expected."""
    ids = []
    for _ in range(count):
        try:
            ids.append(loop_app.plain.add().id)
        except (TaskQueueError, sa.exc.DBAPIError):
            continue
    stage.expected |= dict.fromkeys(ids)
    return ids


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            os.fsync(file.fileno())


FULL_DISK = Scenario(
    name="full disk",
    play=play,
    small={"tasks": 100, "limit": 30},
    full={"tasks": 1000, "limit": 60},
    databases=("sqlite",),
    place=small_disk,
)
