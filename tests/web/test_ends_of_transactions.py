"""Where the session's transaction is not simply one: savepoints that end, flushes that fail,
other databases, other sessions, sessions in another's place, connections that commit by
themselves, bodies that run on, and children.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, Response, g, send_file
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import scoped_session, sessionmaker

from flask_taskqueue import BadTransactionStateError, State, TaskQueue
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench, closing
from tests.databases import Servers, TestDatabase, fresh
from tests.laid import Laid
from tests.waiting import wait_until
from tests.web.test_joining import begin_explicitly

ONCE: Any = {"task_retry_limit": 0}


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application."""
    with bench(database.url) as one, one.app.app_context():
        one.tasks.worker("/w", endpoint="w")(lambda: None)
        yield one


@pytest.fixture
def beginning(database: TestDatabase) -> Iterator[Bench]:
    """An application whose session begins no transaction by itself."""
    with bench(database.url, session_options={"autobegin": False}) as one:
        one.tasks.worker("/w", endpoint="w")(lambda: None)
        yield one


def test_a_session_that_begins_nothing_by_itself(beginning: Bench) -> None:
    """A transactional handler has a transaction all the same, and a test can run it; elsewhere the
    application begins those that tasks are part of.
    """
    queue = beginning
    session = queue.db.session

    @queue.tasks.worker("/add", transactional=True, retry=ONCE)
    def add(n: int) -> Any:
        with session.begin_nested():
            session.get(queue.Counter, 1).count += n
        return ("no", 500) if n > 5 else None

    def count() -> int:
        with session.begin():
            return int(session.get(queue.Counter, 1).count)

    for n, counted in ((7, 0), (3, 3)):
        assert add.add(n).is_committed
        queue.tasks.drain()
        assert count() == counted
    with session.begin():
        session.get(queue.Counter, 1).count += 1
        task = add.add(2)
    assert task.is_committed
    queue.tasks.drain()
    assert count() == 6
    with pytest.raises(BadTransactionStateError, match=r"begin one \(autobegin=False\)"):
        queue.tasks.add("/w", transactional=True)
    with TaskQueueTester(queue.app) as tester:
        queue.tasks.add("/add", {"n": 4})
        assert tester.run_due().ok


def test_a_handler_that_looks_at_another_schema(servers: Servers, tmp_path: Path) -> None:
    """It has not lost its lease: its task is not there. Back in its own schema, it succeeds."""
    with fresh("postgresql", servers, tmp_path) as database, bench(database.url) as queue:
        session = queue.db.session

        @queue.tasks.worker("/tenant", transactional=True, retry=ONCE)
        def tenant(back: bool) -> None:
            session.execute(sa.text("SET LOCAL search_path TO tenant"))
            session.execute(sa.text("UPDATE counter SET count = count + 1"))
            if back:
                session.execute(sa.text("SET LOCAL search_path TO public"))

        def count() -> int:
            with queue.db.engine.connect() as connection:
                return int(connection.scalar(sa.text("SELECT count FROM tenant.counter")))

        with queue.db.engine.begin() as connection:
            connection.execute(sa.text("CREATE SCHEMA tenant"))
            connection.execute(sa.text("SET LOCAL search_path TO tenant"))
            queue.db.metadata.create_all(connection, checkfirst=False)
            connection.execute(sa.text("INSERT INTO counter VALUES (1, 0)"))
        task = queue.run(tenant.add(back=False))
        assert task.state is State.DEAD
        assert "schema tenant; SET search_path, perhaps" in str(task.last_error)
        assert count() == 0
        assert queue.run(tenant.add(back=True)).state is State.SUCCEEDED
        assert count() == 1


def add_after_each_commit(queue: Bench) -> None:
    """A hook as it is written where a task belongs to what was committed."""
    sa.event.listen(queue.db.session, "after_commit", lambda _: queue.tasks.add("/w"))


def test_the_end_of_a_savepoint_commits_nothing(queue: Bench) -> None:
    """What a hook adds then is part of the transaction around it."""
    add_after_each_commit(queue)
    session = queue.db.session
    session.add(queue.Counter(id=2, count=0))
    with session.begin_nested():
        session.add(queue.Counter(id=3, count=0))
    session.rollback()
    assert queue.tasks.find() == []
    with session.begin_nested():
        session.add(queue.Counter(id=3, count=0))
    session.commit()
    assert len(queue.tasks.find()) == 2


