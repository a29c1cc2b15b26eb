"""Fixtures that tests of several floors use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
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


@pytest.fixture(scope="session")
def kept(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], TestDatabase]]:
    """A database of each kind that one test leaves to the next: to make the tables takes longer than most tests."""
    with ExitStack() as stack:
        yield lru_cache(lambda name: stack.enter_context(fresh(name, servers, tmp_path_factory.mktemp(name))))


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
