"""A prepared statement: compiled once, then handed to the driver as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

Values = Mapping[str, Any]


class Prepared:
    """For the statements of each turn of the drain, where SQLAlchemy's own way costs more than the database.

    The statement must have no IN list of varying length, and values that the driver takes as they are.
    """

    def __init__(self, statement: sa.ClauseElement) -> None:
        self._statement = statement
        self._text = ""
        self._order: Sequence[str] | None = None
        self._constants: dict[str, Any] = {}
        self._clocks: dict[str, Callable[[], Any]] = {}

    def execute(self, connection: sa.Connection, values: Values) -> sa.CursorResult[Any]:
        """Run it once."""
        self._compile(connection)
        return connection.exec_driver_sql(self._text, self._bound(values))

    def execute_many(self, connection: sa.Connection, rows: Sequence[Values]) -> int:
        """Run it for each row; how many rows were changed in all."""
        self._compile(connection)
        return connection.exec_driver_sql(self._text, [self._bound(values) for values in rows]).rowcount

    def _compile(self, connection: sa.Connection) -> None:
        if self._text:
            return
        compiled: Any = self._statement.compile(dialect=connection.dialect)
        for name, bind in compiled.binds.items():
            if bind.callable is not None:
                self._clocks[name] = bind.callable
            elif not bind.required:
                self._constants[name] = bind.value
        self._order = compiled.positiontup
        self._text = str(compiled)

    def _bound(self, values: Values) -> Any:
        bound = {**self._constants, **values}
        for name, clock in self._clocks.items():
            bound[name] = clock()
        return bound if self._order is None else tuple([bound[name] for name in self._order])
