"""Fixtures that tests of several floors use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import NAMES, Servers, TestDatabase, fresh


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    """The database servers of this run."""
    return Servers(tmp_path_factory.mktemp("servers"))


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
