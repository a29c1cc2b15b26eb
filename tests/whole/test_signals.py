"""Signals to ``flask taskqueue run``, and the death of its supervisor."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flask_taskqueue import State
from tests.databases import TestDatabase
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.chaos.stage import Stage, stage
from tests.whole.processes import descendants

GRACE = 5


@pytest.fixture
def here(sqlite_database: TestDatabase, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose dispatchers wait up to five seconds for what runs."""
    with stage(sqlite_database, tmp_path, {"GRACE_PERIOD": str(GRACE)}) as made:
        yield made


def gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them lives."""
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


def test_a_hangup_lets_running_tasks_end(here: Stage) -> None:
    """As SIGTERM does: exit code 0, no traceback, nobody left behind."""
    task = loop_app.slow.add(seconds=0.5)
    with here.dispatchers(2) as running:
        here.wait_begun(1)
        children = descendants(running.pid)
        running.send_signal(signal.SIGHUP)
        assert running.wait(10) == 0
        assert gone(children)
    assert loop_app.tasks.get(task.id).state is State.SUCCEEDED
    assert "Traceback" not in here.said()


@pytest.mark.parametrize("name", ["HUP", "INT"])
def test_a_signal_that_is_ignored_stays_ignored(here: Stage, name: str) -> None:
    """As ``nohup`` has it for SIGHUP, and a script for the SIGINT of what runs in the background:
    tasks go on, and SIGTERM ends it, which it says.
    """
    number = getattr(signal, f"SIG{name}")
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with here.dispatchers(1) as running:
            assert loop_app.slow.add(seconds=0).wait(30).state is State.SUCCEEDED
            (child,) = descendants(running.pid)
            running.send_signal(number)
            child.send_signal(number)
            for _ in range(3):
                assert loop_app.slow.add(seconds=0.2).wait(30).state is State.SUCCEEDED
            assert (running.poll(), [process.pid for process in descendants(running.pid)]) == (
                None,
                [child.pid],
            )
            running.terminate()
            assert running.wait(10) == 0
    finally:
        signal.signal(number, before)
    assert here.said().count("SIGTERM: finishing what runs") == 1
    assert f"SIG{name}" not in here.said()


@pytest.mark.slow
def test_a_thread_that_hangs_does_not_hold_up_the_end(here: Stage) -> None:
    """Its task has ended at the deadline, so nobody waits for the grace period."""
    with here.dispatchers(1) as running:
        assert loop_app.hang.add().wait(30).state is State.DEAD
        began = time.monotonic()
        running.terminate()
        assert running.wait(10) == 0
        assert time.monotonic() - began < GRACE


def test_impatient_sigterms_end_it_at_once(here: Stage) -> None:
    """From the second on it does not wait: exit code 0, no traceback, nobody left behind; the
    task is attempted again.
    """
    task = loop_app.slow.add(seconds=4)
    with here.dispatchers(2) as running:
        here.wait_begun(1)
        children = descendants(running.pid)
        wait_until(
            lambda: running.terminate() or running.poll() is not None, what="it ends", timeout=3
        )  # type: ignore[func-returns-value]
        assert running.wait() == 0
        assert gone(children)
    assert "Traceback" not in here.said()
    back = loop_app.tasks.get(task.id)
    assert (back.state, back.attempts) == (State.SCHEDULED, 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT], ids=["SIGKILL", "SIGQUIT"])
def test_dispatchers_do_not_outlive_their_supervisor(here: Stage, number: signal.Signals) -> None:
    """Killed, it leaves them to let running tasks end and to give the rest back; nobody is left
    behind.
    """
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"this run ignores {number.name}, and so does what it starts (nohup?)")
    task = loop_app.slow.add(seconds=1)
    with here.dispatchers(2) as running:
        here.wait_begun(1)
        children = descendants(running.pid)
        running.send_signal(number)
        running.wait(30)
        wait_until(lambda: gone(children), what="they end")
    assert loop_app.tasks.get(task.id).state is State.SUCCEEDED
    assert "Traceback" not in here.said()
