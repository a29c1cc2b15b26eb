"""The lookup of queues: what is configured, and what was added while the app ran."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from flask import has_app_context

from ..core.errors import InvalidQueueNameError, UnknownQueueError
from ..core.names import check_queue_name
from ..core.settings.queue import QueueSettings
from . import sessions
from .resources import Resources


class QueueLookup:
    """A finder of the settings of queues, for one call that adds tasks or works on queues.

    A configured queue costs nothing. Of an added one, the row is read, once per lookup: in the
    session's transaction if the call joins it, so that a queue which was added in it is found, and
    otherwise as it is committed. So whatever process has added, changed or deleted a queue, the
    next call in any other knows.
    """

    def __init__(self, resources: Resources, transactional: bool | None = None) -> None:
        self._resources = resources
        self._transactional = transactional
        self._found: dict[str, QueueSettings] = {}

    def __call__(self, name: str) -> QueueSettings:
        """Return the settings of a queue.

        Raises `UnknownQueueError`, and `ConfigurationError` if what is stored is malformed.
        """
        configured = self._resources.settings.queues
        known = configured.get(name) or self._found.get(name)
        if known is None:
            try:
                check_queue_name(name)
            except InvalidQueueNameError as error:
                raise UnknownQueueError(
                    f"there is no queue {name!r}; TASKQUEUE_QUEUES has "
                    f"{', '.join(sorted(configured))}"
                ) from error
            known = self._found[name] = self._in_session(name) or self._committed(name)
        return known

    def _in_session(self, name: str) -> QueueSettings | None:
        """Return what the session's transaction sees of a queue, if the call may join it."""
        with session_view(self._resources, self._transactional) as connection:
            if connection is None:
                return None
            return self._resources.store.added_queues.find(connection, name)

    def _committed(self, name: str) -> QueueSettings:
        store = self._resources.store

        def find(reader: sa.Connection) -> QueueSettings:
            found = store.added_queues.find(reader, name)
            if found is None:
                raise store.added_queues.missing_error(
                    reader, name, self._resources.settings.queues
                )
            return found

        return store.read(find)


@contextmanager
def session_view(
    resources: Resources, transactional: bool | None
) -> Iterator[sa.Connection | None]:
    """Yield the session's connection, which sees what its transaction has changed.

    Yields None if a call with this ``transactional`` does not join that transaction, or cannot:
    the change that was to join it then says why.
    """
    binding, database = resources.binding, resources.store.database
    if transactional is False or binding.db is None or not has_app_context():
        yield None
        return
    session = binding.session()
    if not (transactional or sessions.has_changes(session)):
        yield None
        return
    try:
        with database.joined():
            connection = sessions.connection_of(session, binding.bound)
    except sa.exc.InvalidRequestError:
        yield None
        return
    with database.joined():
        database.open_within(connection)
        yield connection
