"""The audit log, which records who changed what on the dashboard and by commands."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..core.times import duration_micros
from .database.dialects import Dialect
from .database.tables import Tables

_KEPT = 90 * 86_400.0


class Audit:
    """A store of the audit log; each method joins its connection's transaction."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._audit = tables.audit
        self._now = dialect.now

    def add(
        self,
        connection: sa.Connection,
        entry: str,
        *,
        who: str | None,
        address: str | None,
        action: str,
        subject: str,
        changed: int,
    ) -> None:
        """Log an action, and how much it changed, as the entry with this id.

        If a further transaction of the same action changes more, that is added to the same entry.
        """
        audit = self._audit
        if connection.scalar(sa.select(audit.c.id).where(audit.c.id == entry)) is not None:
            connection.execute(
                sa.update(audit)
                .where(audit.c.id == entry)
                .values(changed=audit.c.changed + changed)
            )
            return
        row = {
            "id": entry,
            "at": self._now,
            "who": who,
            "address": address,
            "action": action,
            "subject": subject,
            "changed": changed,
        }
        connection.execute(sa.insert(audit).values(row))

    def latest(self, connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
        """Return the latest actions, the latest first."""
        return list(
            connection.execute(
                sa.select(self._audit).order_by(self._audit.c.id.desc()).limit(limit)
            )
        )

    def prune(self, connection: sa.Connection) -> int:
        """Forget actions older than 90 days; return how many."""
        old = self._audit.c.at < self._now - duration_micros(_KEPT)
        return connection.execute(sa.delete(self._audit).where(old)).rowcount
