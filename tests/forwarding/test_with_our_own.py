"""What the engine asks of Cloud Tasks, answered by our own API: REST, in process, gRPC."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_taskqueue.core.states import Record
from flask_taskqueue.core.times import to_micros
from flask_taskqueue.engine.cloud_tasks import CloudTasksEngine, UnavailableError
from tests.cloudtasks.doors import BASE, PARENT, door
from tests.databases import TestDatabase


@pytest.mark.parametrize("name", ["rest", "channel", "grpc"])
def test_creating_twice_is_creating_once_and_what_is_gone_is_gone(
    sqlite_database: TestDatabase, name: str
) -> None:
    """Whichever way the official client speaks."""
    with door(name, sqlite_database.url) as there:
        settings = replace(
            there.bench.runtime.settings,
            cloudtasks_parent=PARENT,
            cloudtasks_service_account="tasks@guests.iam.gserviceaccount.com",
            cloudtasks_client=lambda: there.client,
            base_url=BASE,
        )
        engine = CloudTasksEngine(settings)
        there.bench.tasks.worker("/count")(lambda: None)
        record = row(there.bench.tasks.add("/count", countdown="1h"), there)
        for _ in range(2):
            engine.create(record)
        assert engine.has(record)
        engine.delete(record)
        engine.delete(record)
        assert not engine.has(record)
        with pytest.raises(UnavailableError):
            engine.create(record._replace(queue="nowhere"))
        with pytest.raises(UnavailableError):
            engine.has(record._replace(queue="nowhere"))


def row(task: Any, there: Any) -> Record:
    """The row of a task as its forwarder has it."""
    with there.bench.store.reading() as connection:
        found = there.bench.store.tasks.get(connection, task.id)
    return found._replace(forwarded_for=to_micros(task.eta))
