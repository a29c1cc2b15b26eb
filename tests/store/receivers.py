"""Tasks for receivers, and the rows that slow those."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from flask_taskqueue.core.states import Record
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.store import Store
from tests.store.conftest import add


def send(store: Store, host: str | None = "a.example", **fields: Any) -> Record:
    """A task for a host, or for the application itself."""
    url = "/w" if host is None else f"https://{host}/w"
    return add(store, request=TaskRequest("POST", url, {}, b""), **fields)


def change(store: Store, **values: Any) -> None:
    """Write into all slowdowns, which circuits are a part of."""
    table = store.database.tables.slowdown
    store.transact(lambda connection: connection.execute(sa.update(table).values(values)))


def now(store: Store) -> int:
    """The database's clock."""
    with store.reading() as connection:
        return int(connection.scalar(sa.select(store.database.dialect.now)) or 0)
