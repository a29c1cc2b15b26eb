"""Sessions that are not quite the one the application was set up with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, Response, send_file
from flask_sqlalchemy import SQLAlchemy

from flask_taskqueue import BadTransactionStateError, State, TaskQueue
from tests.apps import Bench, bench, closing
from tests.databases import TestDatabase
from tests.laid import Laid
from tests.web.test_joining import begin_explicitly

ONCE: Any = {"task_retry_limit": 0}


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application."""
    with bench(database.url) as one, one.app.app_context():
        one.tasks.worker("/w", endpoint="w")(lambda: None)
        yield one


def change(queue: Bench) -> None:
    """Change a row in the session, without a commit."""
    queue.db.session.execute(sa.update(queue.Counter).values(count=queue.Counter.count + 1))


def test_a_session_that_takes_the_place_of_another_is_followed_too(queue: Bench) -> None:
    """As fixtures of tests do it."""
    queue.db.session.remove()
    queue.db.session = queue.db._make_scoped_session({"expire_on_commit": False})
    known = queue.tasks.add("/w")
    change(queue)
    task = queue.tasks.add("/w")
    assert not task.is_committed
    queue.db.session.rollback()
    assert [one.id for one in queue.tasks.find()] == [known.id]
    change(queue)
    task = queue.tasks.add("/w")
    queue.db.session.commit()
    assert task.is_committed
    assert queue.run(task).state is State.SUCCEEDED


def test_a_session_that_has_begun_before_it_was_known_is_refused(queue: Bench) -> None:
    """Nobody can tell what it has done."""
    queue.db.session.remove()
    queue.db.session = queue.db._make_scoped_session({})
    change(queue)
    queue.db.session.flush()
    for transactional in (None, True):
        with pytest.raises(BadTransactionStateError, match="taken the place"):
            queue.tasks.add("/w", transactional=transactional)
    queue.db.session.rollback()
    queue.tasks.add("/w")
    assert len(queue.tasks.find()) == 1


def test_a_connection_that_commits_each_statement_is_no_transaction_to_join(queue: Bench) -> None:
    queue.db.session.remove()
    queue.db.session.connection(
        bind_arguments={"bind": queue.db.engine},
        execution_options={"isolation_level": "AUTOCOMMIT"},
    )
    change(queue)
    with pytest.raises(BadTransactionStateError, match="AUTOCOMMIT"):
        queue.tasks.add("/w", transactional=True)
    assert queue.tasks.find() == []
    task = queue.tasks.add("/w")  # what was changed is committed, and so is this
    assert task.is_committed
    queue.db.session.rollback()
    assert queue.count() == 1


def test_a_handler_whose_connection_commits_each_statement_fails(queue: Bench) -> None:
    """Its changes would not be undone with its attempt, so it does not begin."""

    def prepare() -> None:
        queue.db.session.connection(
            bind_arguments={"bind": queue.db.engine},
            execution_options={"isolation_level": "AUTOCOMMIT"},
        )

    queue.tasks.worker("/t", endpoint="t", transactional=True)(lambda: change(queue))
    queue.app.before_request(prepare)
    task = queue.run(queue.tasks.add("/t", retry=ONCE))
    assert task.state is State.DEAD
    assert "AUTOCOMMIT" in str(task.last_error)
    assert queue.count() == 0


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE"])
def test_on_sqlite_a_task_ends_no_result_that_is_being_read(
    laid: Laid, tmp_path: Path, begin: str
) -> None:
    """Although the session's transaction has made way for it."""
    with laid.lend("sqlite", tmp_path) as database, bench(database.url) as queue:
        queue.tasks.worker("/w", endpoint="w")(lambda: None)
        queue.tasks.add("/w")
        begin_explicitly(queue.db.engine, begin)
        session = queue.db.session
        session.add_all(queue.Counter(id=number, count=0) for number in range(2, 50))
        session.commit()
        some = sa.select(queue.Counter.id).execution_options(yield_per=5)
        for number in session.scalars(some):
            if number == 7:
                task = queue.tasks.add("/w")
        assert number == 49
        assert task.is_committed
        session.commit()
        change(queue)
        session.commit()
        assert queue.count() == 1


def test_a_body_that_is_passed_through_is_part_of_the_handler(queue: Bench) -> None:
    def body() -> Iterator[bytes]:
        yield b"a"
        change(queue)
        raise RuntimeError("no")

    queue.tasks.worker("/t", endpoint="t", transactional=True)(
        lambda: Response(body(), direct_passthrough=True)
    )
    assert queue.run(queue.tasks.add("/t", retry=ONCE)).state is State.DEAD
    assert queue.count() == 0


def test_a_file_is_sent_as_it_is(queue: Bench) -> None:
    queue.tasks.worker("/t", endpoint="t", transactional=True)(lambda: send_file(__file__))
    assert queue.run(queue.tasks.add("/t", retry=ONCE)).state is State.SUCCEEDED


def test_a_change_of_the_same_file_on_another_connection_is_refused_at_once(
    tmp_path: Path,
) -> None:
    """It has the only write lock, and would be waited for in vain."""
    file = f"sqlite:///{tmp_path / 'app.db'}"
    app = Flask(__name__)
    app.config.update(
        TESTING=True,
        SECRET_KEY="a secret for tests",
        SQLALCHEMY_DATABASE_URI=file,
        SQLALCHEMY_BINDS={"other": file},
    )
    db: Any = SQLAlchemy(app)
    tasks = TaskQueue(app, db)
    tasks.worker("/w", endpoint="w")(lambda: None)

    class Other(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id = sa.Column(sa.Integer, primary_key=True)

    with app.app_context(), closing(app):
        db.create_all()
        tasks.add("/w")
        db.session.add(Other(id=1))
        db.session.flush()
        with pytest.raises(BadTransactionStateError, match="another connection"):
            tasks.add("/w")
        db.session.commit()
        tasks.add("/w")
        assert len(tasks.find()) == 2
