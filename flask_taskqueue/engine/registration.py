"""Registration: the row with which a dispatcher shows that it is alive."""

from __future__ import annotations

import os
import socket
import threading
from functools import partial

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..core.version import __version__
from ..process.logs import get_logger
from ..store import DispatcherEntry, Store, Wait
from .dispatcher import Dispatcher
from .pulse import Replaced

_logger = get_logger()

_TOO_NEW = "the tables are of a later version now, whose dispatchers do the work"


class Registration:
    """The row of one dispatcher, from its start to its stop.

    People see it, and others use it to ask the dispatcher something (see `PauseConfirmations`).
    """

    def __init__(
        self, store: Store, dispatcher: Dispatcher, transport: str, replaced: Replaced | None = None
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
