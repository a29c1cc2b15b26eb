"""The tables."""

from __future__ import annotations

from dataclasses import dataclass, fields

import sqlalchemy as sa

from ...core.metrics import MEASURES
from ...core.queues.rates import BUCKET_SIZE
from ...core.record import Record
from .dashboard_tables import audit as _audit
from .dashboard_tables import bulk as _bulk
from .dashboard_tables import past as _past
from .dialects.states import (
    ENDED_ROWS,
    FAILED_ROWS,
    LIVE_ROWS,
    LOCKED_ROWS,
    NAMED_ROWS,
    UNIQUE_ROWS,
)
from .dialects.types import BODY, LONG_TEXT, MICROS, SECONDS, TEXT, token, words
from .place_tables import hold as _hold
from .place_tables import lock as _lock
from .place_tables import renewal as _renewal
from .place_tables import slowdown as _slowdown
from .schedule_tables import fire as _fire
from .schedule_tables import schedule as _schedule

COUNTS = ("attempts", "failures", "succeeded", "dead", "cancelled")


@dataclass(frozen=True, slots=True)
class Tables:
    """The queue's tables in one metadata."""

    task: sa.Table
    attempt: sa.Table
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
        """Each of them, in an order in which they can be created."""
        return [getattr(self, one.name) for one in fields(self)]

    @classmethod
    def join(cls, metadata: sa.MetaData, prefix: str) -> Tables:
        """The tables in this metadata; defined there if they are not yet.

        Once joined to the metadata of an application, ``create_all`` and Alembic's autogenerate
        see them like the application's own.
        """
        define = {
            "task": _task,
            "attempt": _attempt,
            "queue": _queue,
            "tally": _tally,
            "past": _past,
            "meter": _meter,
            "lock": _lock,
            "renewal": _renewal,
            "hold": _hold,
            "slowdown": _slowdown,
            "batch": _batch,
            "schedule": _schedule,
            "fire": _fire,
            "dispatcher": _dispatcher,
            "schema": _schema,
            "audit": _audit,
            "bulk": _bulk,
        }
        place = "" if metadata.schema is None else f"{metadata.schema}."
        known = metadata.tables
        found = {name: known.get(f"{place}{prefix}{name}") for name in define}
        return cls(
            **{
                name: make(metadata, prefix) if (table := found[name]) is None else table
                for name, make in define.items()
            }
        )


