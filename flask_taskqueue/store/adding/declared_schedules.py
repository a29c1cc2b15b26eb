"""Schedules that code declares, in the rows that all releases of the app share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ...core.errors import DecryptionError
from ...core.security.encryption import Encryption
from ...core.times import to_micros
from ..database.dialects import Dialect
from ..database.tables import Tables
from .schedule_definition import DECLARED, ScheduleDefinition
from .schedules import Schedules


class DeclaredSchedules:
    """A store of schedules with a declaration, each method in its connection's transaction.

    A row holds the declaration of whichever release stored it last. Only the code says what a
    dispatcher fires, so each dispatcher stores its own declaration again before it fires.
    """

    def __init__(
        self, tables: Tables, dialect: Dialect, schedules: Schedules, encryption: Encryption
    ) -> None:
        self._schedule = tables.schedule
        self._schedules = schedules
        self._encryption = encryption
        self._insert = dialect.insert_missing(tables.schedule)

    def outdated(
        self, rows: Mapping[str, sa.Row[Any]], declared: Collection[ScheduleDefinition]
    ) -> list[ScheduleDefinition]:
        """Return the schedules that have no row yet, or a row that is declared differently."""
        return [
            definition
            for definition in declared
            if definition.name not in rows or self._differs(rows[definition.name], definition)
        ]

    def introduce(
        self, connection: sa.Connection, definition: ScheduleDefinition, next_at: datetime
    ) -> None:
        """Store a schedule that has no row yet; leave any other as it is."""
        row = {"name": definition.name, "next_at": to_micros(next_at), **self._values(definition)}
        connection.execute(self._insert, row)

    def declare(
        self, connection: sa.Connection, definition: ScheduleDefinition, next_at: datetime
    ) -> None:
        """Store a schedule as it is declared now.

        If the text or the time zone has changed, or if it could not fire before, it fires next at
        ``next_at``. One that was added while the app runs is the code's from now on.
        """
        self.introduce(connection, definition, next_at)
        schedule, values = self._schedule, self._values(definition)
        mine = schedule.c.name == definition.name
        other = sa.or_(
            schedule.c.text != definition.text,
            schedule.c.timezone != definition.timezone,
            schedule.c.last_error.is_not(None),
        )
        restarted = {"next_at": to_micros(next_at), "last_error": None}
        connection.execute(sa.update(schedule).where(mine, other).values(restarted))
        connection.execute(sa.update(schedule).where(mine).values(values))

    def fire(
        self,
        connection: sa.Connection,
        definition: ScheduleDefinition,
        now: datetime,
        next_at: datetime,
    ) -> int:
        """Fire a schedule as it is declared here, if it is due; return how many tasks were added.

        If the row holds another declaration, this one is stored first, with ``next_at``.
        """
        mine = sa.select(self._schedule).where(self._schedule.c.name == definition.name)
        row = connection.execute(mine.with_for_update(skip_locked=True)).one_or_none()
        if row is None:
            return 0
        if self._differs(row, definition):
            self.declare(connection, definition, next_at)
        return self._schedules.fire(connection, definition.name, now)

    def _values(self, definition: ScheduleDefinition) -> dict[str, Any]:
        return {field: getattr(definition, field) for field in DECLARED} | {
            "task": self._encryption.encrypt_text(definition.task),
            "added_at": None,
        }

    def _differs(self, row: sa.Row[Any], definition: ScheduleDefinition) -> bool:
        """Return whether a stored schedule differs from its declaration, or cannot be read."""
        try:
            stored = {field: getattr(row, field) for field in DECLARED} | {
                "task": self._encryption.decrypt_text(row.task)
            }
        except DecryptionError:
            return True
        return row.added_at is not None or any(
            stored[field] != getattr(definition, field) for field in DECLARED
        )
