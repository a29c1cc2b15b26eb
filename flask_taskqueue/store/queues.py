"""Queues: which there are and which are paused."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from .dialects import Dialect
from .tables import Tables


class Queues:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._queue = tables.queue
        self._insert = dialect.insert_missing(tables.queue)

    def missing(self, connection: sa.Connection, names: Collection[str]) -> set[str]:
        """Those of the names that have no row yet."""
        return set(names) - set(connection.scalars(sa.select(self._queue.c.name)))

    def ensure(self, connection: sa.Connection, names: Collection[str]) -> None:
        """Give each name a row, so that dispatchers take from it."""
        if names:
            connection.execute(self._insert, [{"name": name} for name in sorted(names)])
