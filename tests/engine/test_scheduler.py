"""The clock of the dispatcher's jobs."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta, tzinfo

import apscheduler.schedulers.base
import pytest

from flask_taskqueue.engine import scheduler
from flask_taskqueue.engine.scheduler import _SteadyScheduler
from tests.apps import Bench
from tests.waiting import wait_until


class Clock(datetime):
    """The machine's clock, which can be set; the monotonic one goes on."""

    offset = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """What it shows."""
        return datetime.now(tz) + cls.offset


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_stops_no_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hours: int
) -> None:
    """Neither back, when all jobs seem to be an hour away, nor forward."""
    Clock.offset = timedelta()
    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Clock)
    monkeypatch.setattr(scheduler, "datetime", Clock)
    real = time.time
    monkeypatch.setattr(scheduler.time, "time", lambda: real() + Clock.offset.total_seconds())
    runs: list[float] = []
    jobs = _SteadyScheduler(timezone=UTC, daemon=True)
    jobs.add_job(
        lambda: runs.append(time.monotonic()), "interval", seconds=0.1, misfire_grace_time=None
    )
    jobs.start()
    try:
        wait_until(lambda: len(runs) >= 2, what="the job has run")
        with caplog.at_level(logging.WARNING, "flask_taskqueue"):
            Clock.offset = timedelta(hours=hours)
            before = len(runs)
            wait_until(lambda: len(runs) >= before + 3, what="the job goes on")
    finally:
        jobs.shutdown()
    assert ("the clock was set back by 3600" in caplog.text) == (hours < 0)


def test_a_dispatcher_that_gets_no_thread_is_not_there(
    on_sqlite: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the interpreter is ending: nothing is left of it, and another can start."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "APScheduler":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't create new thread"):
            on_sqlite.runtime.start()
    assert on_sqlite.runtime.scheduler is None
    assert on_sqlite.tasks.dispatchers() == []
    assert on_sqlite.runtime.stop() == 0
    on_sqlite.runtime.start()
    assert len(on_sqlite.tasks.dispatchers()) == 1
