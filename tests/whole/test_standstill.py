"""A pause that has returned: nothing more of the queue begins, in any process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_taskqueue import State
from flask_taskqueue.api import pausing
from tests.databases import TestDatabase
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.chaos import log
from tests.whole.chaos.stage import Stage, stage
from tests.whole.processes import descendants, process

PROCESSES, THREADS = 2, 4
COMMAND = ("-m", "flask", "--app", "tests.whole.loop_app", "taskqueue", "pause", "default")


def by_call(_: Stage) -> None:
    """As the application does, and the dashboard."""
    loop_app.tasks.queue("default").pause()


def by_command(here: Stage) -> None:
    """From a terminal."""
    with process(COMMAND, {}, here.output) as running:
        assert running.wait(30) == 0


def by_rate(_: Stage) -> None:
    """A rate of 0 takes nothing either."""
    loop_app.tasks.queue("default").configure(rate="0")


def in_the_transaction(_: Stage) -> None:
    """The commit of the session's transaction is when it is paused."""
    loop_app.db.session.execute(sa.update(loop_app.Counter).values(count=7))
    loop_app.tasks.queue("default").pause()
    loop_app.db.session.commit()


@contextmanager
def always_more(here: Stage) -> Iterator[None]:
    """There is always something to begin, however long a pause takes."""
    enough = threading.Event()

    def add() -> None:
        with here.app.app_context():
            while not enough.wait(0.01):
                if loop_app.tasks.queue("default").statistics().tasks < 3000:
                    loop_app.tasks.add_many(loop_app.plain.spec() for _ in range(1000))

    thread = threading.Thread(target=add)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


@pytest.mark.parametrize("pause", [by_call, by_command, by_rate, in_the_transaction])
def test_nothing_begins_when_a_pause_has_returned(
    database: TestDatabase, tmp_path: Path, pause: Callable[[Stage], None]
) -> None:
    """What runs goes on, what was leased ahead is given back, and that counts as no attempt."""
    with stage(database, tmp_path, {"POLL_INTERVAL": "60"}) as here:
        loop_app.tasks.add_many(loop_app.plain.spec() for _ in range(6000))
        queue = loop_app.tasks.queue("default")
        with here.dispatchers(PROCESSES, "--threads", str(THREADS)):
            here.wait_begun(60)
            with always_more(here):
                pause(here)
            returned = time.monotonic()
            running = {task.id for task in queue.find(state=State.LEASED, limit=1000)}
            assert len(running) <= PROCESSES * THREADS
            assert queue.find(state=State.SCHEDULED, limit=1)
            wait_until(lambda: not queue.find(state=State.LEASED), what="what runs has ended")
            begun = {
                line.task_id
                for line in log.read(here.log)
                if line.word == "start" and line.at > returned
            }
            assert begun <= running
            assert {row.attempts for row in here.history().rows} == {0, 1}
            queue.configure(rate=None)
            queue.resume()
            here.wait_begun(60)
            queue.purge()
            wait_until(lambda: not queue.find(state=State.LEASED), what="what runs has ended")
        assert {row.attempts for row in here.history().rows} <= {0, 1}


def test_a_dispatcher_that_does_not_answer_is_named(
    sqlite_database: TestDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The queue is paused all the same, and the log says which process may still begin what it
    had leased.
    """
    monkeypatch.setattr(pausing, "ANSWER_TIMEOUT", 0.3)
    with stage(sqlite_database, tmp_path, {}) as here, here.dispatchers(1) as parent:
        loop_app.plain.add().wait(30)
        (child,) = descendants(parent.pid)
        os.kill(child.pid, signal.SIGSTOP)
        try:
            assert loop_app.tasks.queue("default").pause()
        finally:
            os.kill(child.pid, signal.SIGCONT)
        assert [
            record.getMessage().rsplit(":", 1)[1]
            for record in caplog.records
            if "is paused, but" in record.getMessage()
        ] == [str(child.pid)]
        caplog.clear()
        monkeypatch.undo()
        assert not loop_app.tasks.queue("default").pause()
        assert not caplog.records


def test_a_pause_waits_for_no_dispatcher_that_has_stopped(
    sqlite_database: TestDatabase, tmp_path: Path
) -> None:
    """Nor for one that drains and ends."""
    with stage(sqlite_database, tmp_path, {}) as here:
        loop_app.plain.add()
        with here.dispatchers(1, "--burst") as running:
            assert running.wait(30) == 0
        with here.dispatchers(1) as parent:
            loop_app.plain.add().wait(30)
            parent.terminate()
            assert parent.wait(30) == 0
        with here.store.reading() as connection:
            assert here.store.dispatchers.list(connection) == []
        assert here.store.transact(here.store.dispatchers.ask) == {}
