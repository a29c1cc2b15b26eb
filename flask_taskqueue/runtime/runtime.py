"""The runtime that one application owns, in ``app.extensions["taskqueue"]``."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, TypedDict, Unpack

from ..core import signals
from ..core.diagnosis.facts import Finding
from ..core.errors import ConfigurationError
from ..core.names import dispatcher_id
from ..engine.attempt import Attempts
from ..engine.cloud_tasks import CloudTasksEngine
from ..engine.dispatcher import Dispatcher
from ..engine.forwarder import Forwarder, ForwarderThread, forwarded_queues
from ..engine.maintenance import carry_on
from ..engine.pulse import Replaced
from ..engine.registration import Registration
from ..engine.scheduler import Scheduler
from ..process.logs import get_logger
from ..process.threads import NoThreadError, signals_blocked_in_uwsgi
from ..store import replace_inherited
from .contexts import in_bare_context, is_current
from .reports import send_guarded
from .resources import Resources

_logger = get_logger()


class DispatcherOptions(TypedDict, total=False):
    """Options in which a dispatcher differs from the settings.

    ``base_url``, ``transport`` and ``concurrency`` replace the settings of the same names.
    ``queues`` limits the dispatcher to some queues, and ``identity`` is its id. ``renewed`` is
    called whenever it renews its leases. ``replaced`` describes the worn processes whose place it
    has taken.
    """

    base_url: str | None
    transport: str | None
    concurrency: int | None
    queues: Collection[str] | None
    identity: str | None
    renewed: Callable[[], object]
    replaced: Replaced | None


class Runtime(Resources):
    """The queue of one application, with this process's dispatcher if one runs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lock = threading.Lock()
        self._stopping = threading.Lock()
        _runtimes.add(self)

    def dispatcher(self, **options: Unpack[DispatcherOptions]) -> tuple[Dispatcher, Attempts]:
        """Make a dispatcher, which is not started yet, and the object that makes its attempts.

        Raises `TablesTooNewError` if only newer versions may work on the tables, and
        `ConfigurationError` if the database has no transactions or the application adds its tasks
        elsewhere.
        """
        self.store.database.refuse_unfit()
        look = partial(self.binding.refuse_elsewhere, self.store)
        look() if is_current(self.app) else in_bare_context(self.app, look)
        settings = self.settings
        transport = options.get("transport") or settings.transport
        routes = self.routes(options.get("base_url"), transport)
        attempts = Attempts(
            settings,
            self.targets,
            routes,
            self.keys,
            self.encryption,
            self.begun,
            self.store.known_queues,
        )
        dispatcher = Dispatcher(
            self.store,
            attempts,
            dispatcher_id=options.get("identity") or dispatcher_id(),
            concurrency=options.get("concurrency") or settings.concurrency,
            lease=settings.lease,
            poll_interval=settings.poll_interval,
            observe=self.observe,
            queues=options.get("queues"),
            renewed=options.get("renewed", _nothing),
        )
        return dispatcher, attempts

    def start(self, **options: Unpack[DispatcherOptions]) -> Scheduler:
        """Start this process's dispatcher, unless it runs already, and return its scheduler.

        Raises `NoThreadError` if its threads cannot be started; nothing of it is left then.
        """
        with self._lock:
            if self.scheduler is not None:
                return self.scheduler
            _log_findings(self.store.database.findings())
            self._enter()
            dispatcher, attempts = self.dispatcher(**options)
            registration = Registration(
                self.store,
                dispatcher,
                options.get("transport") or self.settings.transport,
                options.get("replaced"),
            )
            self.scheduler = Scheduler(
                dispatcher,
                self.cron,
                registration,
                poll_interval=self.settings.poll_interval,
                lease=self.settings.lease,
                sweep=self.sweep,
                carry_on=lambda: carry_on(self.store, self.tell_changed),
                forwarder=self._forwarder_thread(dispatcher),
            )
            self._stop_attempts = attempts.close
            self._reset_attempts = attempts.reset
            try:
                self._begin(self.scheduler)
            except NoThreadError:
                self.scheduler = None
                raise
        send_guarded(signals.dispatcher_started, self.app, dispatcher=dispatcher)
        return self.scheduler

    def forwarder(self, dispatcher: Dispatcher) -> Forwarder | None:
        """Return what hands tasks over beside a dispatcher, if it works for queues with an engine.

        In the test kit none does, because tests run every task here.
        """
        if self.is_substituted:
            return None
        queues = forwarded_queues(self.settings.queues.values(), dispatcher.queues)
        if not queues:
            return None
        engine = CloudTasksEngine(self.settings)
        return Forwarder(self.store, engine, queues, dispatcher.id, self.tell_dead)

    def _forwarder_thread(self, dispatcher: Dispatcher) -> ForwarderThread | None:
        forwarder = self.forwarder(dispatcher)
        if forwarder is None:
            return None
        return ForwarderThread(forwarder, self.settings.poll_interval)

    def _begin(self, scheduler: Scheduler) -> None:
        """Start the threads of a dispatcher, all of them or none."""
        channel = self.wakeup_channel
        with signals_blocked_in_uwsgi():
            if channel is not None:  # first, because it can be undone: nothing is taken yet
                channel.listen(scheduler.wake)
            try:
                scheduler.start()
            except NoThreadError:
                if channel is not None:
                    channel.close()
                raise

    def stop(self, grace: float | None = None) -> int:
        """Stop this process's dispatcher, if it runs, and return how many tasks were given back.

        A concurrent call waits until the dispatcher has stopped. ``grace`` is in seconds and
        defaults to ``TASKQUEUE_GRACE_PERIOD``.
        """
        with self._stopping:
            with self._lock:
                scheduler, self.scheduler = self.scheduler, None
            return 0 if scheduler is None else self._stop(scheduler, grace)

    def retire(self) -> None:
        """Keep this process's dispatcher from taking any more tasks."""
        if (scheduler := self.scheduler) is not None:
            scheduler.dispatcher.retire()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until this process's retired dispatcher has nothing more to record.

        Waits up to ``seconds``, and returns whether that is so.
        """
        scheduler = self.scheduler
        return scheduler is None or scheduler.dispatcher.wait_idle(seconds)

    def _stop(self, scheduler: Scheduler, grace: float | None) -> int:
        if self.wakeup_channel is not None:
            self.wakeup_channel.close()
        given_back = scheduler.stop(self.settings.grace_period if grace is None else grace)
        self._stop_attempts()
        send_guarded(signals.dispatcher_stopped, self.app, dispatcher=scheduler.dispatcher)
        return given_back

    def drain(self, *, last: bool = False, **options: Unpack[DispatcherOptions]) -> int:
        """Attempt due tasks in this process until none is left.

        Returns how many attempts ended. See `Dispatcher.drain` about ``last``.
        """
        self.is_attended = True
        with self.making_way():
            dispatcher, attempts = self.dispatcher(**options)
            self._enter()
            self.cron.tick()
            registration = Registration(
                self.store, dispatcher, options.get("transport") or self.settings.transport
            )
            if not self.store.database.in_memory:
                registration.enter()
                dispatcher.pause_confirmations.beat = registration.beat
            forwarder = self.forwarder(dispatcher)
            try:
                if forwarder is not None:
                    forwarder.forward()
                while (next_in := dispatcher.drain(last=last)) is not None and next_in <= 0:
                    pass
                if forwarder is not None:
                    forwarder.forward()
                    forwarder.look_after()
            finally:
                dispatcher.stop(self.settings.grace_period)
                attempts.close()
                if registration.is_known:
                    registration.leave()
            return dispatcher.ok + dispatcher.failed

    def after_fork(self) -> None:
        """Forget the dispatcher in a forked child, because its threads are the parent's."""
        self._lock, self._stopping = threading.Lock(), threading.Lock()
        if self.scheduler is not None:
            self.scheduler = None
            self._reset_attempts()
        super().after_fork()

    def _enter(self) -> None:
        """Check that the tables are ours and ready, before tasks are taken."""
        self.store.ownership.check()
        self.store.ensure_queues()
        self.store.configure_queues()


def live_runtimes() -> list[Runtime]:
    """Return the runtimes of the applications that are set up in this process."""
    return [runtime for runtime in list(_runtimes) if runtime.is_alive]


def _nothing() -> None:
    """Do nothing."""


def _log_findings(findings: Iterable[Finding]) -> None:
    """Log each finding once per process.

    Raises `ConfigurationError` for one that is an error.
    """
    for finding in findings:
        if finding.level == "error":
            raise ConfigurationError(str(finding))
        if finding not in _logged:
            _logged.add(finding)
            _logger.log(
                logging.WARNING if finding.level == "warning" else logging.INFO, "%s", finding
            )


_logged: set[Finding] = set()
_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _after_fork() -> None:
    replace_inherited()
    for runtime in list(_runtimes):
        runtime.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
