"""What one application owns: ``app.extensions["taskqueue"]``."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from flask import Flask

from . import sessions
from .binding import Binding
from .core import signals
from .core.diagnosis.finding import Finding
from .core.errors import BadTransactionStateError, ConfigurationError, TaskQueueError
from .core.ids import dispatcher_id
from .core.ownership import Application
from .core.record import Record
from .core.security.encryption import Vault
from .core.security.targets import Targets
from .core.settings.app import Settings
from .engine.attempt import Attempts, Keys, Routes
from .engine.cron import Cron, Find
from .engine.dispatcher import Dispatcher
from .engine.maintenance import Retention, carry_on, prune, sweep
from .engine.registration import Presence
from .engine.routes import find_routes
from .engine.scheduler import Scheduler
from .engine.wakeup_socket import Bell
from .logs import log_attempt
from .process.threads import leaving_signals
from .store import Database, Notices, Result, Store, is_in_memory, replace_inherited

logger = logging.getLogger("flask_taskqueue")


class Runtime:
    """The queue of one application: its settings, its store and, where one runs, its dispatcher."""

    def __init__(self, app: Flask, settings: Settings, binding: Binding) -> None:
        self.settings = settings
        self.targets = Targets.of(settings)
        self.vault = Vault(settings.encryption_keys)
        self.binding = binding
        self.scheduler: Scheduler | None = None
        self.is_attended = False
        """Whether this process sees to tasks, or is about to, or it is known that somebody
        does; then nobody need ask.
        """
        self.find_schedules: Find = lambda _: ()
        self._app = weakref.ref(app)
        self._lock = threading.Lock()
        self._stopping = threading.Lock()
        _runtimes.add(self)

    @property
    def app(self) -> Flask:
        """The application."""
        app = self._app()
        if app is None:
            raise RuntimeError("the application of this task queue is gone")
        return app

    @cached_property
    def store(self) -> Store:
        """The store, opened at first use: the database need not be there before."""
        return self.make_store(self.binding.open(self.app, self.settings))

    def make_store(self, database: Database) -> Store:
        """A store on this database, with these settings."""
        if database.dialect.locks_by_writing and not is_in_memory(database.engine.url):
            database.around = lambda: sessions.making_way(database.file)
        keep, application = (
            self.settings.keep_attempts,
            None if database.in_memory else self.application,
        )
        return Store(
            database,
            self.settings.queues.values(),
            keep_attempts=keep,
            vault=self.vault,
            application=application,
        )

    def see_queues(self) -> None:
        """Have each configured queue its row before they are looked at; not now if the caller's
        transaction holds the only write lock.
        """
        with suppress(BadTransactionStateError):
            self.store.see_queues()

    def application(self) -> Application:
        """As which the tables know the application; without a secret they cannot."""
        try:
            return Application(self.app.name, self.keys.fingerprints)
        except ConfigurationError:
            return Application(self.app.name, ())

    @cached_property
    def cron(self) -> Cron:
        """What sees to the schedules that the application declares."""
        return Cron(lambda: self.store, lambda known: self.find_schedules(known), self._fired)

    @cached_property
    def wakeup_channel(self) -> Bell | Notices | None:
        """What tells the dispatchers of other processes of new tasks, and this process's of
        theirs.
        """
        database = self.store.database
        if database.in_memory or not self.settings.notify:
            return None
        if Notices.serve(database):
            return Notices(database)
        url = database.engine.url
        place = (
            os.path.realpath(url.database or "")
            if database.dialect.clock_is_local
            else f"{url.host}:{url.port}/{url.database}"
        )
        return Bell(f"{place} {database.tables.task.name}")

    @cached_property
    def keys(self) -> Keys:
        """What deliveries are signed with. Raises `ConfigurationError` without a secret."""
        return Keys.of(self.secrets)

    @property
    def secrets(self) -> list[str | bytes]:
        """What every key is derived from, newest first. Raises `ConfigurationError` if there is
        none.
        """
        config = self.app.config
        given = self.settings.secret or config.get("SECRET_KEY")
        if not given:
            raise ConfigurationError(
                "deliveries are signed: set SECRET_KEY or TASKQUEUE_SECRET to a random text "
                "of at least 16 characters"
            )
        fallbacks = config.get("SECRET_KEY_FALLBACKS") or []
        return [given] if self.settings.secret else [given, *fallbacks]

    def dispatcher(
        self,
        *,
        base_url: str | None = None,
        transport: str | None = None,
        concurrency: int | None = None,
        queues: Collection[str] | None = None,
        identity: str | None = None,
        renewed: Callable[[], object] = lambda: None,
    ) -> tuple[Dispatcher, Attempts]:
        """A dispatcher, not yet begun, and what makes its attempts. Arguments override the
        settings.

        ``renewed`` is called whenever it renews its leases.

        Raises `TablesTooNewError` where only newer ones may work, and `ConfigurationError` where
        the application adds elsewhere.
        """
        self.store.database.refuse_unfit()
        with nullcontext() if sessions.is_current(self.app) else self.app.app_context():
            self.binding.refuse_elsewhere(self.store)
        settings = self.settings
        routes = self.routes(base_url, transport or settings.transport)
        attempts = Attempts(settings, self.targets, routes, self.keys, self.vault, self.begun)
        dispatcher = Dispatcher(
            self.store,
            attempts,
            dispatcher_id=identity or dispatcher_id(),
            concurrency=concurrency or settings.concurrency,
            lease=settings.lease,
            poll_interval=settings.poll_interval,
            observe=self.observe,
            queues=queues,
            renewed=renewed,
        )
        return dispatcher, attempts

    def start(self, base_url: str | None = None, **options: Any) -> Scheduler:
        """Start this process's dispatcher; harmless when it runs already."""
        with self._lock:
            if self.scheduler is not None:
                return self.scheduler
            _heed(self.store.database.findings())
            self._enter()
            dispatcher, attempts = self.dispatcher(base_url=base_url, **options)
            presence = Presence(
                self.store, dispatcher, options.get("transport") or self.settings.transport
            )
            self.scheduler = Scheduler(
                dispatcher,
                self.cron,
                presence,
                poll_interval=self.settings.poll_interval,
                lease=self.settings.lease,
                sweep=self.sweep,
                carry_on=lambda: carry_on(self.store, self.tell_changed),
            )
            self._stop_attempts = attempts.close
            self._reset_attempts = attempts.reset
            with leaving_signals():
                self.scheduler.start()
                if self.wakeup_channel is not None:
                    self.wakeup_channel.listen(self.scheduler.look)
        signals.dispatcher_started.send(self.app, dispatcher=dispatcher)
        return self.scheduler

    def stop(self, grace: float | None = None) -> int:
        """Stop this process's dispatcher, if it runs; how many tasks were given back. Who asks
        meanwhile waits until it has stopped.
        """
        with self._stopping:
            with self._lock:
                scheduler, self.scheduler = self.scheduler, None
            return 0 if scheduler is None else self._stop(scheduler, grace)

    def retire(self) -> None:
        """Have this process's dispatcher take nothing more."""
        if (scheduler := self.scheduler) is not None:
            scheduler.dispatcher.retire()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until this process's retired dispatcher has nothing more to record, up to so
        many seconds; whether that is so.
        """
        scheduler = self.scheduler
        return scheduler is None or scheduler.dispatcher.wait_idle(seconds)

    def _stop(self, scheduler: Scheduler, grace: float | None) -> int:
        if self.wakeup_channel is not None:
            self.wakeup_channel.close()
        given_back = scheduler.stop(self.settings.grace_period if grace is None else grace)
        self._stop_attempts()
        signals.dispatcher_stopped.send(self.app, dispatcher=scheduler.dispatcher)
        return given_back

    def drain(self, **options: Any) -> int:
        """Attempt what is due in this process, until nothing is; how many attempts ended."""
        self.is_attended = True
        with self.making_way():
            dispatcher, attempts = self.dispatcher(**options)
            self._enter()
            self.cron.tick()
            presence = Presence(
                self.store, dispatcher, options.get("transport") or self.settings.transport
            )
            if not self.store.database.in_memory:
                presence.enter()
                dispatcher.answers.beat = presence.beat
            try:
                while (next_in := dispatcher.drain()) is not None and next_in <= 0:
                    pass
            finally:
                dispatcher.stop(self.settings.grace_period)
                attempts.close()
                if presence.is_known:
                    presence.leave()
            return dispatcher.ok + dispatcher.failed

    def making_way(self) -> AbstractContextManager[object]:
        """Within this, where there is one writer only, the caller's session is not it.

        Raises `BadTransactionStateError` if it holds changes, for which others would wait.
        """
        return self.store.database.around()

    def wake(self) -> None:
        """Something may be due: tell this process's dispatcher, and those of others."""
        if self.scheduler is not None:
            self.scheduler.wake()
        if self.wakeup_channel is not None:
            self.wakeup_channel.ring()

    def notify_dispatchers(self) -> None:
        """Have every dispatcher look, of this process and others: something was asked of them."""
        if self.scheduler is not None:
            self.scheduler.look()
        if self.wakeup_channel is not None:
            self.wakeup_channel.ring()

    def release_waiting(self) -> None:
        """Let go what waits for places that became free; if that fails now, the next heartbeat
        of any dispatcher does it.
        """
        try:
            self.store.let_go()
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            logger.info("what waits for a place is let go by the next heartbeat: %s", error)
        self.wake()

    def sweep(self) -> int:
        """Mend, and forget what has been kept long enough; how many tasks."""
        return sweep(self.store, Retention.of(self.settings))

    def prune(self, *, keep: float | None = None) -> Iterator[int]:
        """Forget what has been kept long enough, or ended more than ``keep`` seconds ago; how
        many tasks by each small transaction.
        """
        self.store.ensure_queues()
        return prune(self.store, Retention.of(self.settings, keep=keep))

    def after_fork(self) -> None:
        """In a forked child: threads are gone, connections are the parent's."""
        self._lock, self._stopping = threading.Lock(), threading.Lock()
        self.is_attended = False
        if self.scheduler is not None:
            self.scheduler = None
            self._reset_attempts()
        if "store" in self.__dict__:
            self.store.database.reset()
        self.binding.reset(self._app())
        channel = self.__dict__.get("wakeup_channel")
        if channel is not None:
            channel.reset()

    def routes(self, base_url: str | None, transport: str) -> Routes:
        """Where deliveries go. Raises `ConfigurationError` when the http transport cannot know
        it.
        """
        return find_routes(self.app, self.settings, self.targets, base_url, transport)

    def _enter(self) -> None:
        """Before tasks are taken: see that the tables are ours now, and ready."""
        self.store.ownership.check()
        self.store.ensure_queues()

    def _fired(self, schedule: str, added: int) -> None:
        signals.schedule_fired.send(self.app, schedule=schedule, added=added)

    def begun(self, record: Record) -> None:
        """Send the signal of an attempt that begins; where nobody listens it costs next to
        nothing.
        """
        if signals.attempt_started.receivers:
            signals.attempt_started.send(self.app, record=record)

    def tell_changed(self, action: str, changed: int) -> None:
        """Send the signal of a change of many tasks, if it changed any."""
        if changed:
            signals.tasks_changed.send(self.app, action=action, changed=changed)

    def observe(self, result: Result, lost: bool) -> None:
        """Log an attempt that is recorded, and send its signals; where nobody listens that
        costs next to nothing.
        """
        log_attempt(result, lost)
        outcome = result.outcome
        if signals.attempt_finished.receivers:
            signals.attempt_finished.send(
                self.app, record=result.record, outcome=outcome, duration=result.duration, lost=lost
            )
        if lost or not outcome.state.is_finished:
            return
        signal = signals.task_dead if outcome.state == "dead" else signals.task_succeeded
        if signal.receivers:
            signal.send(self.app, record=result.record, outcome=outcome)


def _heed(findings: Iterable[Finding]) -> None:
    """Tell, once per process; refuse, with an error."""
    for finding in findings:
        if finding.level == "error":
            raise ConfigurationError(str(finding))
        if finding not in _told:
            _told.add(finding)
            logger.log(
                logging.WARNING if finding.level == "warning" else logging.INFO, "%s", finding
            )


_told: set[Finding] = set()
_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _after_fork() -> None:
    replace_inherited()
    for runtime in list(_runtimes):
        runtime.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
