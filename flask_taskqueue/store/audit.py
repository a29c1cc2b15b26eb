"""The audit log: who changed what on the dashboard."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..core.clock import duration_micros
from ..core.ids import task_id
from .dialects import Dialect
from .tables import Tables

_KEPT = 90 * 86_400.0


class Audit:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._audit = tables.audit
        self._now = dialect.now

    def add(self, connection: sa.Connection, *, who: str | None, address: str | None, action: str, subject: str, changed: int) -> None:
        """Log an action and how much it changed."""
        row = {"id": task_id(), "at": self._now, "who": who, "address": address, "action": action, "subject": subject, "changed": changed}
        connection.execute(sa.insert(self._audit).values(row))

    def latest(self, connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
        """The latest actions, the latest first."""
        return list(connection.execute(sa.select(self._audit).order_by(self._audit.c.id.desc()).limit(limit)))

    def prune(self, connection: sa.Connection) -> int:
        """Forget actions of more than 90 days ago; how many."""
        old = self._audit.c.at < self._now - duration_micros(_KEPT)
        return connection.execute(sa.delete(self._audit).where(old)).rowcount
