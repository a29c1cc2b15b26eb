"""Dispatchers killed again and again, on each database."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_taskqueue import State
from tests.databases import TestDatabase
from tests.whole import loop_app
from tests.whole.processes import kill_at_random, process

pytestmark = pytest.mark.timeout(180)

N = 3000
FLASK = ("-m", "flask", "--app", "tests.whole.loop_app")


@pytest.fixture
def app(database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The application of the loop in this process, its tables made; it enqueues and looks."""
    monkeypatch.setenv("LOOP_DATABASE", database.url)
    monkeypatch.setenv("LOOP_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FLASK_TASKQUEUE_CREATE_TABLES", "true")
    application = loop_app.create_app()
    with application.app_context():
        loop_app.db.create_all()
        loop_app.db.session.add(loop_app.Counter(id=1, count=0))
        loop_app.db.session.commit()
        yield application
        loop_app.db.session.remove()
        for engine in loop_app.db.engines.values():
            engine.dispose()
        application.extensions["taskqueue"].store.database.close()


def live(app: Flask) -> int:
    """How many tasks have not ended."""
    store = app.extensions["taskqueue"].store
    task = store.database.tables.task
    with store.reading() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).where(task.c.state.in_(["scheduled", "leased"]))))


def drained_under_fire(app: Flask, tmp_path: Path, *, seconds: float = 100) -> int:
    """Run three dispatcher processes, killing one every 300 ms, until nothing is left; how many were killed."""
    limit = time.monotonic() + seconds

    def unfinished() -> Iterator[bool]:
        while live(app) and time.monotonic() < limit:
            yield True

    with process([*FLASK, "taskqueue", "run", "--processes", "3"], {}, tmp_path / "output") as running:
        kills = kill_at_random(running.pid, 0.3, unfinished())
    assert live(app) == 0, f"left over after {kills} kills:\n{(tmp_path / 'output').read_text()[-2000:]}"
    return kills


def test_transactional_handlers_count_exactly_once(app: Flask, tmp_path: Path) -> None:
    """Three thousand increments under kills end at exactly three thousand, and nothing is left."""
    for _ in range(N):
        loop_app.count.add()
    kills = drained_under_fire(app, tmp_path)
    counter = loop_app.db.session.get(loop_app.Counter, 1)
    assert counter is not None
    assert counter.count == N
    assert kills > 0
    assert len(loop_app.tasks.find(state=State.SUCCEEDED, limit=N + 1)) == N


def test_plain_handlers_run_at_least_once(app: Flask, tmp_path: Path) -> None:
    """Every task is done; a second delivery is only of what was in flight at a kill."""
    ids = {loop_app.plain.add().id for _ in range(N)}
    kills = drained_under_fire(app, tmp_path)
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    ended = {task_id for word, task_id, *_ in lines if word == "end"}
    starts = Tally(task_id for word, task_id, *_ in lines if word == "start")
    assert ended == ids
    again = {task_id for task_id, times in starts.items() if times > 1}
    crashed = {task.id for task in loop_app.tasks.find(limit=N + 1) if task.crashes}
    assert again <= crashed
    assert len(crashed) <= kills * app.extensions["taskqueue"].settings.concurrency


def test_a_dispatcher_elsewhere_is_told_at_once(app: Flask, tmp_path: Path) -> None:
    """With a poll of a minute, a task that this process adds runs in another within seconds."""
    first = loop_app.plain.add()
    with process([*FLASK, "taskqueue", "run"], {"FLASK_TASKQUEUE_POLL_INTERVAL": "60"}, tmp_path / "output"):
        first.wait(20)
        for _ in range(3):
            assert loop_app.plain.add().wait(10).state is State.SUCCEEDED
        loop_app.db.session.execute(sa.update(loop_app.Counter).values(count=7))
        joined = loop_app.plain.add()
        loop_app.db.session.commit()
        assert joined.wait(10).state is State.SUCCEEDED
