"""Fixtures: an app behind each of the doors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cloudtasks.doors import DOORS, Door, door
from tests.databases import TestDatabase


@pytest.fixture(params=DOORS)
def google(request: pytest.FixtureRequest, sqlite_database: TestDatabase) -> Iterator[Door]:
    """Google's client by each of the doors, of an app on SQLite."""
    with door(request.param, sqlite_database.url) as one:

        @one.bench.tasks.worker("/worker", methods=["POST", "GET", "PUT"])
        def worker() -> None:
            pass

        yield one
