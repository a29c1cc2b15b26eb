"""The tables of counters."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.metrics import MEASURES
from .dialects.types import token

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
