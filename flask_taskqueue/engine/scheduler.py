"""The scheduler: APScheduler jobs that act as the dispatcher's clock."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from ..process.logs import SafeLogger, get_logger
from ..process.threads import NoThreadError, in_empty_context, start_thread
from .cron import Cron
from .dispatcher import Dispatcher
from .forwarder import ForwarderThread
from .registration import Registration

_logger = get_logger()

_WATCH_INTERVAL = 1.0
_SWEEP_INTERVAL = 60.0
_CRON_INTERVAL = 60.0
_BEAT_INTERVAL = 10.0
_BULK_INTERVAL = 2.0
_DRAIN = "drain"
_CRON = "cron"
_BEAT = "beat"
_SWEEP = "sweep"
_BULK = "bulk"
_ALIAS = "taskqueue"
_SET_BACK = 0.5
"""The seconds by which a clock may be set back unnoticed."""


class _DaemonExecutor(BaseExecutor):  # type: ignore[misc]
    """An executor that runs each job in a daemon thread, as soon as one can be started.

    APScheduler's thread pool is joined when the interpreter exits, before an exit handler can stop
    the dispatcher.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads: list[threading.Thread] = []
        self._waiting: deque[Any] = deque()
        self._has_warned = False

    def join(self, ends: float) -> None:
        """Wait until running jobs have ended, or until ``ends`` on the monotonic clock."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends - time.monotonic()))

    def submit_job(self, job: Any, run_times: list[datetime]) -> None:
        """Run a job; begin those first that got no thread before."""
        self._begin_waiting()
        super().submit_job(job, run_times)

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        self._waiting.append(job)
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Begin what waits, in the scheduler's thread, at least each time that a job is due."""
        try:
            while self._waiting:
                job = self._waiting[0]
                begun = start_thread(self._work, job, name=f"taskqueue-{job.id}")
                self._waiting.popleft()
                self._threads = [*(thread for thread in self._threads if thread.is_alive()), begun]
            self._has_warned = False
        except NoThreadError as error:
            goes_on = threading.main_thread().is_alive()  # the interpreter does
            if goes_on and not self._has_warned:
                self._has_warned = True
                _logger.warning("the jobs of the dispatcher wait for a thread: %s", error)

    def _work(self, job: Any) -> None:
        try:
            job.func()
        except Exception:  # whatever one run raises, the job runs again, as APScheduler's own do
            _logger.exception("the dispatcher's job %s failed; it runs again later", job.id)
        finally:  # otherwise it would count as running for ever, and never run again
            self._run_job_success(job.id, [])


class _SteadyScheduler(BackgroundScheduler):  # type: ignore[misc]
    """A scheduler that runs every job at once when the machine's clock was set back.

    By that clock all jobs would otherwise wait until it has caught up. The scheduler wakes at least
    once per poll, by the monotonic clock, so it notices.
    """

    _lead = 0.0

    def _process_jobs(self) -> float | None:
        lead = time.time() - time.monotonic()
        if lead < self._lead - _SET_BACK:
            _logger.warning("the clock was set back by %.1f s", self._lead - lead)
            for job in self.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
        self._lead = lead
        seconds: float | None = super()._process_jobs()
        return seconds


