"""The tables of counters."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.metrics import MEASURES
from .dialects.types import token

COUNTS = ("attempts", "failures", "succeeded", "dead", "cancelled")
ROLLUP_COUNTS = ("attempts", "failures")


def tally(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """The counters, so that statistics need not count rows.

    Each row is what one ``source`` did to one queue in one span of ten seconds. Each writer has a
    source of its own, so that nobody waits. ``succeeded``, ``dead`` and ``cancelled`` are changes
    of how many tasks have that state; the rows of the past are added up in slot 0.
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
    """The attempts of thirty days, by queue and quarter of an hour, as rolled up.

    They have left the counters. ``slot`` is the counters' first of that quarter.
    """
    return sa.Table(
        f"{prefix}past",
        metadata,
        sa.Column("queue", token(100), primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ROLLUP_COUNTS),
    )


def meter(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """The counts that only ever grow, for metrics: attempts and ends by kind, histograms.

    There is a row per queue and ``source``, which is one per writer as in the counters; those of
    the past are added up in the source "".
    """
    return sa.Table(
        f"{prefix}meter",
        metadata,
        sa.Column("queue", token(100), primary_key=True),
        sa.Column("source", token(48), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in MEASURES),
    )
