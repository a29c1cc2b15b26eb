"""The tables of counters, and those of the dashboard."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.metrics import MEASURES
from .dialects.types import LONG_TEXT, MICROS, TEXT, token, words

COUNTS = ("attempts", "failures", "succeeded", "dead", "cancelled")
ROLLUP_COUNTS = ("attempts", "failures")


def tally(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of counters, so that statistics need not count rows.

    Each row holds what one ``source`` did to one queue within one span of ten seconds. Each writer
    has a source of its own, so that no writer waits for another. ``succeeded``, ``dead`` and
    ``cancelled`` hold by how much the number of tasks in that state changed. Old rows are added up
    in slot 0.
    """
    return sa.Table(
        f"{prefix}tally",
        metadata,
        sa.Column("queue", token(100), primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", token(48), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
    )


def past(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of rollups: the attempts of thirty days, by queue and quarter of an hour.

    Its attempts have left the counters. ``slot`` is the counters' first slot of that quarter.
    """
    return sa.Table(
        f"{prefix}past",
        metadata,
        sa.Column("queue", token(100), primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ROLLUP_COUNTS),
    )


def meter(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of counts that only ever grow, for metrics.

    It counts attempts and ended tasks by kind, and holds the histograms. There is a row per queue
    and ``source``, with a source per writer as in the counters; old rows are added up in the source
    "".
    """
    return sa.Table(
        f"{prefix}meter",
        metadata,
        sa.Column("queue", token(100), primary_key=True),
        sa.Column("source", token(48), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in MEASURES),
    )


def audit(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the audit log: who changed what, and ``changed``, how many tasks.

    It has the actions of the dashboard and of commands; ``address`` is where they come from.
    """
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
