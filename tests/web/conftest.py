"""An application on SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps import Bench, bench
from tests.databases import TestDatabase


@pytest.fixture
def on_sqlite(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application on a SQLite file."""
    with bench(sqlite_database.url) as one:
        yield one
