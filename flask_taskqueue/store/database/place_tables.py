"""The tables of what tasks share or hold: keys, places, leases and receivers."""

from __future__ import annotations

import sqlalchemy as sa

from .dialects.types import MICROS, SECONDS, token


def lock(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of keys in use, serial or not; a decision on a key locks its row."""
    return sa.Table(f"{prefix}lock", metadata, sa.Column("lock_key", token(202), primary_key=True))


def hold(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of holds: attempts that continue after their leases have ended.

    A hold takes places of a queue, a key and a batch, up to ``held_until``.
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

    The row of their task is locked by another transaction.
    """
    return sa.Table(
        f"{prefix}renewal",
        metadata,
        sa.Column("task_id", token(26), primary_key=True),
        sa.Column("lease_id", token(32), primary_key=True),
        sa.Column("until", MICROS, nullable=False),
    )


def slowdown(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of receivers that asked for less, until they recover.

    They asked by 429 or 503 with Retry-After. See `Slowdown`.
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
    )
