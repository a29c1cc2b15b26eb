"""The supervisor outlives what its processes die of."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_taskqueue import State
from tests.databases import TestDatabase
from tests.outages import switched
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.chaos.stage import stage
from tests.whole.processes import descendants


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_child_that_dies_while_the_database_is_away_takes_nobody_with_it(database: TestDatabase, tmp_path: Path) -> None:
    """The supervisor and its other processes stay; when the database is back the child has a successor and its task is given back."""
    with stage(database, tmp_path, {"LEASE": "600"}) as here, switched(database) as (url, switch):
        task = loop_app.slow.add(seconds=3)
        with here.dispatchers(2, environment={"LOOP_DATABASE": url}) as running:
            here.wait_begun(1)
            holder = int((tmp_path / "log").read_text().split()[3])
            (other,) = [one for one in descendants(running.pid) if one.pid != holder]
            switch(False)
            next(one for one in descendants(running.pid) if one.pid == holder).kill()
            wait_until(lambda: "could not be given back" in here.said(), what="the supervisor has tried", timeout=60)
            wait_until(lambda: "cannot start yet" in here.said(), what="the successor waits", timeout=60)
            switch(True)
            assert task.wait(60).state is State.SUCCEEDED
            assert running.poll() is None
            assert other.is_running()
            assert holder not in [one.pid for one in descendants(running.pid)]
            running.terminate()
            assert running.wait(15) == 0
    assert "Traceback" not in here.said()


def test_a_handler_can_end_a_process_that_it_has_forked(sqlite_database: TestDatabase, tmp_path: Path) -> None:
    """Our handlers of signals do not reach the child: ``terminate()`` ends it."""
    with stage(sqlite_database, tmp_path, {}) as here, here.dispatchers(1):
        task = loop_app.forking.add()
        assert task.wait(20).state is State.SUCCEEDED
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == ["start", "end"]


def test_a_handler_that_holds_the_interpreter_keeps_its_lease(database: TestDatabase, tmp_path: Path) -> None:
    """For longer than a lease no thread of its process comes to run; its supervisor knows that it lives, and nobody else takes the task."""
    with stage(database, tmp_path, {"LEASE": "2", "POLL_INTERVAL": "0.2"}) as here, here.dispatchers(2):
        tasks = [loop_app.greedy.add(seconds=6), loop_app.slow.add(seconds=1)]
        for task in tasks:
            ended = task.wait(60)
            assert (ended.state, ended.attempts, ended.crashes) == (State.SUCCEEDED, 1, 0)
    assert "could not be renewed" not in here.said()


def test_what_a_stopped_process_holds_is_taken_over(sqlite_database: TestDatabase, tmp_path: Path) -> None:
    """It lives, but nobody can say for how long it stands still."""
    with stage(sqlite_database, tmp_path, {"LEASE": "2", "POLL_INTERVAL": "0.2"}) as here, here.dispatchers(2) as running:
        task = loop_app.slow.add(seconds=0.5)
        here.wait_begun(1)
        holder = int((tmp_path / "log").read_text().split()[3])
        stopped = next(one for one in descendants(running.pid) if one.pid == holder)
        stopped.suspend()
        try:
            wait_until(lambda: task.wait(60).state is State.SUCCEEDED, what="another process has done it", timeout=60)
            assert task.wait(1).attempts == 2
        finally:
            stopped.resume()
