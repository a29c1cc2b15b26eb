"""A prepared statement: compiled once, then handed to the driver as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

Values = Mapping[str, Any]

_ROWS = 100
_BYTES = 4_000_000
"""The most rows of one statement, and about the most bytes of their texts and bodies.

MariaDB takes 16 MB in one statement, in which the driver may need two for each byte of a body.
"""


class Prepared:
    """A statement that runs in each turn, where SQLAlchemy's own way costs more than the database.

    The statement must have no IN list of varying length (see `Dialect.among`), and only values that
    the driver takes as they are.
    """

    def __init__(self, statement: sa.ClauseElement, *, rows_in_one: bool = False) -> None:
        """Take a statement; with ``rows_in_one`` an insert sends its rows in one statement.

        That is for drivers that would send each row separately.
        """
        self._statement = statement
        self._rows_in_one = rows_in_one
        self._text = ""
        self._ordered: Callable[[Values], Any] | None = None
        self._constants: dict[str, Any] = {}
        self._clocks: dict[str, Callable[[], Any]] = {}

    def execute(self, connection: sa.Connection, values: Values) -> sa.CursorResult[Any]:
        """Run the statement once."""
        self._compile(connection)
        return connection.exec_driver_sql(self._text, self._bound(values))

    def execute_many(self, connection: sa.Connection, rows: Sequence[Values]) -> int:
        """Run the statement for each row; return how many rows were changed in all."""
        self._compile(connection)
        if (
            not connection.dialect.supports_sane_multi_rowcount
        ):  # the driver only reports on the last row
            return sum(self.execute(connection, values).rowcount for values in rows)
        if not self._rows_in_one:
            return connection.exec_driver_sql(
                self._text, [self._bound(values) for values in rows]
            ).rowcount
        return sum(self._execute_rows(connection, part) for part in _parts(rows))

    def _execute_rows(self, connection: sa.Connection, rows: Sequence[Values]) -> int:
        head, values, row = self._text.rpartition(" VALUES ")
        text = head + values + ", ".join([row] * len(rows))
        return connection.exec_driver_sql(
            text, tuple(chain.from_iterable(self._bound(values) for values in rows))
        ).rowcount

    def _compile(self, connection: sa.Connection) -> None:
        if self._text:
            return
        dialect: Any = connection.dialect
        # Rows in one statement are bound by position.
        compiled: Any = self._statement.compile(
            dialect=type(dialect)(paramstyle="format") if self._rows_in_one else dialect
        )
        escaped = compiled.escaped_bind_names  # drivers do not take every character in a name
        for name, bind in compiled.binds.items():
            if bind.callable is not None:
                self._clocks[escaped.get(name, name)] = bind.callable
            elif not bind.required:
                self._constants[escaped.get(name, name)] = bind.value
        order = compiled.positiontup
        if order is not None:
            self._ordered = (
                itemgetter(*order)
                if len(order) > 1
                else lambda bound: tuple(bound[name] for name in order)
            )
        self._text = str(compiled)

    def _bound(self, values: Values) -> Any:
        bound = {**self._constants, **values}
        for name, clock in self._clocks.items():
            bound[name] = clock()
        return bound if self._ordered is None else self._ordered(bound)


def _parts(rows: Sequence[Values]) -> Iterator[Sequence[Values]]:
    """Return the rows in parts of which each is one statement, with at least one row."""
    start = size = 0
    for number, row in enumerate(rows):
        added = sum(len(value) for value in row.values() if isinstance(value, str | bytes))
        if number > start and (number - start == _ROWS or size + added > _BYTES):
            yield rows[start:number]
            start, size = number, 0
        size += added
    if start < len(rows):
        yield rows[start:]
