"""Registration: the row with which a dispatcher shows that it is alive, and is asked something."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError
from ..core.version import __version__
from ..process.logs import get_logger
from ..store import DispatcherEntry, Store, Wait
from .in_flight import InFlight
from .pool import Collected, Pool
from .pulse import Replaced

_logger = get_logger()

_TOO_NEW = "the tables are of a later version now, whose dispatchers do the work"
_APART = 0.1
"""The seconds between two looks for a question while nobody calls."""
_SOON = 0.01
"""The seconds between two looks while somebody calls, mostly because a task was added."""
_GLANCE = 0.002
_SEEN = 10.0


class Registered(Protocol):
    """What a registration says of its dispatcher."""

    id: str
    queues: tuple[str, ...] | None
    concurrency: int

    @property
    def in_flight(self) -> int:
        """The number of tasks being attempted now."""


class Registration:
    """The row of one dispatcher, from its start to its stop.

    People see it, and others use it to ask the dispatcher something (see `PauseConfirmations`).
    """

    def __init__(
        self, store: Store, dispatcher: Registered, transport: str, replaced: Replaced | None = None
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._transport = transport
        self._replaced = replaced or Replaced()
        self._beating = threading.Lock()
        self._left = False
        self.is_known: bool = False
        """Whether the row is there.

        No task may be taken before, because whoever pauses a queue asks only dispatchers that have
        a row.
        """

    def enter(self) -> None:
        """Write the row, before the dispatcher takes anything.

        Raises what `Database.transact` raises.
        """
        sighting = self._sighting()
        self._store.transact(lambda connection: self._store.dispatchers.see(connection, sighting))
        self.is_known = True

    def beat(self) -> str | None:
        """Update the row; return why the dispatcher must not use the tables any more, if so.

        The dispatcher that started last restores the limits of its queues if another release had
        configured them differently. If the database refuses, the next beat tries again.
        """
        with self._beating:
            if self._left:
                return None
            sighting = self._sighting()

            def see(connection: sa.Connection) -> str | None:
                found = self._store.ownership.hold(connection)
                if found is not None:
                    return str(found)
                self._store.dispatchers.see(connection, sighting)
                stamp = self._store.database.schema.stamp(connection)
                return _TOO_NEW if stamp is not None and stamp.is_too_new else None

            try:
                why = self._store.transact(see, tries=1, wait=Wait.BRIEFLY)
                if why is None:
                    self.is_known = True
                    self._store.configure_queues(self._dispatcher.id)
                return why
            except (TaskQueueError, sa.exc.DBAPIError) as error:
                _logger.debug("the dispatcher could not say that it is there: %s", error)
                return None

    def leave(self) -> None:
        """Remove the row, because the dispatcher has stopped."""
        with self._beating:
            self._left = True
            try:
                forget = partial(self._store.dispatchers.remove, dispatcher_id=self._dispatcher.id)
                self._store.transact(forget, tries=1, wait=Wait.BRIEFLY)
            except (TaskQueueError, sa.exc.DBAPIError) as error:
                _logger.debug("the dispatcher could not say that it has stopped: %s", error)

    def _sighting(self) -> DispatcherEntry:
        dispatcher = self._dispatcher
        return DispatcherEntry(
            id=dispatcher.id,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            version=__version__,
            transport=self._transport,
            queues=dispatcher.queues,
            concurrency=dispatcher.concurrency,
            in_flight=dispatcher.in_flight,
            replaced=self._replaced.number,
            replaced_for=self._replaced.why,
            fingerprint=self._store.ownership.fingerprint,
        )


class PauseConfirmations:
    """The confirmations of one dispatcher, given by its drain between turns.

    What the drain claims next, it claims after it has seen the question, and so the pause. A
    question is answered when everything of the paused queues that was leased ahead has been given
    back, and what a thread had already taken up has begun. Looking for a question is an occasional
    query, however many tasks there are.
    """

    def __init__(self, store: Store, in_flight: InFlight, dispatcher_id: str) -> None:
        self._store = store
        self._in_flight = in_flight
        self._id = dispatcher_id
        self._looked_at = -math.inf
        self._calls = 0
        self._called = False
        self._question: int | None = None
        self._closed: Collection[str] = ()
        self._seen_at = time.monotonic()
        self.beat: Callable[[], object] | None = None
        """The function that reports that the dispatcher is alive, where no scheduler does."""

    def next_in(self) -> float:
        """Return the seconds until there is something to see to; infinite when there is nothing."""
        if self._question is not None:
            return _GLANCE
        return (
            max(_GLANCE, self._looked_at + _SOON - time.monotonic()) if self._called else math.inf
        )

    def see_to(self, pool: Pool, *, calls: int) -> list[Collected]:
        """Look for a question when it is time, or answer the one found; return what is recalled.

        Deliveries are recalled when a question is found, to be given back before it is answered.
        """
        now = time.monotonic()
        if self.beat is not None and now - self._seen_at > _SEEN:
            self._seen_at = now
            self.beat()
        self._called |= calls != self._calls
        self._calls = calls
        if self._question is None:
            if now - self._looked_at < (_SOON if self._called else _APART):
                return []
            self._looked_at, self._called = now, False
            self._look()
            return [] if self._question is None else pool.recall(self._closed)
        if not any(self._may_begin(delivery) for delivery in self._in_flight):
            self._answer(self._question)
        return []

    def _look(self) -> None:
        """Find a question and the queues that it is about.

        The order matters, because the question is asked after the queues were paused.
        """
        try:
            with self._store.reading() as reader:
                self._question = self._store.dispatchers.question(reader, self._id)
                if self._question is not None:
                    self._closed = self._store.queues.closed(reader)
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            self._question = None
            _logger.debug("the dispatcher could not look whether queues were paused: %s", error)

    def _may_begin(self, delivery: Delivery) -> bool:
        """Return whether a delivery of a paused queue may still begin.

        That is so while its lease is not given back yet, or its view is about to be called.
        """
        return delivery.record.queue in self._closed and not (delivery.entered or delivery.over)

    def _answer(self, number: int) -> None:
        try:
            self._store.transact(
                lambda connection: self._store.dispatchers.answer(connection, self._id, number),
                wait=Wait.BRIEFLY,
            )
            self._question = None
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            _logger.debug(
                "the dispatcher could not say that it begins nothing of paused queues: %s", error
            )
