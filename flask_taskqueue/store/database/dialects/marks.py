"""Marks, by which the database tells whether a transaction is still the same one."""

from __future__ import annotations

from typing import Protocol

import sqlalchemy as sa

_SAVEPOINT = "taskqueue_handler"


class Mark(Protocol):
    """A mark in a transaction; the database loses it with that transaction, however it ends."""

    def holds(self, connection: sa.Connection) -> bool:
        """Return whether the connection is still in the transaction of the mark; ask only once."""


class Savepoint:
    """A savepoint, which a commit, a rollback and a statement that commits implicitly release."""

    def __init__(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")

    def holds(self, connection: sa.Connection) -> bool:
        try:
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            return False
        return True


class TransactionId:
    """The number that the server gives to a transaction that writes."""

    _ASKED = "SELECT txid_current()"

    def __init__(self, connection: sa.Connection) -> None:
        self._id = connection.exec_driver_sql(self._ASKED).scalar_one()

    def holds(self, connection: sa.Connection) -> bool:
        found: bool = connection.exec_driver_sql(self._ASKED).scalar_one() == self._id
        return found