class Scheduler:
    """The seven jobs of one dispatcher process, and the thread of its forwarder if it has one.

    They are: drain, cron, renew leases, watch deadlines, show that the dispatcher is alive, sweep,
    and carry on with bulk changes. The drain lingers once it has begun; if its thread dies, the
    next poll, or whoever wakes it, begins another. Cron runs when the next schedule fires.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        cron: Cron,
        registration: Registration,
        *,
        poll_interval: float,
        lease: float,
        sweep: Callable[[], object],
        carry_on: Callable[[], bool],
        forwarder: ForwarderThread | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self._forwarder = forwarder
        self._registration = registration
        self._cron = cron
        self._carry_on = carry_on
        self._executor = _DaemonExecutor()
        self._jobs = _SteadyScheduler(
            executors={_ALIAS: self._executor},
            job_defaults={"coalesce": True, "misfire_grace_time": None},
            timezone=UTC,
            daemon=True,
            logger=_quiet(),
        )
        self._every(poll_interval, self._drain, _DRAIN, jitter=True, at_once=True, max_instances=2)
        self._every(_CRON_INTERVAL, self._tick, _CRON, at_once=True)
        self._every(lease / 3, dispatcher.heartbeat.beat, "renew")
        self._every(_WATCH_INTERVAL, dispatcher.enforce_deadlines, "watch")
        self._every(_BEAT_INTERVAL, self._beat, _BEAT, jitter=True)
        self._every(_SWEEP_INTERVAL, sweep, _SWEEP, jitter=True)
        self._every(_BULK_INTERVAL, self._change, _BULK, jitter=True)

    def _every(
        self,
        seconds: float,
        job: Callable[[], object],
        name: str,
        *,
        jitter: bool = False,
        at_once: bool = False,
        max_instances: int = 1,
    ) -> None:
        """Run a job every so many seconds, give or take a tenth of them with ``jitter``."""
        first = {"next_run_time": datetime.now(UTC)} if at_once else {}
        self._jobs.add_job(
            job,
            "interval",
            seconds=seconds,
            jitter=seconds / 10 if jitter else None,
            id=name,
            executor=_ALIAS,
            max_instances=max_instances,
            **first,
        )

    def start(self) -> None:
        """Start the jobs in a daemon thread.

        Raises `NoThreadError`.
        """
        self._beat()
        try:
            if self._forwarder is not None:
                self._forwarder.start()
            in_empty_context(self._jobs.start)
        except NoThreadError:
            if self._forwarder is not None:
                self._forwarder.retire()
            self._registration.leave()
            raise

    def wake(self) -> None:
        """Drain now, or have the running drain look again, because something may be due."""
        if self._forwarder is not None:
            self._forwarder.wake()
        if not self.dispatcher.wake():
            self._run_at(_DRAIN, datetime.now(UTC))

    def stop(self, grace: float) -> int:
        """Stop taking tasks; return how many were given back.

        Waits up to ``grace`` seconds, first for tasks and then for jobs that run.
        """
        ends = time.monotonic() + grace
        if self._forwarder is not None:
            self._forwarder.retire()
        given_back = self.dispatcher.stop(grace)
        if self._jobs.running:
            self._jobs.shutdown(wait=False)
        self._executor.join(ends)
        if self._forwarder is not None:
            self._forwarder.stop(max(0.0, ends - time.monotonic()))
        self._registration.leave()
        return given_back

    def _drain(self) -> None:
        if not self._registration.is_known:
            self._beat()
        if self._registration.is_known:
            self.dispatcher.drain(linger=True)

    def _tick(self) -> None:
        next_in = self._cron.tick()
        if self._cron.has_added:
            self.wake()
        self._run_at(_CRON, datetime.now(UTC) + timedelta(seconds=next_in))

    def _change(self) -> None:
        if self._carry_on():
            self.wake()

    def _beat(self) -> None:
        """Show that the dispatcher is alive; retire it if it must not use the tables any more.

        While its drain is stalled it does not count as alive.
        """
        stalled_for = self.dispatcher.stalled_for
        if self._registration.is_known and stalled_for is not None:
            _logger.error("this dispatcher has not looked for tasks for %.0f s", stalled_for)
            return
        why = self._registration.beat()
        if why is None:
            return
        _logger.error("this dispatcher takes nothing more: %s", why)
        self.dispatcher.retire()
        if self._forwarder is not None:
            self._forwarder.retire()
        self._registration.leave()
        for job in (_DRAIN, _CRON, _BEAT, _SWEEP, _BULK):
            with suppress(JobLookupError):  # another thread has removed it
                self._jobs.remove_job(job)

    def _run_at(self, job: str, instant: datetime) -> None:
        try:
            self._jobs.modify_job(job, next_run_time=instant)
        except JobLookupError:
            return  # the scheduler has been stopped


def _quiet() -> SafeLogger:
    """Return APScheduler's logger of our jobs alone, limited to errors.

    Without the limit it would report every run, once a second.
    """
    logger = get_logger(f"apscheduler.scheduler.{_ALIAS}")
    logger.setLevel(logging.ERROR)
    return logger
