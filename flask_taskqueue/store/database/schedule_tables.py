"""The tables of schedules."""

from __future__ import annotations

import sqlalchemy as sa

from .dialects.types import LONG_TEXT, MICROS, TEXT, token, words


def schedule(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of schedules.

    ``next_at`` is the next fire time, ``task`` the task that it adds (see `pack`).
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
