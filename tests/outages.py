"""Databases that go away for a while."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from tests.databases import TestDatabase

Switch = Callable[[bool], None]
"""Called with False the database is away, with True it is back."""


@contextmanager
def switched(database: TestDatabase) -> Iterator[tuple[str, Switch]]:
    """A URL of a database, and its switch.

    PostgreSQL ends its connections and takes none. MariaDB is behind a proxy that is cut. A file
    cannot be away from those who have it open, so of SQLite's a table is missing.
    """
    if database.name == "mariadb":
        proxy = Proxy(database.url)
        yield proxy.url, proxy.switch
        proxy.switch(False)
        return
    yield (
        database.url,
        _postgresql(database.url) if database.name == "postgresql" else _sqlite(database.url),
    )


class Proxy:
    """Passes connections on to a server, until it is switched off, which cuts them, or holds
    everything back.
    """

    def __init__(self, url: sa.URL | str) -> None:
        address = sa.make_url(url)
        self._server = _address(address)
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self.port = 0
        self.switch(True)
        through = address.difference_update_query(["host"]).set(host="127.0.0.1", port=self.port)
        self.url: str = through.render_as_string(hide_password=False)
        """The same database, by way of this."""

    @property
    def connections(self) -> int:
        """How many were taken since it was last switched on."""
        return len(self._open) // 2

    def switch(self, on: bool) -> None:
        """Take connections, or take none and cut those there are."""
        if on:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listening.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()
            return
        with self._lock:
            listening, self._listening = self._listening, None
            ends, self._open = self._open, []
        _cut(*ends, *([listening] if listening else []))

    def hold(self) -> None:
        """Pass nothing on any more, and keep the connections: to both ends the other is silent."""
        self._flowing.clear()

    def let_go(self) -> None:
        """Cut the connections that were held, and pass new ones on."""
        self.switch(False)
        self._flowing.set()
        self.switch(True)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                try:
                    server = _connected(self._server)
                except OSError:
                    _cut(client)
                else:
                    self._join(listening, client, server)

    def _join(self, listening: socket.socket, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            if self._listening is not listening:  # switched off since it was accepted
                _cut(client, server)
                return
            self._open += [client, server]
        for ends in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def _address(url: sa.URL) -> str | tuple[str, int]:
    """Where a server listens: PostgreSQL may have a socket file only."""
    port = url.port or (5432 if url.get_backend_name() == "postgresql" else 3306)
    place = url.query.get("host", url.host)
    return f"{place}/.s.PGSQL.{port}" if str(place).startswith("/") else (str(place), port)


def _connected(address: str | tuple[str, int]) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _postgresql(url: str) -> Switch:
    address = sa.make_url(url)

    def switch(on: bool) -> None:
        engine = sa.create_engine(
            address.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {address.database} ALLOW_CONNECTIONS {on}")
            if not on:
                ended = sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                )
                connection.execute(ended, {"name": address.database})

    return switch


def _sqlite(url: str) -> Switch:
    def switch(on: bool) -> None:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        old, new = ("away", "taskqueue_task") if on else ("taskqueue_task", "away")
        with engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    return switch
