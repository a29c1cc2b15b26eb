"""What a run has left in the tables, read for the checker."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from flask_taskqueue.store import Store

from .history import Attempt, Batch, Fire, Leftovers, Row
from .operations import LABEL

_COLUMNS = (
    *(
        "id",
        "state",
        "attempts",
        "eta",
        "first_tried_at",
        "queue",
        "created_at",
        "due_at",
        "finished_at",
        "expires_at",
    ),
    *(
        "name",
        "given_key",
        "lock_key",
        "lock_limit",
        "batch_id",
        "callback_of",
        "schedule",
        "last_reason",
        "crashes",
        "pardons",
    ),
)
_COUNTED = {
    "scheduled": "unclaimed",
    "leased": "leased",
    "succeeded": "succeeded",
    "dead": "dead",
    "cancelled": "cancelled",
    "parked": "waiting",
}
"""What is compared, by what the rows call it, and what it is called in the statistics."""


def read_rows(connection: sa.Connection, store: Store) -> list[Row]:
    """Every task."""
    task = store.database.tables.task
    found = connection.execute(sa.select(*(task.c[name] for name in _COLUMNS), task.c.headers))
    return [Row(*row[:-1], label=json.loads(row.headers or "{}").get(LABEL)) for row in found]


def read_leftovers(connection: sa.Connection, store: Store) -> Leftovers:
    """Everything else that is looked at."""
    tables = store.database.tables
    queues = {row.name: row for row in store.queues.rows(connection)}
    counted = store.statistics.of(connection, list(queues))
    return Leftovers(
        attempts=[
            Attempt(*row)
            for row in _rows(
                connection, tables.attempt, "task_id", "number", "started_at", "reason"
            )
        ],
        batches=[
            Batch(*row)
            for row in _rows(
                connection,
                tables.batch,
                "id",
                "total",
                "succeeded",
                "dead",
                "cancelled",
                "finished_at",
            )
        ],
        fires=[
            Fire(*row) for row in _rows(connection, tables.fire, "schedule", "fire_at", "task_id")
        ],
        next_fires=dict(_rows(connection, tables.schedule, "name", "next_at")),
        locks=set(connection.scalars(sa.select(tables.lock.c.lock_key))),
        paused={name for name, row in queues.items() if row.paused_at is not None},
        statistics={
            name: {what: getattr(found.counts, count) for what, count in _COUNTED.items()}
            for name, found in counted.items()
        },
    )


def _rows(connection: sa.Connection, table: sa.Table, *names: str) -> list[Any]:
    return [tuple(row) for row in connection.execute(sa.select(*(table.c[name] for name in names)))]
