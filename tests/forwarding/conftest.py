"""Apps one of whose queues has Cloud Tasks as its engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps import Bench, bench, served
from tests.cloud import Cloud, cloud_tasks
from tests.databases import TestDatabase


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A Cloud Tasks."""
    with cloud_tasks() as one:
        yield one


@pytest.fixture
def app(database: TestDatabase, cloud: Cloud) -> Iterator[Bench]:
    """An app on each database, which Cloud Tasks reaches."""
    with bench(database.url, **cloud.settings()) as one:
        add_workers(one)
        with served(one.app) as cloud.app_url:
            yield one


def add_workers(one: Bench) -> None:
    """A worker that counts in its task's transaction."""

    @one.tasks.worker("/count", queue="mail", transactional=True)
    def count(by: int = 1) -> None:
        one.db.session.get(one.Counter, 1).count += by
