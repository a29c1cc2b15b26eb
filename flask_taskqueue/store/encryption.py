"""Encrypted columns, whose contents a key rotation encrypts again with the newest key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from ..core.errors import DecryptionError
from ..core.security.encryption import Encryption
from .database.database import Database
from .database.tables import Tables

_SOME = 100
"""The number of rows in one transaction."""


@dataclass(frozen=True, slots=True)
class RotationResult:
    """The number of rows that a rotation encrypted again, and of those it left as unreadable."""

    changed: int = 0
    unreadable: int = 0

    def __add__(self, other: RotationResult) -> RotationResult:
        return RotationResult(self.changed + other.changed, self.unreadable + other.unreadable)


class KeyRotation:
    """A rotation that encrypts the contents of one database's tables with the newest key."""

    def __init__(self, tables: Tables, encryption: Encryption) -> None:
        self._encryption = encryption
        self._of_tasks = (tables.attempt, tables.traceback)
        self._columns: dict[sa.Table, Sequence[str]] = {
            tables.task: ("body", "headers", "follow_up"),
            tables.attempt: ("reply_headers", "reply_body", "traceback"),
            tables.traceback: ("traceback",),
            tables.batch: ("on_finish", "on_dead"),
            tables.schedule: ("task",),
        }

    def rotate(self, database: Database) -> Iterable[RotationResult]:
        """Encrypt everything with the newest key, some rows at a time; yield what was done.

        Values that are already encrypted with it are left alone, and plain values are encrypted
        too. Rows that others change or delete in the meantime are left to them. A rotation that was
        stopped half way can be started again and passes quickly over the finished part.
        """
        for table in self._columns:
            if table in self._of_tasks:
                continue
            (key,) = table.primary_key.columns
            last = ""
            while rows := self._some(database, table, key > last, key):
                last = rows[-1][0]
                yield self._renew(database, table, rows)
                if "body" in self._columns[table]:
                    ids = [row[0] for row in rows]
                    for other in self._of_tasks:
                        task_id = other.c.task_id
                        found = self._some(database, other, task_id.in_(ids), task_id)
                        yield self._renew(database, other, found)

    def _some(
        self,
        database: Database,
        table: sa.Table,
        which: sa.ColumnElement[bool],
        order: sa.Column[Any],
    ) -> Sequence[sa.Row[Any]]:
        columns = [*table.primary_key.columns, *(table.c[name] for name in self._columns[table])]
        statement = sa.select(*columns).where(which).order_by(order)
        return database.read(
            lambda connection: connection.execute(
                statement if table in self._of_tasks else statement.limit(_SOME)
            ).all()
        )

    def _renew(
        self, database: Database, table: sa.Table, rows: Sequence[sa.Row[Any]]
    ) -> RotationResult:
        changes: list[tuple[sa.Row[Any], dict[str, Any]]] = []
        unreadable = 0
        for row in rows:
            old = {name: getattr(row, name) for name in self._columns[table]}
            try:
                changed = {
                    name: self._again(value)
                    for name, value in old.items()
                    if not self._encryption.is_current(value)
                }
            except DecryptionError:
                unreadable += 1
                continue
            if changed:
                changes.append((row, changed))
        written = database.transact(partial(_write, table=table, changes=changes)) if changes else 0
        return RotationResult(written, unreadable)

    def _again(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._encryption.encrypt_text(self._encryption.decrypt_text(value))
        return self._encryption.encrypt(self._encryption.decrypt(bytes(value)))


def _write(
    connection: sa.Connection,
    table: sa.Table,
    changes: Sequence[tuple[sa.Row[Any], dict[str, Any]]],
) -> int:
    """Change the rows that are still as they were read, and return how many."""
    written = 0
    for row, changed in changes:
        same = [
            column == getattr(row, column.name)
            for column in (*table.primary_key.columns, *(table.c[name] for name in changed))
        ]
        written += connection.execute(sa.update(table).where(*same).values(changed)).rowcount
    return written
