"""Renewing the leases of a dispatcher that lives and is silent."""

from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.names import lease_id
from flask_taskqueue.engine.in_flight import Heartbeat, InFlight, renew_for
from tests.apps import bench
from tests.databases import TestDatabase


def test_what_has_passed_its_deadline_by_a_lease_is_not_renewed(database: TestDatabase) -> None:
    """A handler that nobody can interrupt must not keep its task for ever; what is within its
    own deadline is renewed.
    """
    settings = {
        "TASKQUEUE_LEASE": 100,
        "TASKQUEUE_DEADLINE": 50,
        "TASKQUEUE_QUEUES": {"default": {}, "slow": {"deadline": 600}},
    }
    with bench(database.url, **settings) as queue:
        queue.tasks.worker("/w")(lambda: None)
        runtime = queue.runtime
        store, table = runtime.store, runtime.store.database.tables.task
        names = {
            "young": queue.tasks.add("/w"),
            "late": queue.tasks.add("/w"),
            "own deadline": queue.tasks.add("/w", deadline=600),
            "its queue's": queue.tasks.add("/w", queue="slow"),
            "another's": queue.tasks.add("/w"),
        }
        age = {"young": 60, "another's": 60}
        for name, task in names.items():
            held_by = "other" if name == "another's" else "me"
            changes = {"state": "leased", "attempts": 1, "lease_id": lease_id(), "held_by": held_by}
            now = store.database.dialect.now
            changes |= {
                "due_at": now - 1_000_000,
                "started_at": now - age.get(name, 500) * 1_000_000,
            }
            store.transact(
                lambda connection, i=task.id, c=changes: connection.execute(
                    sa.update(table).where(table.c.id == i).values(c)
                )
            )
        renew_for(store, runtime.settings, "me")
        with store.reading() as connection:
            held = set(
                connection.scalars(
                    sa.select(table.c.id).where(table.c.due_at > store.database.dialect.now)
                )
            )
        assert {name for name, task in names.items() if task.id in held} == {
            "young",
            "own deadline",
            "its queue's",
        }


@pytest.mark.slow
def test_an_idle_heartbeat_knows_that_nobody_can_renew(
    sqlite_database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """While the application has the only write lock. Nothing of this process is lost meanwhile, so
    it does not complain, and it shows that it lives.
    """
    with bench(sqlite_database.url) as queue:
        pulses: list[bool] = []
        heartbeat = Heartbeat(queue.store, InFlight(), 30.0, lambda: pulses.append(True))
        begun = heartbeat.renewed_at
        engine = sa.create_engine(sqlite_database.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql("UPDATE counter SET count = 1")
            heartbeat.beat()
            connection.rollback()
        assert (heartbeat.renewed_at, len(pulses)) == (begun, 2)
        heartbeat.beat()
        assert heartbeat.renewed_at > begun
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
