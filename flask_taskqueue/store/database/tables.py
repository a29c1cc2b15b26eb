"""The queue's tables, each defined in the module of its subject."""

from __future__ import annotations

from dataclasses import dataclass, fields

import sqlalchemy as sa

from . import counter_tables, queue_tables, task_tables

DEFINITIONS = {
    "task": task_tables.task,
    "attempt": task_tables.attempt,
    "traceback": task_tables.traceback,
    "queue": queue_tables.queue,
    "tally": counter_tables.tally,
    "past": counter_tables.past,
    "meter": counter_tables.meter,
    "lock": queue_tables.lock,
    "renewal": queue_tables.renewal,
    "hold": queue_tables.hold,
    "slowdown": queue_tables.slowdown,
    "batch": task_tables.batch,
    "schedule": queue_tables.schedule,
    "fire": queue_tables.fire,
    "dispatcher": queue_tables.dispatcher,
    "schema": queue_tables.schema,
    "audit": counter_tables.audit,
    "bulk": counter_tables.bulk,
}
"""The functions that define the tables; their docstrings are the reference of the schema."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The queue's tables in one metadata."""

    task: sa.Table
    attempt: sa.Table
    traceback: sa.Table
    queue: sa.Table
    tally: sa.Table
    past: sa.Table
    meter: sa.Table
    lock: sa.Table
    renewal: sa.Table
    hold: sa.Table
    slowdown: sa.Table
    batch: sa.Table
    schedule: sa.Table
    fire: sa.Table
    dispatcher: sa.Table
    schema: sa.Table
    audit: sa.Table
    bulk: sa.Table

    @property
    def all(self) -> list[sa.Table]:
        """All tables, in an order in which they can be created."""
        return [getattr(self, field.name) for field in fields(self)]

    @classmethod
    def join(cls, metadata: sa.MetaData, prefix: str) -> Tables:
        """Return the tables in this metadata, after defining those that are not there yet.

        Once they have joined the metadata of an app, ``create_all`` and Alembic's autogenerate see
        them like the app's own.
        """
        place = "" if metadata.schema is None else f"{metadata.schema}."
        known = metadata.tables
        found = {name: known.get(f"{place}{prefix}{name}") for name in DEFINITIONS}
        joined = cls(
            **{
                name: make(metadata, prefix) if (table := found[name]) is None else table
                for name, make in DEFINITIONS.items()
            }
        )
        for table in joined.all:  # other engines of MariaDB and MySQL roll nothing back
            table.dialect_kwargs.update(mysql_engine="InnoDB", mariadb_engine="InnoDB")
        return joined
