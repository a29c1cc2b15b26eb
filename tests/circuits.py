"""Circuits that are open."""

from __future__ import annotations

import sqlalchemy as sa

from flask_taskqueue.core.queues.circuits import OPENS_AT
from flask_taskqueue.core.queues.rates import FASTEST
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import Store


def open_circuit(store: Store, target: str, *, probe_in: int = 600) -> None:
    """Have a receiver's circuit open, whose next probe is some seconds away."""

    def work(connection: sa.Connection) -> None:
        now = connection.scalar(sa.select(store.database.dialect.now)) or 0
        recovered = dict.fromkeys(("slowed_at", "asked_at", "empty_at", "over_at"), now)
        connection.execute(
            sa.insert(store.database.tables.slowdown).values(
                target=target,
                status=0,
                retry_after=0.0,
                rate=FASTEST,
                **recovered,
                failures=OPENS_AT,
                failing_since=now - 60 * SECOND,
                failed_at=now,
                failure="connection",
                opened_at=now,
                probe_at=now + probe_in * SECOND,
            )
        )

    store.transact(work)
