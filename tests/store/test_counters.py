"""The meter: counts that only ever grow."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from flask_taskqueue.core.metrics import MEASURES
from flask_taskqueue.store import Store


def test_adding_up_changes_no_sum(store: Store) -> None:
    """Rows of many sources become one for each queue."""
    meter, table = store.counters.measures, store.database.tables.meter
    for number in range(1, 61):
        store.transact(
            lambda connection, by=number: meter.add(
                connection, [("default", {"success": by}), ("mail", {"crash": 1})], f"source {by}"
            )
        )

    def sums() -> list[tuple[Any, ...]]:
        columns = [sa.func.sum(table.c[name]) for name in MEASURES]
        with store.reading() as connection:
            return [
                tuple(map(int, row[1:]))
                for row in connection.execute(
                    sa.select(table.c.queue, *columns).group_by(table.c.queue)
                )
            ]

    before = sums()
    assert store.transact(meter.merge) == 120
    assert store.transact(meter.merge) == 0
    assert sums() == before
    with store.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 2
