"""Batches: tasks that are counted together, with callbacks once all have ended or one is dead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ...core.errors import UnknownBatchError
from ...core.names import is_token
from ...core.security.encryption import Encryption
from ...core.tasks.packed import unpack
from ...core.times import duration_micros
from ...process.logs import get_logger
from ..database.dialects import Dialect
from ..database.tables import Tables
from .inserts import Inserts

_logger = get_logger()

_PRUNED = 5000


class Batches:
    """A store of batches that counts their tasks, each method in its connection's transaction."""

    def __init__(
        self, tables: Tables, dialect: Dialect, inserts: Inserts, encryption: Encryption
    ) -> None:
        self._batch = tables.batch
        self._encryption = encryption
        self._now = dialect.now
        self._inserts = inserts

    def create(
        self,
        connection: sa.Connection,
        batch_id: str,
        total: int,
        on_finish: str | None,
        on_dead: str | None,
    ) -> None:
        """Store a batch of ``total`` tasks, with the tasks of its callbacks (see `pack`)."""
        values = {"id": batch_id, "total": total} | {
            name: self._encryption.encrypt_text(packed)
            for name, packed in (("on_finish", on_finish), ("on_dead", on_dead))
        }
        counts = dict.fromkeys(("succeeded", "dead", "cancelled"), 0)
        connection.execute(sa.insert(self._batch).values(created_at=self._now, **values, **counts))

    def find(self, connection: sa.Connection, batch_id: str) -> sa.Row[Any] | None:
        """Return the row of a batch, or None if there is none."""
        return connection.execute(
            sa.select(self._batch).where(self._batch.c.id == batch_id)
        ).one_or_none()

    def get(self, connection: sa.Connection, batch_id: str) -> sa.Row[Any]:
        """Return the row of a batch. Raises `UnknownBatchError`."""
        row = self.find(connection, batch_id) if is_token(batch_id) else None
        if row is None:
            raise UnknownBatchError(
                f"there is no batch {batch_id!r}; it never was, or has been pruned"
            )
        return row

    def count(self, connection: sa.Connection, ended: Mapping[str, Mapping[str, int]]) -> None:
        """Count tasks that have ended, by batch and state, and add the follow-up tasks.

        The update locks the batch's row. So of all who end its last tasks, exactly one sees that
        they were the last, and adds the callback in the same transaction.
        """
        batch = self._batch
        for batch_id, counts in sorted(ended.items()):
            changes = {state: batch.c[state] + number for state, number in counts.items()}
            connection.execute(
                sa.update(batch)
                .where(batch.c.id == batch_id, batch.c.finished_at.is_(None))
                .values(changes)
            )
            row = connection.execute(sa.select(batch).where(batch.c.id == batch_id)).one_or_none()
            if row is None or row.finished_at is not None:
                continue
            if row.dead and row.on_dead is not None:
                self._follow(connection, batch_id, "on_dead", row.on_dead)
            if row.succeeded + row.dead + row.cancelled >= row.total:
                connection.execute(
                    sa.update(batch).where(batch.c.id == batch_id).values(finished_at=self._now)
                )
                self._follow(connection, batch_id, "on_finish", row.on_finish)

    def prune(self, connection: sa.Connection, seconds: float) -> int:
        """Forget some batches that finished longer than ``seconds`` ago; return how many."""
        if math.isinf(seconds):
            return 0
        batch = self._batch
        old = batch.c.finished_at < self._now - duration_micros(seconds)
        ids = list(
            connection.scalars(sa.select(batch.c.id).where(old).order_by(batch.c.id).limit(_PRUNED))
        )
        return (
            connection.execute(sa.delete(batch).where(batch.c.id.in_(ids))).rowcount if ids else 0
        )

    def _follow(
        self, connection: sa.Connection, batch_id: str, event: str, packed: str | None
    ) -> None:
        if packed is None:
            return
        try:
            following = [
                replace(new, callback_of=batch_id)
                for new in unpack(self._encryption.decrypt_text(packed))
            ]
        except ValueError as error:
            _logger.error(
                "batch %s: nothing follows, for %s cannot be read: %s", batch_id, event, error
            )
            return
        self._inserts.add_following(connection, following, f"batch {batch_id}")
        connection.execute(
            sa.update(self._batch).where(self._batch.c.id == batch_id).values({event: None})
        )
