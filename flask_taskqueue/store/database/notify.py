"""Notifications through the database that tell dispatchers anywhere that a task was added."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa

from ...process.logs import get_logger
from ...process.threads import NoThreadError, signals_blocked_in_uwsgi, start_thread
from ...process.tracing import untraced
from .database import Database
from .dialects import ListenNotify

_logger = get_logger()

_APART = 0.005
_IDLE = 1.0
_TRY_AGAIN = 5.0


class Notifications:
    """A sender and listener of notifications on a database that has them (LISTEN and NOTIFY).

    A notification may be lost; polling then finds the task. They are sent from a thread, outside of
    the transaction that adds the task, because within it they would make all commits wait for each
    other. However many tasks are added, few notifications are sent.
    """

    def __init__(self, database: Database, statements: ListenNotify) -> None:
        self._database = database
        self._statements = statements
        self._channel = f"{database.tables.task.name}_added"
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._sends = False
        """Whether there is a thread that sends."""

    @classmethod
    def of(cls, database: Database) -> Notifications | None:
        """Return the notifications of a database, or None if it or its driver has none."""
        statements = database.dialect.notifications(database.engine)
        return None if statements is None else cls(database, statements)

    def ring(self) -> None:
        """Send a notification soon. Never waits, never raises."""
        self._wanted.set()
        with self._starting:
            if not self._sends:
                try:
                    with signals_blocked_in_uwsgi():
                        start_thread(self._send_wanted, name="taskqueue-notify")
                except NoThreadError as error:  # the task is stored, and seen by polling
                    _logger.warning("dispatchers elsewhere are not notified: %s", error)
                    return
                atexit.register(self._send_last)
                self._sends = True

    def listen(self, wake: Callable[[], object]) -> bool:
        """Call ``wake`` at each notification, from a thread that holds a connection of its own.

        Raises `NoThreadError`.
        """
        self._closed = threading.Event()
        start_thread(self._listen, wake, self._closed, name="taskqueue-listen")
        return True

    def is_heard(self) -> bool:
        """Return whether notifications reach this process, which may take some seconds.

        Raises DBAPIError.
        """
        return self._statements.hears(self._connection, self._channel)

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()

    def reset(self) -> None:
        """Begin anew in a forked child, where the threads are gone."""
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._sends = False

    def _send_wanted(self) -> None:
        """Send what is due, in a thread that ends after a second without anything to send."""
        wanted, starting = self._wanted, self._starting
        pause = threading.Event()
        while True:
            try:
                with self._connection() as connection:
                    while wanted.wait(_IDLE):
                        wanted.clear()
                        self._statements.notify(connection, self._channel)
                        pause.wait(_APART)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody else sends then
                _logger.debug("dispatchers elsewhere are not notified now: %s", error)
                pause.wait(_TRY_AGAIN)
            with starting:
                if not wanted.is_set():
                    self._sends = False
                    atexit.unregister(self._send_last)
                    return

    def _send_last(self) -> None:
        """Send at exit the notification that a short program's thread did not get to."""
        if self._wanted.is_set():
            with suppress(Exception), self._connection() as connection:
                self._statements.notify(connection, self._channel)

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        """Yield a connection that is closed after use instead of given back.

        It may have a subscription, or the pool may be gone.
        """
        with (
            untraced(),
            self._database.engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            ) as connection,
        ):
            connection.detach()
            driver: Any = connection.connection.dbapi_connection
            try:
                yield connection
            except sa.exc.DBAPIError:
                connection.invalidate()
                driver.close()  # it has no pool that would close it
                raise

    def _listen(self, wake: Callable[[], object], closed: threading.Event) -> None:
        while not closed.is_set():
            try:
                if not self.is_heard():
                    _logger.warning(
                        "notifications do not reach this process, by way of a pooler in "
                        "transaction mode say: what is added in other "
                        "processes is seen by polling, after TASKQUEUE_POLL_INTERVAL at most"
                    )
                    return
                with self._connection() as connection:
                    self._statements.listen(connection, self._channel, wake, closed)
            except Exception as error:  # noqa: BLE001 - it would never listen again
                _logger.debug(
                    "not listening, tasks of other processes are seen by polling: %s", error
                )
                closed.wait(_TRY_AGAIN)
