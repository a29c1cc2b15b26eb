"""The tables of the dashboard."""

from __future__ import annotations

import sqlalchemy as sa

from .dialects.types import LONG_TEXT, MICROS, TEXT, token, words


def audit(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the audit log: who changed what on the dashboard, and ``changed``, how many tasks."""
    return sa.Table(
        f"{prefix}audit",
        metadata,
        sa.Column("id", token(26), primary_key=True),
        sa.Column("at", MICROS, nullable=False),
        sa.Column("who", words(100)),
        sa.Column("address", token(64)),
        sa.Column("action", token(40), nullable=False),
        sa.Column("subject", TEXT),
        sa.Column("changed", sa.Integer, nullable=False),
    )


def bulk(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of bulk changes, which run in the background.

    ``place`` is how far each has come. See `BulkChanges`.
    """
    return sa.Table(
        f"{prefix}bulk",
        metadata,
        sa.Column("id", token(26), primary_key=True),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("created_by", words(100)),
        sa.Column("action", token(20), nullable=False),
        sa.Column("kind", token(20), nullable=False),
        sa.Column("wanted", LONG_TEXT, nullable=False),
        sa.Column("told", TEXT),
        *(sa.Column(name, sa.Integer) for name in ("total", "looked_at", "changed")),
        sa.Column("place", token(60)),
        sa.Column("finished_at", MICROS),
    )