def test_a_failed_handler_leaves_no_task_of_its_hooks(queue: Bench) -> None:
    """However often it is tried."""

    def handler() -> None:
        with queue.db.session.begin_nested():
            queue.db.session.add(queue.Counter(id=2, count=0))
        raise RuntimeError("no")

    queue.tasks.worker("/fails", endpoint="fails", transactional=True)(handler)
    add_after_each_commit(queue)
    task = queue.tasks.add("/fails", retry=ONCE, transactional=False)
    queue.tasks.drain()
    assert [task.id for task in queue.tasks.find()] == [task.id]
    assert queue.tasks.get(task.id).state is State.DEAD


def test_after_a_failed_flush_a_transactional_handler_adds_nothing(queue: Bench) -> None:
    """Its transaction can only be rolled back, which it hears at the call."""
    heard: list[Exception] = []

    def handler() -> None:
        queue.db.session.add(queue.Counter(id=1, count=0))
        with pytest.raises(sa.exc.IntegrityError):
            queue.db.session.flush()
        try:
            queue.tasks.add("/w")
        except BadTransactionStateError as error:
            heard.append(error)

    queue.tasks.worker("/flushes", endpoint="flushes", transactional=True)(handler)
    task = queue.tasks.add("/flushes", retry=ONCE)
    queue.tasks.drain()
    assert len(heard) == 1
    assert [task.id for task in queue.tasks.find()] == [task.id]


def test_what_the_database_has_undone_is_not_committed(queue: Bench) -> None:
    """PostgreSQL undoes a transaction in which a statement failed, and says nothing at the commit;
    in a savepoint it undoes that. The others go on.
    """
    session = queue.db.session
    session.execute(sa.update(queue.Counter).values(count=1))
    task = queue.tasks.add("/w")
    with pytest.raises(sa.exc.DBAPIError), session.begin_nested():
        session.execute(sa.text("SELECT no_such_function()"))
    session.commit()
    assert task.is_committed
    session.execute(sa.update(queue.Counter).values(count=2))
    task = queue.tasks.add("/w")
    with pytest.raises(sa.exc.DBAPIError):
        session.execute(sa.text("SELECT no_such_function()"))
    if queue.db.engine.dialect.name == "postgresql":
        with pytest.raises(BadTransactionStateError, match="undone"):
            session.commit()
        session.rollback()
    else:
        session.commit()
    assert task.is_committed == (queue.count() == 2)
    assert len(queue.tasks.find()) == queue.count()


def test_a_deadlock_undoes_what_was_added(queue: Bench) -> None:
    """On MariaDB the whole transaction; who repeats only the last statement hears it."""
    if queue.db.engine.dialect.name != "mysql":
        pytest.skip("of MariaDB only")
    session, other = queue.db.session, queue.db.engine.connect()
    counter = queue.Counter
    session.add_all([counter(id=number, count=0) for number in range(2, 30)])
    session.commit()
    other.begin()
    waiting = re.compile(
        rf"LOCK WAIT[^\n]*\n[^\n]*thread id {other.scalar(sa.text('SELECT connection_id()'))},"
    )
    other.execute(sa.update(counter).where(counter.id >= 2).values(count=1))
    session.execute(sa.update(counter).where(counter.id == 1).values(count=1))
    task = queue.tasks.add("/w")
    waits = threading.Thread(
        target=lambda: other.execute(sa.update(counter).where(counter.id == 1).values(count=2))
    )
    waits.start()

    def other_waits() -> bool:
        # Not innodb_trx, whose contents stay old while several look at it all the time.
        status = looks.execute(sa.text("SHOW ENGINE INNODB STATUS")).one()
        return waiting.search(status[2]) is not None

    with queue.db.engine.connect() as looks:
        wait_until(other_waits, what="the other one waits")
    with pytest.raises(sa.exc.OperationalError):
        session.execute(sa.update(counter).where(counter.id == 2).values(count=3))
    waits.join()
    other.rollback()
    other.close()
    session.execute(sa.update(counter).where(counter.id == 2).values(count=3))
    with pytest.raises(BadTransactionStateError, match="undone"):
        session.commit()
    session.rollback()
    assert not task.is_committed
    assert queue.tasks.find() == []


