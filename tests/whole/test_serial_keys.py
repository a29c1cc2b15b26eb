"""Serial keys: one task after the other whatever becomes of the dispatchers, and no key in the way of another."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue import State, TaskSpec
from tests.databases import TestDatabase
from tests.whole import serial_app
from tests.whole.processes import kill_at_random, process

KEYS = 200
EACH = 20
FLASK = ("-m", "flask", "--app", "tests.whole.serial_app")


@pytest.fixture
def app(database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The application in this process; it enqueues and looks, and does not dispatch."""
    monkeypatch.setenv("SERIAL_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FLASK_TASKQUEUE_DATABASE_URI", database.url)
    monkeypatch.setenv("FLASK_TASKQUEUE_CREATE_TABLES", "true")
    # What a process held that was killed is given back at once; only what slips through that waits for its lease.
    monkeypatch.setenv("FLASK_TASKQUEUE_LEASE", "6")
    application = serial_app.create_app()
    with application.app_context():
        yield application
    application.extensions["taskqueue"].store.database.close()


def shuffled() -> Iterator[TaskSpec]:
    """The tasks of all keys, mixed; those of one key in order."""
    keys = [f"key-{one}" for one in range(KEYS)] * EACH
    random.Random(2).shuffle(keys)
    added: dict[str, int] = defaultdict(int)
    for key in keys:
        yield serial_app.step.options(serial_key=key).spec(key=key, number=added[key])
        added[key] += 1


def unfinished(seconds: float) -> Iterator[bool]:
    """True as long as a task has not ended, for so many seconds at most."""
    limit = time.monotonic() + seconds
    queue = serial_app.tasks.queue("default")
    while (now := queue.statistics()).scheduled + now.in_flight and time.monotonic() < limit:
        yield True


def deliveries(log: Path) -> dict[str, list[int]]:
    """By key: the numbers in the order in which they were delivered."""
    found: dict[str, list[int]] = defaultdict(list)
    for line in log.read_text().splitlines():
        key, number = line.split()
        found[key].append(int(number))
    return found


def test_the_order_of_each_key_holds_while_dispatchers_are_killed(app: Flask, tmp_path: Path) -> None:
    """Number n+1 is not delivered before n is done with: a delivery that a kill repeats comes before its successor's first."""
    assert serial_app.tasks.add_many(shuffled()) == (KEYS * EACH, 0)
    with process([*FLASK, "taskqueue", "run", "--processes", "3"], {}, tmp_path / "output") as running:
        kills = kill_at_random(running.pid, 0.4, unfinished(60))
    left = [(task.state, task.params) for task in serial_app.tasks.find(limit=KEYS * EACH) if task.state is not State.SUCCEEDED]
    assert not left, f"{len(left)} left over after {kills} kills:\n{(tmp_path / 'output').read_text()[-2000:]}"
    found = deliveries(tmp_path / "log")
    broken = {key: numbers for key, numbers in found.items() if numbers != sorted(numbers) or {*numbers} != {*range(EACH)}}
    assert not broken
    assert len(found) == KEYS
    assert kills > 3