def _task(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Live and finished tasks; what is claimed is found through an index of the live ones.

    ``due_at`` is when the task may next be taken: for a leased one, when its lease runs out.
    The columns are those of `Record`, in its order.
    """
    columns = (
        sa.Column("id", token(26), primary_key=True),
        sa.Column("name", token(500)),
        sa.Column("queue", token(100), nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("state", token(10), nullable=False),
        sa.Column("method", token(10), nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("target", TEXT),
        sa.Column("headers", TEXT),
        sa.Column("body", BODY, nullable=False),
        sa.Column("eta", MICROS, nullable=False),
        sa.Column("due_at", MICROS),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("first_tried_at", MICROS),
        sa.Column("started_at", MICROS),
        sa.Column("finished_at", MICROS),
        sa.Column("deadline", SECONDS),
        sa.Column("retry", TEXT),
        sa.Column("unique_key", token(200)),
        sa.Column("lock_key", token(202)),
        sa.Column("lock_limit", sa.SmallInteger),
        sa.Column("expires_at", MICROS),
        sa.Column("follow_up", LONG_TEXT),
        sa.Column("batch_id", token(26)),
        sa.Column("callback_of", token(26)),
        sa.Column("schedule", token(100)),
        sa.Column("keep_result", sa.SmallInteger, nullable=False),
        sa.Column("progress", TEXT),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("executions", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("pardons", sa.Integer, nullable=False),
        sa.Column("lease_id", token(32)),
        sa.Column("held_by", token(32)),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_reason", token(20)),
        sa.Column("last_error", TEXT),
        sa.Column("given_key", token(200)),
        sa.Column("for_worker", sa.SmallInteger, nullable=False, server_default="0"),
    )
    if tuple(column.name for column in columns) != Record._fields:
        raise AssertionError("the columns of the task table are not the fields of Record")
    return sa.Table(
        f"{prefix}task",
        metadata,
        *columns,
        # The name first: a planner that knows nothing yet of the data must not take it for an index
        # of queues.
        sa.Index(
            f"ix_{prefix}task_name",
            "name",
            "queue",
            unique=True,
            sqlite_where=NAMED_ROWS,
            postgresql_where=NAMED_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_unique",
            "unique_key",
            "queue",
            unique=True,
            sqlite_where=UNIQUE_ROWS,
            postgresql_where=UNIQUE_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_lock",
            *("lock_key", "state", "id", "due_at"),
            sqlite_where=LOCKED_ROWS,
            postgresql_where=LOCKED_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_due",
            *("state", "queue", "priority", "due_at", "id"),
            sqlite_where=LIVE_ROWS,
            postgresql_where=LIVE_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_ended",
            *("state", "finished_at", "id"),
            sqlite_where=ENDED_ROWS,
            postgresql_where=ENDED_ROWS,
        ),
    )


def _attempt(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """What became of each attempt."""
    return sa.Table(
        f"{prefix}attempt",
        metadata,
        sa.Column("task_id", token(26), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("lease_id", token(32), primary_key=True),
        sa.Column("started_at", MICROS, nullable=False),
        sa.Column("finished_at", MICROS, nullable=False),
        sa.Column("held_by", token(32)),
        sa.Column("reason", token(20), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", TEXT),
        sa.Column("reply_headers", TEXT),
        sa.Column("reply_body", BODY),
        sa.Column("traceback", LONG_TEXT),
        sa.Index(
            f"ix_{prefix}attempt_failed",
            *("reason", "finished_at"),
            sqlite_where=FAILED_ROWS,
            postgresql_where=FAILED_ROWS,
        ),
    )


def _queue(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """The queues that dispatchers take from, with their limits and their token buckets (see
    `Gate`).

    ``configured`` is what the application's configuration last said of the limits.
    ``enforced_rate`` and ``slowed_at`` were used by version 1 (see the slowdowns).
    """
    return sa.Table(
        f"{prefix}queue",
        metadata,
        sa.Column("name", token(100), primary_key=True),
        sa.Column("paused_at", MICROS),
        sa.Column("paused_by", words(100)),
        sa.Column("configured", TEXT),
        sa.Column("rate", SECONDS),
        sa.Column("bucket_size", sa.Integer, nullable=False, server_default=str(BUCKET_SIZE)),
        sa.Column("max_concurrent", sa.Integer),
        sa.Column("tokens", SECONDS, nullable=False, server_default="0"),
        sa.Column("filled_at", MICROS, nullable=False, server_default="0"),
        sa.Column("enforced_rate", SECONDS),
        sa.Column("slowed_at", MICROS),
    )


def _tally(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Counts, so that statistics need not count rows.

    Each row is what one ``source`` did to one queue in one span of ten seconds; a source of its
    own per writer, so that nobody waits. ``succeeded``, ``dead`` and ``cancelled`` are changes of
    how many tasks have that state; the rows of the past are added up in slot 0.
    """
    return sa.Table(
        f"{prefix}tally",
        metadata,
        sa.Column("queue", token(100), primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", token(48), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
    )


def _meter(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Counts that only ever grow, for metrics: attempts by what became of them, ends by how,
    histograms.

    A row per queue and ``source``, which is one per writer as in the tally; those of the past are
    added up in the source "".
    """
    return sa.Table(
        f"{prefix}meter",
        metadata,
        sa.Column("queue", token(100), primary_key=True),
        sa.Column("source", token(48), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in MEASURES),
    )


def _batch(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Batches of tasks, how many of them have ended and how, and what follows."""
    return sa.Table(
        f"{prefix}batch",
        metadata,
        sa.Column("id", token(26), primary_key=True),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("finished_at", MICROS),
        sa.Column("total", sa.Integer, nullable=False),
        *(
            sa.Column(state, sa.Integer, nullable=False)
            for state in ("succeeded", "dead", "cancelled")
        ),
        sa.Column("on_finish", LONG_TEXT),
        sa.Column("on_dead", LONG_TEXT),
    )


def _dispatcher(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """The dispatchers that run, or were killed lately. ``queues`` is None for all, otherwise names
    with commas between.

    ``asked`` counts how often one was asked to begin nothing more of paused queues, ``answered``
    says up to which time it does so.
    """
    return sa.Table(
        f"{prefix}dispatcher",
        metadata,
        sa.Column("id", token(32), primary_key=True),
        sa.Column("host", words(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("version", token(32), nullable=False),
        sa.Column("transport", token(10), nullable=False),
        sa.Column("queues", TEXT),
        sa.Column("concurrency", sa.Integer, nullable=False),
        sa.Column("in_flight", sa.Integer, nullable=False),
        sa.Column("started_at", MICROS, nullable=False),
        sa.Column("seen_at", MICROS, nullable=False),
        sa.Column("fingerprint", token(32)),
        sa.Column("asked", sa.Integer, nullable=False, server_default="0"),
        sa.Column("answered", sa.Integer, nullable=False, server_default="0"),
        sa.Column("replaced", sa.Integer, nullable=False, server_default="0"),
        sa.Column("replaced_for", words(100)),
    )


def _schema(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """One row: which version the tables are of, the oldest version of the code whose
    dispatchers may work with them, whose they are.
    """
    return sa.Table(
        f"{prefix}schema",
        metadata,
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("oldest", sa.Integer, nullable=False),
        sa.Column("application", TEXT),
        sa.Column("fingerprints", TEXT),
    )
