"""The resources that one application's queue works with."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

import sqlalchemy as sa
from flask import Flask

from ..core import signals
from ..core.delivery.outcome import Death
from ..core.errors import BadTransactionStateError, ConfigurationError, TaskQueueError
from ..core.ownership import Application
from ..core.security.encryption import Encryption
from ..core.security.targets import Targets
from ..core.settings.app import Settings
from ..core.settings.queue import QueueSettings
from ..core.states import Record
from ..engine.cron import Cron
from ..engine.maintenance import Retention, prune, sweep
from ..engine.oidc_tokens import find_oidc_tokens
from ..engine.outgoing_requests import Keys, Routes, find_routes
from ..engine.scheduler import Scheduler
from ..engine.wakeups import WakeupSocket
from ..process.logs import get_logger
from ..process.threads import built_once
from ..store import AttemptResult, Database, Kept, Notifications, Store, is_in_memory
from . import one_writer
from .binding import Binding
from .reports import report_attempt, send_guarded
from .task_making import FindsSchedules, MakesTasks, MakeTask

_logger = get_logger()


class Resources:
    """The settings, the store and the keys of one application's queue, and its signals.

    ``tasks`` makes tasks, and ``find_schedules`` finds the schedules that the application declares.
    """

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        targets: Targets,
        binding: Binding,
        tasks: MakesTasks,
        find_schedules: FindsSchedules,
    ) -> None:
        self.settings = settings
        self.targets = targets
        self.encryption: Encryption = Encryption(settings.encryption_keys)
        self.binding = binding
        self.scheduler: Scheduler | None = None
        """The jobs of this process's dispatcher, while one runs."""
        self.is_attended: bool = False
        """Whether tasks are known to be attempted, by this process or another, now or soon."""
        self.new_task: MakeTask = tasks.new_task
        self.new_task_of = tasks.new_task_of
        self.find_schedules = find_schedules
        self._app = weakref.ref(app)
        self._test_database: Database | None = None
        self._on_wake: Callable[[], object] | None = None

    @property
    def app(self) -> Flask:
        """The application."""
        app = self._app()
        if app is None:
            raise RuntimeError("the application of this task queue is gone")
        return app

    @property
    def is_alive(self) -> bool:
        """Whether the application is still there."""
        return self._app() is not None

    @built_once
    def store(self) -> Store:
        """Open the store at its first use, so that the database need not exist earlier."""
        database = self._test_database or self.binding.open(self.app, self.settings)
        if database.dialect.locks_by_writing and not is_in_memory(database.engine.url):
            database.around = lambda: one_writer.making_way(database.file)
        return Store(
            database,
            self._queues(),
            keep_attempts=self.settings.keep_attempts,
            max_body=self.settings.max_body,
            encryption=self.encryption,
            application=None if database.in_memory else self.application,
        )

    @property
    def is_substituted(self) -> bool:
        """Whether the test kit has put its database in place of the application's."""
        return self._test_database is not None

    @property
    def test_connection(self) -> sa.Connection | None:
        """The connection on which a test of the test kit, which rolls all back, has everything."""
        return self.binding.isolation(self.app)() if self.is_substituted else None

    def _queues(self) -> list[QueueSettings]:
        """Return the configured queues; in the test kit, where all tasks run here, no engines."""
        queues = self.settings.queues.values()
        if not self.is_substituted:
            return list(queues)
        return [replace(queue, engine=None) for queue in queues]

    def substitute(
        self,
        database: Database | None = None,
        on_wake: Callable[[], object] | None = None,
    ) -> None:
        """Close the store, and open this database in its place at the next use.

        ``on_wake`` is then called instead of waking dispatchers. The test kit plugs in here.
        Without arguments, the application's own database and dispatchers are used again.
        """
        if "store" in self.__dict__:
            self.store.database.close()
        for name in ("store", "cron", "wakeup_channel"):
            self.__dict__.pop(name, None)
        self._test_database, self._on_wake = database, on_wake

    def see_queues(self) -> None:
        """Make sure that each configured queue has its row, before the queues are looked at.

        This is skipped if the caller's transaction holds the only write lock.
        """
        with suppress(BadTransactionStateError):
            self.store.see_queues()

    def application(self) -> Application:
        """Return the identity by which the tables know the application.

        Without a secret it has no fingerprints, so the tables cannot recognise the application.
        """
        try:
            return Application(self.app.name, self.keys.fingerprints)
        except ConfigurationError:
            return Application(self.app.name, ())

    @built_once
    def cron(self) -> Cron:
        """Return the object that looks after the schedules the application declares."""
        return Cron(lambda: self.store, self.find_schedules, self._fired)

    @built_once
    def wakeup_channel(self) -> WakeupSocket | Notifications | None:
        """Return the channel for news of new tasks, to and from the dispatchers of other processes.

        None if the database is in memory or ``TASKQUEUE_NOTIFY`` is off.
        """
        database = self.store.database
        if database.in_memory or not self.settings.notify:
            return None
        if (notifications := Notifications.of(database)) is not None:
            return notifications
        url = database.engine.url
        place = (
            os.path.realpath(url.database or "")
            if database.dialect.clock_is_local
            else f"{url.host}:{url.port}/{url.database}"
        )
        return WakeupSocket(f"{place} {database.tables.task.name}")

    @built_once
    def keys(self) -> Keys:
        """Return the keys with which deliveries are signed.

        Raises `ConfigurationError` without a secret.
        """
        return Keys.of(self.secrets, find_oidc_tokens(self.app, self.settings))

    @property
    def secrets(self) -> list[str | bytes]:
        """The secrets from which every key is derived, newest first.

        Raises `ConfigurationError` if there is none.
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

    def making_way(self) -> AbstractContextManager[object]:
        """Return a context in which the caller can wait for others.

        On databases that have one writer at a time, the caller's session makes way for it there.
        Raises `BadTransactionStateError` if others might have to wait for the session's changes.
        """
        self.refuse_to_wait(Kept.ROWS)
        return self.store.database.around()

    def refuse_to_wait(self, needed: Kept, *, joins: bool = False) -> None:
        """Raise `BadTransactionStateError` if the caller could wait for a transaction of its own.

        See `one_writer.refuse_to_wait`.
        """
        one_writer.refuse_to_wait(
            self.store.database,
            needed,
            lambda: self.test_connection,
            joins=joins,
        )

    def wake(self) -> None:
        """Tell the dispatchers of this process and of others that something may be due."""
        if self._on_wake is not None:
            self._on_wake()
        else:
            self.notify_dispatchers()

    def notify_dispatchers(self) -> None:
        """Tell the dispatchers of this process and of others to look for instructions."""
        if self.scheduler is not None:
            self.scheduler.wake()
        if self.wakeup_channel is not None:
            self.wakeup_channel.ring()

    def release_waiting(self) -> None:
        """Release the tasks that wait for places which have become free.

        If that fails now, the next heartbeat of any dispatcher does it.
        """
        try:
            self.store.free_lapsed_places()
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            _logger.info("what waits for a place is let go by the next heartbeat: %s", error)
        self.wake()

    def sweep(self) -> int:
        """Repair the tables, and delete tasks that were kept long enough.

        Returns how many were deleted.
        """
        return sweep(self.store, Retention.of(self.settings))

    def prune(self, *, keep: float | None = None) -> Iterator[int]:
        """Delete what was kept long enough, yielding the number of tasks per transaction.

        With ``keep``, tasks that ended more than that many seconds ago are deleted, instead of
        those that the settings no longer keep. The transactions are small.
        """
        self.store.ensure_queues()
        return prune(self.store, Retention.of(self.settings, keep=keep))

    def after_fork(self) -> None:
        """Leave the connections to the parent, in a forked child."""
        self.is_attended = False
        if "store" in self.__dict__:
            self.store.database.reset()
        self.binding.reset(self._app())
        channel = self.__dict__.get("wakeup_channel")
        if channel is not None:
            channel.reset()

    def routes(self, base_url: str | None, transport: str) -> Routes:
        """Return where deliveries go.

        Raises `ConfigurationError` if the http transport cannot know it.
        """
        return find_routes(self.app, self.settings, self.targets, base_url, transport)

    def _fired(self, schedule: str, added: int) -> None:
        send_guarded(signals.schedule_fired, self.app, schedule=schedule, added=added)

    def begun(self, record: Record) -> None:
        """Send the signal of an attempt that begins.

        Without listeners this costs next to nothing.
        """
        if signals.attempt_started.receivers:
            signals.attempt_started.send(self.app, record=record)

    def tell_changed(self, action: str, changed: int) -> None:
        """Send the signal of a bulk change, if it changed any tasks."""
        if changed:
            send_guarded(signals.tasks_changed, self.app, action=action, changed=changed)

    def tell_dead(self, *deaths: Death) -> None:
        """Send the signals of tasks that gave up without an attempt of this process."""
        for record, outcome in deaths:
            send_guarded(signals.task_dead, self.app, record=record, outcome=outcome)

    def observe(self, result: AttemptResult, lost: bool) -> None:
        """Log a recorded attempt, and send its signals."""
        report_attempt(self.app, result, lost)
