"""Presence: that a dispatcher is there, said to all who look at the database."""

from __future__ import annotations

import logging
import os
import socket
import threading

import sqlalchemy as sa

from .._version import __version__
from ..core.errors import TaskQueueError
from ..store import Sighting, Stamp, Store
from .dispatcher import Dispatcher

logger = logging.getLogger("flask_taskqueue")


class Presence:
    """The row of one dispatcher, from its start to its stop. Nothing depends on it but what people see."""

    def __init__(self, store: Store, dispatcher: Dispatcher, transport: str) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._transport = transport
        self._beating = threading.Lock()
        self._left = False

    def beat(self) -> bool:
        """Say that it is there; whether the tables still are ones that it may work with.

        A database that does not take it is asked again at the next beat.
        """
        with self._beating:
            if self._left:
                return True
            sighting = self._sighting()

            def see(connection: sa.Connection) -> Stamp | None:
                self._store.dispatchers.see(connection, sighting)
                return self._store.database.schema.stamp(connection)

            try:
                stamp = self._store.transact(see, tries=1)
            except (TaskQueueError, sa.exc.DBAPIError) as error:
                logger.debug("the dispatcher could not say that it is there: %s", error)
                return True
            return stamp is None or not stamp.is_too_new

    def leave(self) -> None:
        """It has stopped."""
        with self._beating:
            self._left = True
            try:
                self._store.transact(lambda connection: self._store.dispatchers.remove(connection, self._dispatcher.id), tries=1)
            except (TaskQueueError, sa.exc.DBAPIError) as error:
                logger.debug("the dispatcher could not say that it has stopped: %s", error)

    def _sighting(self) -> Sighting:
        dispatcher = self._dispatcher
        return Sighting(
            id=dispatcher.id,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            version=__version__,
            transport=self._transport,
            queues=dispatcher.queues,
            concurrency=dispatcher.concurrency,
            in_flight=dispatcher.in_flight,
        )
