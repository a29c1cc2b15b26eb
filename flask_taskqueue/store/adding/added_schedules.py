"""Schedules that were added while the app runs, beside those that its code declares."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ...core.errors import InvalidScheduleError
from ...core.schedules.schedule import Schedule
from ...core.security.encryption import Encryption
from ...core.times import to_micros
from ..database.dialects import Dialect
from ..database.tables import Tables
from .schedule_definition import DECLARED, ScheduleDefinition
from .schedules import Schedules


class AddedSchedules:
    """A store of schedules without a declaration, each method in its connection's transaction.

    Each change is one statement that leaves declared schedules alone.
    """

    def __init__(
        self, tables: Tables, dialect: Dialect, schedules: Schedules, encryption: Encryption
    ) -> None:
        self._schedule = tables.schedule
        self._now = dialect.now
        self._schedules = schedules
        self._encryption = encryption
        self._insert = dialect.insert_missing(tables.schedule).execution_options(
            preserve_rowcount=True
        )

    def add(self, connection: sa.Connection, definition: ScheduleDefinition) -> None:
        """Store a schedule that fires from now on.

        Raises `InvalidScheduleError` if there is one of this name.
        """
        changes = self._stored({name: getattr(definition, name) for name in DECLARED})
        text, timezone = definition.text, definition.timezone
        row = {"name": definition.name, "next_at": self._next(connection, text, timezone)}
        added = {"added_at": to_micros(self._schedules.now(connection))}
        if connection.execute(self._insert, row | changes | added).rowcount != 1:
            raise InvalidScheduleError(
                f"there is a schedule named {definition.name!r} already: change that, or choose "
                "another name"
            )

    def change(self, connection: sa.Connection, name: str, changes: Mapping[str, Any]) -> None:
        """Change some columns of a schedule.

        If its text or time zone changes, or if it could not fire before, its fire times are counted
        from now on. Raises
        `UnknownScheduleError`, and `InvalidScheduleError` if it is a declared one.
        """
        row = self._schedules.get(connection, name)
        text, timezone = (changes.get(field, getattr(row, field)) for field in ("text", "timezone"))
        values = self._stored(changes)
        if row.last_error is not None or (text, timezone) != (row.text, row.timezone):
            next_at = self._next(connection, text, timezone)
            values |= {"text": text, "timezone": timezone, "next_at": next_at, "last_error": None}
        mine = self._schedule.c.name == name, self._schedule.c.added_at.is_not(None)
        statement = sa.update(self._schedule).where(*mine)
        if connection.execute(statement.values(name=name, **values)).rowcount != 1:
            raise _is_declared(name)

    def delete(self, connection: sa.Connection, name: str) -> None:
        """Delete a schedule; the tasks that it has added stay.

        Raises `UnknownScheduleError`, and `InvalidScheduleError` if it is a declared one.
        """
        self._schedules.get(connection, name)
        mine = self._schedule.c.name == name, self._schedule.c.added_at.is_not(None)
        if connection.execute(sa.delete(self._schedule).where(*mine)).rowcount != 1:
            raise _is_declared(name)

    def _next(self, connection: sa.Connection, text: str, timezone: str) -> int:
        now: datetime = self._schedules.now(connection)
        return to_micros(Schedule.parse(text, timezone).next_after(now))

    def _stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return columns as they are stored, with the task encrypted."""
        if "task" not in values:
            return dict(values)
        return {**values, "task": self._encryption.encrypt_text(values["task"])}


def _is_declared(name: str) -> InvalidScheduleError:
    return InvalidScheduleError(
        f"schedule {name!r} is declared in the code, which this cannot change: change the code, or "
        "pause the schedule"
    )