def test_other_sessions_may_commit_while_a_transactional_handler_runs(queue: Bench) -> None:
    """Only its own may not, nor the one that takes its place."""
    if queue.db.engine.dialect.name == "sqlite":
        pytest.skip("one writer: another session waits for the handler's")

    def handler() -> None:
        with queue.db.session.session_factory() as session:
            session.add(queue.Counter(id=2, count=0))
            session.commit()
        with queue.app.app_context():
            queue.db.session.add(queue.Counter(id=3, count=0))
            queue.db.session.commit()
        with pytest.raises(BadTransactionStateError, match="must not commit"):
            queue.db.session.commit()

    queue.tasks.worker("/others", endpoint="others", transactional=True)(handler)
    task = queue.tasks.add("/others", retry=ONCE)
    queue.tasks.drain()
    assert queue.tasks.get(task.id).state is State.SUCCEEDED, queue.tasks.get(task.id).last_error
    assert queue.db.session.scalar(sa.select(sa.func.count()).select_from(queue.Counter)) == 3


def test_a_refused_commit_leaves_nothing_in_the_pool(queue: Bench) -> None:
    """Nobody who gets the connection later commits what the handler has changed."""

    def handler() -> None:
        queue.db.session.add(queue.Counter(id=2, count=0))
        queue.db.session.flush()
        transaction = queue.db.session.connection().get_transaction()
        assert transaction is not None
        transaction.commit()

    queue.tasks.worker("/commits", endpoint="commits", transactional=True)(handler)
    task = queue.tasks.add("/commits", retry=ONCE)
    queue.tasks.drain()
    assert queue.tasks.get(task.id).state is State.DEAD
    queue.db.session.remove()
    for _ in range(queue.db.engine.pool.size()):
        queue.db.session.execute(sa.update(queue.Counter).values(count=1))
        queue.db.session.commit()
    assert queue.db.session.get(queue.Counter, 2) is None


