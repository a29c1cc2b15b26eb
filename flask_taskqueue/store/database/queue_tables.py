"""The tables of queues and their dispatchers, of places that are taken, and of schedules."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.queues.rates import BUCKET_SIZE
from .dialects.types import LONG_TEXT, MICROS, SECONDS, TEXT, token, words

_EMPTY = sa.text("''")
"""The default of a text, in the form in which Alembic finds it equal to the database's."""


def queue(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of queues, with their limits.

    ``configured`` holds the limits as the app last configured them; it is null for a queue that was
    made while the app runs, which has ``settings`` and ``origin`` instead. ``tokens``,
    ``filled_at``, ``enforced_rate`` and ``slowed_at`` were used by version 1 (see the locks and the
    slowdowns).
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
        sa.Column("rate_per_key", SECONDS),
        sa.Column(
            "bucket_size_per_key", sa.Integer, nullable=False, server_default=str(BUCKET_SIZE)
        ),
        sa.Column("tokens", SECONDS, nullable=False, server_default="0"),
        sa.Column("filled_at", MICROS, nullable=False, server_default="0"),
        sa.Column("enforced_rate", SECONDS),
        sa.Column("slowed_at", MICROS),
        sa.Column("settings", TEXT),
        sa.Column("origin", token(20)),
        sa.Column("mode", token(10)),
        sa.Column("purged_at", MICROS),
        sa.Column("deleted_at", MICROS),
    )


def dispatcher(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of dispatchers that run, or were killed lately.

    ``queues`` is None for all, otherwise their names separated by commas. ``asked`` counts how
    often a dispatcher was asked to begin nothing more of paused queues; ``answered`` is the last of
    those questions that it has answered.
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


def schema(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table whose one row holds the version of the tables and who owns them.

    ``oldest`` is the oldest version of the code whose dispatchers may work with them.
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


def lock(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of keys in use, of whatever kind; a decision on a key locks its row.

    The row of a rate key holds its token bucket (see `Gate`), and in ``next_id`` the task that was
    let go as the next of those that wait for a token. The row ``q:`` and the name of a queue with
    limits holds the bucket of the queue.
    """
    return sa.Table(
        f"{prefix}lock",
        metadata,
        sa.Column("lock_key", token(202), primary_key=True),
        sa.Column("tokens", SECONDS),
        sa.Column("filled_at", MICROS),
        sa.Column("next_id", token(26)),
    )


def hold(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of holds: attempts that continue after their leases have ended.

    A hold takes places of a queue, a key and a batch, up to ``held_until`` or as long as a renewal
    of its lease lasts.
    """
    return sa.Table(
        f"{prefix}hold",
        metadata,
        sa.Column("task_id", token(26), primary_key=True),
        sa.Column("lease_id", token(32), primary_key=True),
        sa.Column("queue", token(100), nullable=False),
        sa.Column("lock_key", token(202)),
        sa.Column("lock_limit", sa.SmallInteger),
        sa.Column("batch_id", token(26)),
        sa.Column("held_by", token(32)),
        sa.Column("held_until", MICROS, nullable=False),
    )


def renewal(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of renewals: leases that last up to ``until`` although ``due_at`` is past.

    The row of their task is locked by another transaction, or has a unique key, so that
    transactions may replace it.
    """
    return sa.Table(
        f"{prefix}renewal",
        metadata,
        sa.Column("task_id", token(26), primary_key=True),
        sa.Column("lease_id", token(32), primary_key=True),
        sa.Column("until", MICROS, nullable=False),
    )


def slowdown(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of receivers that asked for less, until they recover, or keep failing.

    They asked by 429 or 503 with Retry-After (see `Slowdown`). From ``failures`` on, the columns
    are those of `Circuit`.
    """
    return sa.Table(
        f"{prefix}slowdown",
        metadata,
        sa.Column("target", token(320), primary_key=True),
        sa.Column("slowed_at", MICROS, nullable=False),
        sa.Column("asked_at", MICROS, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("retry_after", SECONDS, nullable=False),
        sa.Column("rate", SECONDS, nullable=False),
        sa.Column("empty_at", MICROS, nullable=False),
        sa.Column("over_at", MICROS, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failing_since", MICROS, nullable=False, server_default="0"),
        sa.Column("failed_at", MICROS, nullable=False, server_default="0"),
        sa.Column("failure", token(20), nullable=False, server_default=_EMPTY),
        sa.Column("opened_at", MICROS),
        sa.Column("probe_at", MICROS, nullable=False, server_default="0"),
        sa.Column("probes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("probe_id", token(26), nullable=False, server_default=_EMPTY),
        sa.Column("probe_took", MICROS, nullable=False, server_default="0"),
    )


def schedule(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of schedules.

    ``next_at`` is the next fire time, ``task`` the task that it adds (see `pack`). ``added_at`` is
    filled if it was added while the app runs, rather than declared in code.
    """
    return sa.Table(
        f"{prefix}schedule",
        metadata,
        sa.Column("name", token(100), primary_key=True),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("timezone", token(64), nullable=False),
        sa.Column("task", LONG_TEXT, nullable=False),
        sa.Column("misfire", token(10), nullable=False),
        sa.Column("overlap", token(10), nullable=False),
        sa.Column("description", TEXT),
        sa.Column("next_at", MICROS),
        sa.Column("fired_at", MICROS),
        sa.Column("last_task_id", token(26)),
        sa.Column("paused_at", MICROS),
        sa.Column("paused_by", words(100)),
        sa.Column("last_error", TEXT),
        sa.Column("given_key", token(200)),
        sa.Column("runs", TEXT),
        sa.Column("added_at", MICROS),
    )


def fire(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of fire times that have been handled.

    However many dispatchers there are, only one can insert the row, and the task with it.
    """
    return sa.Table(
        f"{prefix}fire",
        metadata,
        sa.Column("schedule", token(100), primary_key=True),
        sa.Column("fire_at", MICROS, primary_key=True, autoincrement=False),
        sa.Column("task_id", token(26)),
    )
