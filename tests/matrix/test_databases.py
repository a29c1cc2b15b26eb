"""Other ways to have a database than Flask-SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import scoped_session, sessionmaker

from flask_taskqueue import ConfigurationError, State, TaskQueue
from tests.matrix.packages import package

lite = package("flask_sqlalchemy_lite")


def page() -> None:
    """A handler."""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A file for the app's database."""
    return f"sqlite:///{tmp_path / 'app.db'}"


def test_flask_sqlalchemy_lite_is_refused_by_name(make: Callable[..., Flask], uri: str) -> None:
    """Found in the app or given; with a database of its own the queue works beside it."""
    config = {"SQLALCHEMY_ENGINES": {"default": uri}}
    app, db = make(**config), lite.SQLAlchemy()
    db.init_app(app)
    refusal = r"flask_sqlalchemy_lite.*\.SQLAlchemy, and .*: set TASKQUEUE_DATABASE_URI"
    with pytest.raises(ConfigurationError, match=refusal):
        TaskQueue(app)
    with pytest.raises(ConfigurationError, match=refusal):
        TaskQueue(make(), db)
    app = make(**config, TASKQUEUE_DATABASE_URI=uri)
    db.init_app(app)
    tasks = TaskQueue(app)

    @tasks.worker("/w")
    def handler() -> None:
        db.session.execute(sa.text("CREATE TABLE made (id INTEGER)"))
        db.session.commit()

    with app.app_context():
        task = handler.add()
        tasks.drain()
        assert tasks.get(task.id).state is State.SUCCEEDED
        assert sa.inspect(db.engine).has_table("made")
        db.engine.dispose()


@pytest.mark.parametrize("declared_first", [True, False])
@pytest.mark.parametrize("kind", ["worker", "task"])
@pytest.mark.parametrize("database", ["lite", "plain"])
def test_a_transactional_handler_is_refused_without_a_session_to_share(
    make: Callable[..., Flask], uri: str, database: str, kind: str, declared_first: bool
) -> None:
    """When it is declared or when the app is set up, not at each of its attempts."""
    app, tasks = make(TASKQUEUE_DATABASE_URI=uri), TaskQueue()
    if database == "lite":
        app.config["SQLALCHEMY_ENGINES"] = {"default": uri}
        lite.SQLAlchemy(app)
    if not declared_first:
        tasks.init_app(app)
    declaration: Any = (
        tasks.worker("/w", endpoint="e", transactional=True)
        if kind == "worker"
        else tasks.task(name="f", transactional=True)
    )

    def set_up() -> None:
        declaration(page)
        tasks.init_app(app)

    with pytest.raises(ConfigurationError, match=r"is transactional, but .* no session shares"):
        set_up()


@pytest.mark.parametrize("kind", ["engine", "sessionmaker", "scoped_session", "session"])
def test_what_is_no_extension_is_refused_by_name(
    make: Callable[..., Flask], uri: str, kind: str
) -> None:
    """Given as the database of the queue."""
    engine = sa.create_engine(uri)
    factory = sessionmaker(engine)
    given: Any = {
        "engine": engine,
        "sessionmaker": factory,
        "scoped_session": scoped_session(factory),
        "session": factory(),
    }[kind]
    with pytest.raises(ConfigurationError, match=f"(?i){kind}.*: set TASKQUEUE_DATABASE_URI"):
        TaskQueue(make(), given)
