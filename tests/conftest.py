"""Fixtures that tests of several floors use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps import Bench, bench
from tests.databases import NAMES, Servers, TestDatabase, fresh


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The database servers of this run."""
    # Not below pytest's own directory, which nobody else may enter: as root, PostgreSQL runs as another user.
    directory = Path(tempfile.mkdtemp(prefix="taskqueue-servers-"))
    directory.chmod(0o755)
    found = Servers(directory)
    yield found
    found.close()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=NAMES)
def database(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[TestDatabase]:
    """An empty database, of each kind in turn."""
    with fresh(request.param, servers, tmp_path) as empty:
        yield empty


@pytest.fixture
def sqlite_database(servers: Servers, tmp_path: Path) -> Iterator[TestDatabase]:
    """An empty SQLite file."""
    with fresh("sqlite", servers, tmp_path) as empty:
        yield empty


@pytest.fixture
def on_sqlite(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application on a SQLite file."""
    with bench(sqlite_database.url) as one:
        yield one
