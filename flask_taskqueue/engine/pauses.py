"""Confirmations to whoever has paused a queue that none of its tasks begins here any more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError
from ..process.logs import get_logger
from ..store import Store, Wait
from .in_flight import InFlight
from .pool import Collected, Pool

_logger = get_logger()

_APART = 0.1
"""The seconds between two looks for a question while nobody calls."""
_SOON = 0.01
"""The seconds between two looks while somebody calls, mostly because a task was added."""
_GLANCE = 0.002
_SEEN = 10.0


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
