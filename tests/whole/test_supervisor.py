"""The supervisor outlives what its processes die of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from flask_taskqueue import State
from flask_taskqueue.cli.run import run as run_command
from flask_taskqueue.engine.pulse import resident, usable_processors
from tests.databases import TestDatabase
from tests.outages import switched
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.chaos.stage import FLASK, Stage, stage
from tests.whole.processes import descendants, process


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_child_that_dies_while_the_database_is_away_takes_nobody_with_it(
    database: TestDatabase, tmp_path: Path
) -> None:
    """The supervisor and its other processes stay; when the database is back the child has a
    successor and its task is given back.
    """
    with stage(database, tmp_path, {"LEASE": "600"}) as here, switched(database) as (url, switch):
        task = loop_app.slow.add(seconds=3)
        with here.dispatchers(2, environment={"LOOP_DATABASE": url}) as running:
            here.wait_begun(1)
            holder = int((tmp_path / "log").read_text().split()[3])
            (other,) = [process for process in descendants(running.pid) if process.pid != holder]
            switch(False)
            next(process for process in descendants(running.pid) if process.pid == holder).kill()
            wait_until(
                lambda: "could not be given back" in here.said(),
                what="the supervisor has tried",
                timeout=60,
            )
            wait_until(
                lambda: "cannot start yet" in here.said(), what="the successor waits", timeout=60
            )
            switch(True)
            assert task.wait(60).state is State.SUCCEEDED
            assert running.poll() is None
            assert other.is_running()
            assert holder not in [process.pid for process in descendants(running.pid)]
            running.terminate()
            assert running.wait(15) == 0
    assert "Traceback" not in here.said()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_one_that_starts_before_the_database_waits_for_it(
    database: TestDatabase, tmp_path: Path
) -> None:
    """It says why, and SIGTERM ends it meanwhile."""
    with stage(database, tmp_path, {}) as here, switched(database) as (url, switch):
        task = loop_app.plain.add()
        switch(False)
        there = {"LOOP_DATABASE": url}
        with here.dispatchers(1, environment=there) as first:
            wait_until(
                lambda: "Waiting for the database: the database cannot be reached" in here.said(),
                what="it waits",
                timeout=60,
            )
            first.terminate()
            assert first.wait(15) == 0
        with here.dispatchers(1, environment=there) as second:
            wait_until(
                lambda: here.said().count("Waiting for the database") == 2,
                what="another one waits",
                timeout=60,
            )
            switch(True)
            assert task.wait(60).state is State.SUCCEEDED
            second.terminate()
            assert second.wait(15) == 0
    assert "Traceback" not in here.said()


_IGNORING = (
    "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def test_a_child_is_replaced_even_if_deaths_were_ignored_before(
    sqlite_database: TestDatabase, tmp_path: Path
) -> None:
    """Whoever starts the command may ignore SIGCHLD, and programs inherit that."""
    command = ("-c", _IGNORING, *FLASK, loop_app.__name__, "taskqueue", "run")
    with stage(sqlite_database, tmp_path, {}) as here, process(command, {}, here.output) as running:
        assert loop_app.plain.add().wait(60).state is State.SUCCEEDED
        (child,) = descendants(running.pid)
        child.kill()
        assert loop_app.plain.add().wait(60).state is State.SUCCEEDED
        running.terminate()
        assert running.wait(60) == 0


def test_a_handler_can_end_a_process_that_it_has_forked(
    sqlite_database: TestDatabase, tmp_path: Path
) -> None:
    """Our handlers of signals do not reach the child: ``terminate()`` ends it."""
    with stage(sqlite_database, tmp_path, {}) as here, here.dispatchers(1):
        task = loop_app.forking.add()
        assert task.wait(20).state is State.SUCCEEDED
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == [
        "start",
        "end",
    ]


def test_a_handler_that_holds_the_interpreter_keeps_its_lease(
    database: TestDatabase, tmp_path: Path
) -> None:
    """For longer than a lease no thread of its process comes to run; its supervisor knows that
    it lives, and nobody else takes the task.
    """
    with (
        stage(database, tmp_path, {"LEASE": "2", "POLL_INTERVAL": "0.2"}) as here,
        here.dispatchers(2),
    ):
        tasks = [loop_app.greedy.add(seconds=6), loop_app.slow.add(seconds=1)]
        for task in tasks:
            ended = task.wait(60)
            assert (ended.state, ended.attempts, ended.crashes) == (State.SUCCEEDED, 1, 0)
    assert "could not be renewed" not in here.said()


def test_what_a_stopped_process_holds_is_taken_over(
    sqlite_database: TestDatabase, tmp_path: Path
) -> None:
    """It lives, but nobody can say for how long it stands still."""
    with (
        stage(sqlite_database, tmp_path, {"LEASE": "2", "POLL_INTERVAL": "0.2"}) as here,
        here.dispatchers(2) as running,
    ):
        task = loop_app.slow.add(seconds=0.5)
        here.wait_begun(1)
        holder = int((tmp_path / "log").read_text().split()[3])
        stopped = next(process for process in descendants(running.pid) if process.pid == holder)
        stopped.suspend()
        try:
            wait_until(
                lambda: task.wait(60).state is State.SUCCEEDED,
                what="another process has done it",
                timeout=60,
            )
            assert task.wait(1).attempts == 2
        finally:
            stopped.resume()


def runs(folder: Path) -> list[tuple[str, str]]:
    """The beginnings and ends of handlers, each with the process, in their order."""
    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    return [(words[0], words[3]) for words in lines]


def replacements(here: Stage) -> list[int]:
    """How many processes were replaced, as the doctor tells for each dispatcher."""
    told = here.app.test_cli_runner().invoke(args=["taskqueue", "doctor"]).output
    return [
        int(number)
        for number in re.findall(
            r"which was replaced because it has made \d+ attempts .*; (\d+) processes so far", told
        )
    ]


def test_a_process_that_has_run_enough_is_replaced(database: TestDatabase, tmp_path: Path) -> None:
    """What it still runs goes on to its end, what is due does not wait for that, and no attempt
    is lost or counted twice.
    """
    with (
        stage(database, tmp_path, {"POLL_INTERVAL": "0.2"}) as here,
        here.dispatchers(1, "--threads", "2", "--max-tasks", "3") as running,
    ):
        long = loop_app.slow.add(seconds=12)
        here.wait_begun(1)
        (first,) = {pid for _, pid in runs(tmp_path)}
        others = [loop_app.slow.add(seconds=0.05) for _ in range(40)]
        for task in others:
            ended = task.wait(60)
            assert (ended.state, ended.attempts, ended.crashes) == (State.SUCCEEDED, 1, 0)
        assert loop_app.tasks.get(long.id).state is State.LEASED
        ended = long.wait(60)
        assert (ended.state, ended.attempts, ended.crashes) == (State.SUCCEEDED, 1, 0)
        wait_until(
            lambda: int(first) not in [process.pid for process in descendants(running.pid)],
            what="the first one has ended",
        )
        processes = {pid for _, pid in runs(tmp_path)}
        assert len(processes) >= 3
        assert running.poll() is None
        assert loop_app.slow.add(seconds=0).wait(60).attempts == 1
        # The process of the last task may have been replaced by now: its successor says so as soon
        # as it is registered.
        wait_until(
            lambda: max(replacements(here), default=0) >= 2, what="the doctor tells of replacements"
        )
        running.terminate()
        assert running.wait(30) == 0
    assert " died: " not in here.said()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_there_is_always_somebody_who_takes_tasks(
    sqlite_database: TestDatabase, tmp_path: Path, processes: int
) -> None:
    """However many worn processes have handlers that hang, or take long: those that hang past
    their deadline are not waited for, and a process goes on beyond its limit while too many leave.
    """
    with (
        stage(sqlite_database, tmp_path, {"POLL_INTERVAL": "0.2"}) as here,
        here.dispatchers(processes, "--threads", "4", "--max-tasks", "1") as running,
    ):
        hung = [loop_app.hang.add() for _ in range(3 * processes)]
        for task in hung:
            assert task.wait(60).state is State.DEAD
        assert loop_app.slow.add(seconds=0).wait(30).attempts == 1
        long = [loop_app.slow.add(seconds=25) for _ in range(3 * processes)]
        for _ in range(6 * processes):
            assert loop_app.slow.add(seconds=0).wait(20).attempts == 1
        states = [loop_app.tasks.get(task.id).state for task in long]
        assert states == [State.LEASED] * len(long)
        assert len(descendants(running.pid)) <= 2 * processes + 1
        for task in long:
            assert (task.wait(60).state, loop_app.tasks.get(task.id).attempts) == (
                State.SUCCEEDED,
                1,
            )
        running.terminate()
        assert running.wait(30) == 0
    assert " died: " not in here.said()


@pytest.mark.skipif(
    resident() is None, reason="this system does not tell how much memory a process holds"
)
def test_a_process_that_holds_too_much_is_replaced(
    sqlite_database: TestDatabase, tmp_path: Path
) -> None:
    """After a task, not before: with a limit below what any process holds each runs one at
    least, so that work goes on.
    """
    with (
        stage(sqlite_database, tmp_path, {"POLL_INTERVAL": "0.2"}) as here,
        here.dispatchers(1, "--max-memory", "400") as running,
    ):
        assert loop_app.slow.add(seconds=0).wait(60).state is State.SUCCEEDED
        assert loop_app.slow.add(seconds=0).wait(60).state is State.SUCCEEDED
        (small,) = {pid for _, pid in runs(tmp_path)}
        assert loop_app.hoard.add(megabytes=500).wait(60).state is State.SUCCEEDED
        wait_until(
            lambda: int(small) not in [process.pid for process in descendants(running.pid)],
            what="it is replaced",
        )
        assert loop_app.slow.add(seconds=0).wait(60).state is State.SUCCEEDED
        assert len({pid for _, pid in runs(tmp_path)}) == 2
        running.terminate()
        assert running.wait(30) == 0
        with here.dispatchers(1, "--max-memory", "1"):
            for _ in range(3):
                assert loop_app.slow.add(seconds=0).wait(60).attempts == 1
    assert " died: " not in here.said()


@pytest.mark.parametrize("number", ["auto", ""])
def test_a_number_of_processes_follows_the_processors(
    sqlite_database: TestDatabase, tmp_path: Path, number: str
) -> None:
    """With ``auto``, and where no number is given."""
    with stage(sqlite_database, tmp_path, {}) as here, here.dispatchers(number) as running:
        wait_until(
            lambda: len(descendants(running.pid)) == min(usable_processors(), 64),
            what="there are as many",
        )
        loop_app.slow.add(seconds=0).wait(60)
    assert f"{min(usable_processors(), 64)} process" in here.said()


WRONG = (
    *("--processes some", "--processes 0", "--processes 65"),
    *("--max-tasks 0", "--max-memory -1", "--max-tasks few"),
)


@pytest.mark.parametrize("words", WRONG)
def test_what_is_no_number_is_refused(words: str) -> None:
    """By the command, before anything is started."""
    assert CliRunner().invoke(run_command, words.split()).exit_code == 2
