"""Fixtures that tests of several floors use."""

from __future__ import annotations

import gc
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import settings

from flask_taskqueue.process.logs import SafeLogger
from flask_taskqueue.store.database import transaction, write_lock
from flask_taskqueue.web.monitoring import health
from tests.apps import Bench, bench, closing
from tests.databases import NAMES, Servers, TestDatabase, fresh
from tests.laid import Laid

# An example may take as long as the machine needs: what it finds does not depend on the clock.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """What is there for the whole run is not looked through again each time that memory is
    tidied up.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications have no route for App Engine's deferred because some other test imports it."""
    monkeypatch.delitem(sys.modules, "flask_taskqueue.appengine.deferred", raising=False)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The database servers of this run."""
    # Not below pytest's own directory, which nobody else may enter: as root, PostgreSQL runs as
    # another user.
    directory = Path(tempfile.mkdtemp(prefix="taskqueue-servers-"))
    directory.chmod(0o755)
    found = Servers(directory)
    yield found
    found.close()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def laid(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laid]:
    """Databases with tables and no rows."""
    with ExitStack() as stack:
        yield Laid(servers, tmp_path_factory.mktemp("laid"), stack)


@pytest.fixture(params=NAMES)
def database(request: pytest.FixtureRequest, laid: Laid, tmp_path: Path) -> Iterator[TestDatabase]:
    """A database with tables and no rows, of each kind in turn."""
    with laid.lend(request.param, tmp_path) as one:
        yield one


@pytest.fixture(params=NAMES)
def empty_database(
    request: pytest.FixtureRequest, servers: Servers, tmp_path: Path
) -> Iterator[TestDatabase]:
    """An empty database, of each kind in turn."""
    with fresh(request.param, servers, tmp_path) as empty:
        yield empty


@pytest.fixture(params=["postgresql", "mariadb"])
def on_a_server(
    request: pytest.FixtureRequest, laid: Laid, tmp_path: Path
) -> Iterator[TestDatabase]:
    """An empty database where one transaction can go on beside another."""
    with laid.lend(request.param, tmp_path) as empty:
        yield empty


@pytest.fixture
def sqlite_database(laid: Laid, tmp_path: Path) -> Iterator[TestDatabase]:
    """A SQLite file with tables and no rows."""
    with laid.lend("sqlite", tmp_path) as one:
        yield one


@pytest.fixture(autouse=True)
def _lost_messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """All that the queue wants to log is logged, except in tests with ``unlogged``."""
    messages: list[str] = []
    printing = SafeLogger._print

    def note(logger: SafeLogger, error: Exception, message: str) -> None:
        messages.append(message)
        printing(logger, error, message)

    monkeypatch.setattr(SafeLogger, "_print", note)
    yield messages
    assert messages == []


@pytest.fixture(autouse=True)
def _slow_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A health check takes as long as a slow machine needs."""
    assert health.TIMEOUT > 0
    monkeypatch.setattr(health, "TIMEOUT", 600.0)


@pytest.fixture
def unlogged(_lost_messages: list[str]) -> Iterator[list[str]]:
    """The messages of the queue that could not be logged."""
    yield _lost_messages
    _lost_messages.clear()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The queue's transactions wait for each other as long as a slow machine needs.

    Returns the configuration by which the application's engine waits as long on SQLite.
    """
    for module, name in (
        (transaction, "_PATIENCE"),
        (transaction, "_LOCK_PATIENCE"),
        (write_lock, "_PATIENCE"),
    ):
        assert getattr(module, name) > 0
        monkeypatch.setattr(module, name, 600.0)
    return {"SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"timeout": 600}}}


@pytest.fixture
def on_sqlite(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application on a SQLite file."""
    with bench(sqlite_database.url) as one:
        yield one


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Applications in testing, each with a database of the queue's own."""
    apps = ExitStack()
    number = count()

    def make_app(**config: Any) -> Flask:
        app = Flask(f"app{next(number)}", instance_path=str(tmp_path / str(next(number))))
        app.config.update(TESTING=True, SECRET_KEY="a secret for tests", **config)
        apps.enter_context(closing(app))
        return app

    with apps:
        yield make_app
