"""How a transaction has begun, so that it can begin again in the same way."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(slots=True)
class Start:
    """The start of a transaction on a connection."""

    by_events: bool
    """Whether SQLAlchemy's events have begun it."""
    by_statement: str | None = None
    """The statement of the app's that has begun it."""

    @property
    def is_explicit(self) -> bool:
        """Whether the driver does not begin it by itself."""
        return self.by_events or self.by_statement is not None

    def repeat(self, connection: sa.Connection) -> None:
        """Begin a transaction as this one has begun."""
        try:
            try:
                self._repeat(connection)
            except sa.exc.OperationalError:
                # A result that is still being read keeps what it reads from, which is too old to
                # be written to, as BEGIN IMMEDIATE asks; but reading on is possible.
                connection.exec_driver_sql("BEGIN")
        except BaseException as error:
            connection.invalidate(error)  # without a transaction it must not be used
            raise

    def _repeat(self, connection: sa.Connection) -> None:
        if self.by_events:
            connection.dispatch.begin(connection)
            connection.dialect.do_begin(connection.connection)
        else:
            connection.exec_driver_sql(self.by_statement or "")
