"""LISTEN and NOTIFY of PostgreSQL, through psycopg."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import Any

import sqlalchemy as sa

_LISTEN_FOR = 1.0
_HEARD_WITHIN = 5.0


class ListenNotify:
    """The statements that send and receive notifications.

    Each raises DBAPIError when its connection is lost.
    """

    def notify(self, connection: sa.Connection, channel: str) -> None:
        """Send a notification to everyone who listens."""
        connection.execute(sa.select(sa.func.pg_notify(channel, "")))

    def hears(
        self, connect: Callable[[], AbstractContextManager[sa.Connection]], channel: str
    ) -> bool:
        """Return whether a notification reaches an idle connection that ``connect`` returns.

        Directly at the server it always does; through a pooler this tries it out.
        """
        with connect() as connection, driver_errors(connection):
            driver: Any = connection.connection.dbapi_connection
            if is_direct(driver):
                return True
            sent = secrets.token_hex(8)
            connection.exec_driver_sql(f'LISTEN "{channel}"')
            with connect() as other:
                other.execute(sa.select(sa.func.pg_notify(channel, sent)))
            ends = time.monotonic() + _HEARD_WITHIN
            while (left := ends - time.monotonic()) > 0:
                if any(
                    notice.payload == sent for notice in driver.notifies(timeout=left, stop_after=1)
                ):
                    return True
            return False

    def listen(
        self, connection: sa.Connection, channel: str, wake: Callable[[], object], closed: Event
    ) -> None:
        """Call ``wake`` at each notification until ``closed``."""
        connection.exec_driver_sql(f'LISTEN "{channel}"')
        wake()  # for tasks that were added before anybody listened
        driver: Any = connection.connection.dbapi_connection
        with driver_errors(connection):
            while not closed.is_set():
                for _ in driver.notifies(timeout=_LISTEN_FOR, stop_after=1):
                    wake()


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
