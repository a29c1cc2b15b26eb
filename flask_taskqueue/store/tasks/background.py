"""Bulk changes: changes of many tasks in the background, some at a time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import sqlalchemy as sa

from ...core.names import task_id
from ...core.times import duration_micros
from ..database.dialects import Dialect
from ..database.tables import Tables
from .changes import Tasks
from .filters import Filter, LastStatus, Visible
from .listings import Cursor, Listings, ListKind
from .selection import BATCH, Action

_KEPT = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Step:
    """The number of tasks that a bulk change has changed, and whether it is finished."""

    action: str
    changed: int
    is_last: bool


class BulkChanges:
    """A store of bulk changes that carries them out, a part in each transaction."""

    def __init__(self, tables: Tables, dialect: Dialect, listings: Listings, tasks: Tasks) -> None:
        self._bulk = tables.bulk
        self._now = dialect.now
        self._listings = listings
        self._tasks = tasks

    def add(
        self,
        connection: sa.Connection,
        action: Action,
        kind: ListKind,
        filter: Filter,
        *,
        visible: Visible | None = None,
        by: str | None,
        label: str,
        total: int | None,
    ) -> str:
        """Begin to change the tasks of a list that match; return the id of the change.

        It may wait for a dispatcher; tasks that are added meanwhile are left alone. ``label``
        describes these tasks to people; ``total`` is their number, if it is known.
        """
        bulk_id = task_id()
        row: dict[str, Any] = {
            "id": bulk_id,
            "created_at": self._now,
            "created_by": by,
            "action": action.value,
            "kind": kind.value,
            "told": label,
        }
        wanted = pack(replace(filter, before=bulk_id), visible)
        row |= {"wanted": wanted, "total": total, "looked_at": 0, "changed": 0}
        connection.execute(sa.insert(self._bulk).values(row))
        return bulk_id

    def latest(self, connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
        """Return the latest bulk changes, the latest first."""
        return list(
            connection.execute(sa.select(self._bulk).order_by(self._bulk.c.id.desc()).limit(limit))
        )

    def unfinished(self, connection: sa.Connection) -> list[str]:
        """Return the ids of the changes that have not ended, the oldest first."""
        bulk = self._bulk
        return list(
            connection.scalars(
                sa.select(bulk.c.id).where(bulk.c.finished_at.is_(None)).order_by(bulk.c.id)
            )
        )

    def go_on(self, connection: sa.Connection, bulk_id: str) -> Step | None:
        """Change the next tasks, and return the progress that this made.

        Returns None, without waiting, if the change has ended or somebody else works on it.
        """
        bulk = self._bulk
        mine = sa.and_(bulk.c.id == bulk_id, bulk.c.finished_at.is_(None))
        row = connection.execute(
            sa.select(bulk).where(mine).with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        filter, visible = unpack(row.wanted)
        if Action(row.action).starts:
            filter = replace(filter, untried_since=row.created_at)
        listing = self._listings.page(
            connection, ListKind(row.kind), filter, Cursor.parse(row.place or ""), BATCH, visible
        )
        changed = (
            self._tasks.change_some(connection, Filter(ids=listing.ids), Action(row.action))
            if listing.ids
            else 0
        )
        values: dict[str, Any] = {
            "looked_at": row.looked_at + len(listing.ids),
            "changed": row.changed + changed,
        }
        values |= (
            {"finished_at": self._now} if listing.next is None else {"place": str(listing.next)}
        )
        connection.execute(sa.update(bulk).where(bulk.c.id == bulk_id).values(values))
        return Step(row.action, values["changed"], is_last=listing.next is None)

    def prune(self, connection: sa.Connection) -> int:
        """Forget changes that ended more than 30 days ago; return how many."""
        old = self._bulk.c.finished_at < self._now - duration_micros(_KEPT)
        return connection.execute(sa.delete(self._bulk).where(old)).rowcount


def pack(filter: Filter, visible: Visible | None) -> str:
    """Return a filter in the form in which it is stored."""
    given = {
        field.name: getattr(filter, field.name)
        for field in fields(filter)
        if getattr(filter, field.name) is not None
    }
    if filter.status is not None:
        given["status"] = asdict(filter.status)
    return json.dumps(given if visible is None else {**given, "visible": visible.packed()})


def unpack(text: str) -> tuple[Filter, Visible | None]:
    """Return the filter that `pack` stored."""
    given = json.loads(text)
    visible = Visible.of(given.pop("visible", None))
    if "status" in given:
        given["status"] = LastStatus(**given["status"])
    return Filter(**given), visible
