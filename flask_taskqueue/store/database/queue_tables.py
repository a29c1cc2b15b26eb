"""The tables of queues, of the dispatchers that serve them, and of the schema itself."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.queues.rates import BUCKET_SIZE
from .dialects.types import MICROS, SECONDS, TEXT, token, words


def queue(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of queues, with their limits and their token buckets (see `Gate`).

    ``configured`` holds the limits as the app last configured them. ``enforced_rate`` and
    ``slowed_at`` were used by version 1 (see the slowdowns).
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
