"""Conditions on the state, written so that the index of the live tasks is used."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.states import LIVE, State

LIVE_ROWS = sa.text("due_at IS NOT NULL")
"""Which rows the index holds, where a database has partial indexes: finished tasks have no ``due_at``."""
NAMED_ROWS = sa.text("name IS NOT NULL")
UNIQUE_ROWS = sa.text("unique_key IS NOT NULL")
LOCKED_ROWS = sa.text("lock_key IS NOT NULL")


def is_state(table: sa.Table, state: State) -> sa.ColumnElement[bool]:
    """Whether a row has this state. For a live one it says so again in the words of the partial index."""
    condition = table.c.state == state.value
    return sa.and_(condition, table.c.due_at.is_not(None)) if state in LIVE else condition
