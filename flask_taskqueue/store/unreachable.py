"""Rows that no claim will ever find: of a queue that is none, or with a priority that is none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import sqlalchemy as sa

from ..core.fairness import PRIORITIES
from ..core.states import State
from .dialects.states import is_state
from .tables import Tables
from .tally import Tally, ends

MOST = 500


def end_unreachable(connection: sa.Connection, tables: Tables, now: sa.ColumnElement[int], tally: Tally) -> int:
    """End some of them as dead, with the reason; how many. ``add()`` stores none: they were written by hand.

    Each part of the condition is a range of the index of live tasks, so it costs nothing where there are none.
    """
    task = tables.task
    names = sorted(connection.scalars(sa.select(tables.queue.c.name)))
    found = sa.or_(*_foreign_queues(task, names), *_foreign_priorities(task, names))
    rows = connection.execute(sa.select(task.c.id, task.c.queue).where(is_state(task, State.SCHEDULED), found).limit(MOST)).all()
    if not rows:
        return 0
    ids = sorted(row.id for row in rows)
    ended = {
        "state": State.DEAD.value,
        "due_at": None,
        "finished_at": now,
        "unique_key": None,
        "last_reason": "permanent",
        "last_error": "the stored task is malformed: no such queue, or a priority that is none",
    }
    tally.add(connection, ends((row.queue, State.DEAD) for row in rows), "")
    return connection.execute(sa.update(task).where(task.c.id.in_(ids), is_state(task, State.SCHEDULED)).values(ended)).rowcount


def _foreign_queues(task: sa.Table, names: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """The gaps between the names of queues."""
    if not names:
        return [sa.true()]
    between = [sa.and_(task.c.queue > low, task.c.queue < high) for low, high in itertools.pairwise(names)]
    return [task.c.queue < names[0], *between, task.c.queue > names[-1]]


def _foreign_priorities(task: sa.Table, names: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    beyond = (task.c.priority < PRIORITIES[0], task.c.priority > PRIORITIES[-1])
    return [sa.and_(task.c.queue == name, outside) for name in names for outside in beyond]