def test_a_task_is_committed_after_the_other_databases(
    database: TestDatabase, tmp_path: Path
) -> None:
    """Where the commit of another one fails, the task is not stored and never runs."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="x",
        TESTING=True,
        SQLALCHEMY_DATABASE_URI=database.url,
        SQLALCHEMY_BINDS={"other": f"sqlite:///{tmp_path / 'other.db'}"},
    )
    db = SQLAlchemy(app)
    tasks = TaskQueue(app)
    tasks.worker("/w")(lambda: None)

    class Parent(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id = db.Column(db.Integer, primary_key=True)

    class Child(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id = db.Column(db.Integer, primary_key=True)
        parent = db.Column(db.ForeignKey(Parent.id, deferrable=True, initially="DEFERRED"))

    with closing(app), app.app_context():
        sa.event.listen(
            db.engines["other"],
            "connect",
            lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"),
        )
        db.create_all()
        for number in range(10):  # in whatever order they are committed
            db.session.add(Child(id=number, parent=999))
            db.session.flush()
            task = tasks.add("/w")
            assert not task.is_committed
            with pytest.raises(sa.exc.IntegrityError):
                db.session.commit()
            db.session.rollback()
            assert not task.is_committed
        assert tasks.find() == []
        db.session.add_all([Parent(id=1), Child(id=1, parent=1)])
        db.session.flush()
        task = tasks.add("/w")
        db.session.commit()
        assert task.is_committed
        assert len(tasks.find()) == 1
        assert db.session.get(Child, 1) is not None


def child(queue: Bench, answers: Any) -> None:
    """What a process adds that was forked by a transactional handler."""
    try:
        answers.put(queue.tasks.add("/w").is_committed)
    except BadTransactionStateError as error:
        answers.put(str(error))


def test_a_child_of_a_transactional_handler_has_no_part_in_its_transaction(queue: Bench) -> None:
    """What it adds is stored at once, or on SQLite, where that cannot be, refused."""
    fork = multiprocessing.get_context("fork")
    answers: list[object] = []

    def handler() -> None:
        queue.db.session.execute(sa.update(queue.Counter).values(count=1))
        answer = fork.Queue()
        process = fork.Process(target=child, args=(queue, answer))
        process.start()
        answers.append(answer.get(timeout=60))
        process.join()
        raise RuntimeError("no")

    queue.tasks.worker("/forks", endpoint="forks", transactional=True)(handler)
    queue.tasks.add("/forks", retry=ONCE)
    queue.tasks.drain()
    stored = [task for task in queue.tasks.find() if task.url == "/w"]
    if queue.db.engine.dialect.name == "sqlite":
        assert "was forked while a transaction of its parent" in str(answers[0])
        assert stored == []
    else:
        assert answers == [True]
        assert len(stored) == 1


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
    assert [task.id for task in queue.tasks.find()] == [known.id]
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


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_transaction_that_has_failed_takes_no_task(queue: Bench) -> None:
    """It says so, and what to do."""
    change(queue)
    with pytest.raises(sa.exc.DBAPIError):
        queue.db.session.execute(sa.text("SELECT 1 / 0"))
    with pytest.raises(BadTransactionStateError, match="roll the session back"):
        queue.tasks.add("/w")
    queue.db.session.rollback()
    assert queue.tasks.add("/w").is_committed


@pytest.fixture
def threaded(database: TestDatabase) -> Iterator[Bench]:
    """An application whose sessions belong to threads, as they did in Flask-SQLAlchemy 2."""
    with bench(database.url, session_options={"scopefunc": threading.get_ident}) as one:
        one.tasks.worker("/w", endpoint="w")(lambda: None)
        yield one
        one.db.session.remove()


def test_the_first_task_of_a_process_leaves_the_session_of_its_thread_as_it_is(
    threaded: Bench,
) -> None:
    """It is part of its transaction: row and task are stored together, or neither is."""
    session = threaded.db.session
    session.add(threaded.Counter(id=2, count=5))
    session.flush()
    task = threaded.tasks.add("/w")
    assert not task.is_committed
    session.commit()
    assert session.get(threaded.Counter, 2).count == 5
    assert threaded.tasks.get(task.id).state == "scheduled"


def test_a_child_leaves_the_transaction_of_its_parents_thread_as_it_is(threaded: Bench) -> None:
    """It has no part in it, whatever the scope of the session is."""
    threaded.tasks.find()  # the queue is in use
    session = threaded.db.session
    session.add(threaded.Counter(id=2, count=5))
    session.flush()
    process = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    process.start()
    process.join()
    session.commit()
    assert session.get(threaded.Counter, 2).count == 5


def test_a_coroutine_that_has_another_session_than_its_handler_fails(threaded: Bench) -> None:
    """What it changed would be lost, and the task done."""

    @threaded.tasks.worker("/async", endpoint="async", transactional=True)
    async def handler(how: str) -> None:
        session = threaded.db.session
        if how == "adds":
            session.add(threaded.Counter(id=2, count=5))
        else:
            session.execute(sa.update(threaded.Counter).values(count=5))

    tasks = [threaded.tasks.add("/async", {"how": how}, retry=ONCE) for how in ("adds", "updates")]
    threaded.tasks.drain()
    for task in tasks:
        found = threaded.tasks.get(task.id)
        assert found.state == "dead"
        assert "leave scopefunc out" in (found.last_error or "")


def test_the_apps_teardown_functions_run_for_its_own_requests_only(
    sqlite_database: TestDatabase, tmp_path: Path
) -> None:
    """Not as the queue finds its database: they end sessions of the thread, need what a hook has
    set up, and may add tasks.
    """
    app = Flask(__name__)
    app.config.update(SECRET_KEY="a secret for tests", SQLALCHEMY_DATABASE_URI=sqlite_database.url)
    db = SQLAlchemy(app)
    tasks = TaskQueue(app, db)
    tasks.worker("/w", endpoint="w")(lambda: None)
    other = sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    others = scoped_session(sessionmaker(other))
    others.execute(sa.text("CREATE TABLE orders (id INTEGER)"))
    others.commit()

    @app.before_request
    def connect() -> None:
        g.connection = "directory"

    @app.teardown_appcontext
    def close(_error: BaseException | None) -> None:
        assert g.connection
        others.remove()
        if "ordered" in g:
            tasks.add("/w")

    @app.post("/order")
    def order() -> str:
        g.ordered = True
        others.execute(sa.text("INSERT INTO orders VALUES (1)"))
        tasks.add("/w")
        others.commit()
        return str(others.scalar(sa.text("SELECT count(*) FROM orders")))

    with closing(app):
        client = app.test_client()
        assert [client.post("/order").text for _ in range(2)] == ["1", "2"]
        try:
            wait_until(lambda: tasks.statistics()[0].succeeded == 4, what="all tasks are done")
        finally:
            app.teardown_appcontext_funcs.clear()
    other.dispose()
