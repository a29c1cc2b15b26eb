"""Added queues: those that are made, changed and deleted while the app runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ...core.errors import (
    ConfigurationError,
    ConfiguredQueueError,
    QueueAlreadyExistsError,
    TombstonedQueueError,
    UnknownQueueError,
)
from ...core.queues.rates import bucket_key
from ...core.settings.added_queue import KnownQueues, read_settings, stored_settings
from ...core.settings.queue import DAY, LIMITS, QueueSettings
from ...core.states import State
from ...core.times import duration_micros, to_datetime, utc
from ...process.logs import get_logger
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state, waits_for_key
from ..database.prepared import Prepared
from ..database.tables import Tables
from .deleted_queues import refuse_deleted

_logger = get_logger()

_BLOCKED = duration_micros(3 * DAY)
"""The microseconds for which the name of a deleted queue stays taken, as in Cloud Tasks."""


class AddedQueues:
    """A store of queues without a configuration, each method in its connection's transaction.

    Each change is one statement that leaves configured queues alone. The row of a deleted queue
    stays while its name is blocked, and as long as it has tasks that have not ended.
    """

    def __init__(self, tables: Tables, dialect: Dialect, known: KnownQueues) -> None:
        self._tables = tables
        self._queue = tables.queue
        self._now = dialect.now
        self._known = known
        self._insert = dialect.insert_missing(tables.queue).execution_options(
            preserve_rowcount=True
        )
        queue = tables.queue
        self._is_there = sa.and_(queue.c.settings.is_not(None), queue.c.deleted_at.is_(None))
        self._found = Prepared(
            sa.select(queue.c.settings, *(queue.c[limit] for limit in LIMITS)).where(
                queue.c.name == sa.bindparam("queue"), self._is_there
            )
        )

    def find(self, connection: sa.Connection, name: str) -> QueueSettings | None:
        """Return the settings of an added queue; None if there is none of this name.

        Raises `ConfigurationError` if what is stored is malformed.
        """
        row = self._found.execute(connection, {"queue": name}).one_or_none()
        return None if row is None else read_settings(name, row.settings, row._asdict())

    def now(self, connection: sa.Connection, name: str) -> QueueSettings | None:
        """Return the settings for an attempt of a task of this queue; None for the general ones.

        They are the configured ones or, for an added queue, those that its row holds now; malformed
        ones are as none, which is logged.
        """
        configured = self._known.configured.get(name)
        if configured is not None:
            return configured
        try:
            return self.find(connection, name)
        except ConfigurationError as error:
            _logger.error("%s; its tasks are attempted with the general settings", error)
            return None

    def note(self, connection: sa.Connection, name: str) -> None:
        """Note the settings of an added queue as they are now, for attempts of its tasks."""
        self._known.note(self.now(connection, name) or QueueSettings(name=name))

    def names(self, connection: sa.Connection) -> list[str]:
        """Return the names of the added queues."""
        return list(
            connection.scalars(
                sa.select(self._queue.c.name).where(self._is_there).order_by(self._queue.c.name)
            )
        )

    def all(self, connection: sa.Connection) -> list[QueueSettings]:
        """Return the settings of the added queues, as `now` does."""
        found = (self.now(connection, name) for name in self.names(connection))
        return [settings for settings in found if settings is not None]

    def add(self, connection: sa.Connection, settings: QueueSettings, origin: str) -> None:
        """Store a queue; ``origin`` says what added it.

        Raises `QueueAlreadyExistsError` if there is one, and `TombstonedQueueError` if one was
        deleted lately.
        """
        row = {
            "configured": None,
            **dict.fromkeys(("paused_at", "paused_by", "mode", "purged_at", "deleted_at")),
            "settings": stored_settings(settings),
            "origin": origin,
            **settings.limits,
        }
        if connection.execute(self._insert, {"name": settings.name, **row}).rowcount == 1:
            return
        mine = (
            self._queue.c.name == settings.name,
            self._queue.c.deleted_at < self._now - _BLOCKED,
            sa.not_(self._has_tasks()),
        )
        if connection.execute(sa.update(self._queue).where(*mine).values(row)).rowcount != 1:
            raise self._taken(connection, settings.name)

    def change(self, connection: sa.Connection, name: str, changes: Mapping[str, Any]) -> None:
        """Change some settings of a queue.

        Raises `UnknownQueueError`, and `ConfiguredQueueError` if it is a configured one.
        """
        row = self._changeable(connection, name)
        limits = {limit: changes[limit] for limit in LIMITS if limit in changes}
        others = {option: changes[option] for option in changes if option not in LIMITS}
        values: dict[str, Any] = dict(limits)
        if others:
            known = read_settings(name, row.settings, row._asdict())
            values["settings"] = stored_settings(replace(known, **others))
        if values:
            connection.execute(
                sa.update(self._queue).where(self._queue.c.name == name).values(values)
            )

    def delete(self, connection: sa.Connection, name: str) -> None:
        """Let nothing be added to a queue or taken from it any more, and block its name.

        Its tasks are cancelled by those who know of it (see `unfinished`). Raises what `change`
        raises.
        """
        self._changeable(connection, name)
        connection.execute(
            sa.update(self._queue).where(self._queue.c.name == name).values(deleted_at=self._now)
        )

    def lock_deleted(self, connection: sa.Connection, name: str) -> bool:
        """Return whether a queue is deleted, and keep it so until the transaction ends."""
        deleted = self._queue.c.name == name, self._queue.c.deleted_at.is_not(None)
        row = sa.select(self._queue.c.name).where(*deleted).with_for_update()
        return connection.scalar(row) is not None

    def unfinished(self, connection: sa.Connection) -> list[str]:
        """Return the names of deleted queues with tasks that have not ended.

        They are there while the queue is being deleted, if that was interrupted, or if they were
        stored by a transaction that began before it.
        """
        deleted = self._queue.c.deleted_at.is_not(None)
        return list(
            connection.scalars(sa.select(self._queue.c.name).where(deleted, self._has_tasks()))
        )

    def prune(self, connection: sa.Connection) -> int:
        """Forget deleted queues whose names are free again; return how many."""
        old = self._queue.c.deleted_at < self._now - _BLOCKED
        gone = connection.scalars(
            sa.select(self._queue.c.name).where(old, sa.not_(self._has_tasks()))
        ).all()
        if not gone:
            return 0
        bucket = self._tables.lock.c.lock_key
        connection.execute(
            sa.delete(self._tables.lock).where(bucket.in_([bucket_key(name) for name in gone]))
        )
        return connection.execute(
            sa.delete(self._queue).where(self._queue.c.name.in_(gone), old)
        ).rowcount

    def missing_error(
        self, connection: sa.Connection, name: str, configured: Mapping[str, QueueSettings]
    ) -> UnknownQueueError:
        """Return the error that says that there is no such queue, and which ones there are."""
        try:
            refuse_deleted(connection, self._tables, name)
        except UnknownQueueError as error:
            return error
        added = self.names(connection)
        return UnknownQueueError(
            f"there is no queue {name!r}; TASKQUEUE_QUEUES has {', '.join(sorted(configured))}"
            + (f", and {', '.join(added)} were added" if added else "")
        )

    def _changeable(self, connection: sa.Connection, name: str) -> sa.Row[Any]:
        """Return the row of an added queue, which nobody else changes until the end."""
        row = connection.execute(
            sa.select(self._queue).where(self._queue.c.name == name).with_for_update()
        ).one_or_none()
        if row is None or (row.deleted_at is not None and row.configured is None):
            raise self.missing_error(connection, name, self._known.configured)
        if row.configured is not None:
            raise configured_error(name)
        return row

    def _taken(self, connection: sa.Connection, name: str) -> QueueAlreadyExistsError:
        """Return the error that says why a queue cannot be added."""
        row = connection.execute(
            sa.select(self._queue.c.configured, self._queue.c.deleted_at).where(
                self._queue.c.name == name
            )
        ).one()
        if row.deleted_at is None:
            how = "configured" if row.configured is not None else "added"
            return QueueAlreadyExistsError(
                f"there is a queue {name!r} already, which was {how}: choose another name"
            )
        free_at = to_datetime(row.deleted_at + _BLOCKED)
        return TombstonedQueueError(
            f"a queue {name!r} was deleted at {utc(to_datetime(row.deleted_at))}: its name is free "
            f"again from {utc(free_at)}, once its last tasks are cancelled; choose another name"
        )

    def _has_tasks(self) -> sa.ColumnElement[bool]:
        """Return whether a queue has tasks that have not ended."""
        task, queue, lock = self._tables.task, self._queue, self._tables.lock
        of_queue = task.c.queue == queue.c.name
        live = (
            sa.select(task.c.id).where(is_state(task, state), of_queue).correlate(queue).exists()
            for state in (State.SCHEDULED, State.LEASED)
        )
        waiting = (
            sa.select(task.c.id)
            .select_from(lock.join(task, waits_for_key(task, lock)))
            .where(of_queue)
            .correlate(queue)
            .exists()
        )
        return sa.or_(*live, waiting)


def configured_error(name: str) -> ConfiguredQueueError:
    """Return the error that says that only the configuration changes this queue."""
    return ConfiguredQueueError(
        f"queue {name!r} is configured: change TASKQUEUE_QUEUES or queue.yaml, or its limits by "
        f"flask taskqueue configure {name}"
    )
