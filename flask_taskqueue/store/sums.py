"""Sums: rows of counts that are added to, and made where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from .dialects import Dialect
from .prepared import Prepared

_STATEMENTS = 256
_NOTHING = sa.literal_column("0", sa.BigInteger)


class Sums:
    """The counts of one table. A statement names only those that there is something to add to: of the many, mostly a few."""

    def __init__(self, table: sa.Table, counts: Sequence[str], dialect: Dialect, **computed: sa.ColumnElement[Any]) -> None:
        """``computed`` are columns of the key that the database fills in."""
        self._table = table
        self._counts = counts
        self._dialect = dialect
        self._computed = computed
        self._statement = lru_cache(maxsize=_STATEMENTS)(self._prepare)

    def add(self, connection: sa.Connection, key: Mapping[str, str], counts: Mapping[str, int]) -> None:
        """Add to the counts of one row; where there is nothing to add, nothing is done."""
        added = {name: counts[name] for name in self._counts if counts.get(name)}
        if added:
            self._statement(tuple(added)).execute(connection, {**key, **added})

    def _prepare(self, names: tuple[str, ...]) -> Prepared:
        given: dict[str, Any] = {column.name: sa.bindparam(column.name) for column in self._table.primary_key}
        given |= {name: sa.bindparam(name) if name in names else _NOTHING for name in self._counts}
        # Inline: else SQLAlchemy asks for what is computed back.
        return Prepared(self._dialect.add_up(self._table, names).inline().values(given | self._computed))
