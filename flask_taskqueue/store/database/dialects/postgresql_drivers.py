"""What psycopg and psycopg2 need beyond what SQLAlchemy does for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa


def settle_psycopg(connection: Any, _record: object) -> None:
    """Store texts of any language, and prepare statements only directly at the server.

    Behind a pooler, they would not stay where they were prepared.
    """
    if not is_direct(connection):
        connection.prepare_threshold = None
    if connection.info.parameter_status("client_encoding") != "UTF8":
        with connection.cursor() as cursor:
            cursor.execute("SET client_encoding TO 'UTF8'")
    connection.commit()


@contextmanager
def driver_errors(connection: sa.Connection) -> Iterator[None]:
    """Raise the driver's own errors in this block as SQLAlchemy's."""
    module: Any = connection.dialect.dbapi
    try:
        yield
    except module.Error as error:
        raise sa.exc.DBAPIError("LISTEN", {}, error) from error


def is_direct(connection: Any) -> bool:
    """Return whether a connection of psycopg's leads directly to the server.

    A pooler, which may give each transaction another of the server's connections, reports a process
    of its own by which the client can cancel statements.
    """
    with connection.cursor() as cursor:
        found: bool = (
            cursor.execute("SELECT pg_backend_pid()").fetchone()[0] == connection.info.backend_pid
        )
    return found


def settle_psycopg2(connection: Any, _record: object) -> None:
    """Store texts of any language, and read bytes as psycopg gives them."""
    from psycopg2 import BINARY, extensions

    def read(value: Any, cursor: Any) -> bytes | None:
        return None if value is None else bytes(BINARY(value, cursor))

    if connection.encoding != "UTF8":
        connection.set_client_encoding("UTF8")
    extensions.register_type(extensions.new_type(BINARY.values, "BYTEA", read), connection)
