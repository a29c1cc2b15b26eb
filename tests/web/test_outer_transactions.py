"""Sessions that take part in a transaction which somebody else has begun, and others whose commit
is not the whole truth: nothing is told committed that is not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask_sqlalchemy.session
import pytest
import sqlalchemy as sa
from flask import copy_current_request_context
from sqlalchemy.ext.horizontal_shard import ShardedSession

from flask_taskqueue import BadTransactionStateError, State, Task
from flask_taskqueue.runtime import Runtime
from tests.apps import Bench, bench
from tests.databases import NAMES, TestDatabase
from tests.laid import Laid
from tests.web.test_joining import begin_explicitly, is_stored

MODES = ("conditional_savepoint", "rollback_only", "create_savepoint", "control_fully")


@pytest.fixture(params=NAMES)
def queue(request: pytest.FixtureRequest, laid: Laid, tmp_path: Path) -> Iterator[Bench]:
    """An application; on SQLite with SQLAlchemy's recipe for savepoints."""
    with laid.lend(request.param, tmp_path) as database, bench(database.url) as one:
        one.tasks.worker("/w")(lambda: None)
        if request.param == "sqlite":
            begin_explicitly(one.db.engine)
        one.tasks.find()
        yield one


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often dispatchers were woken."""
    wakes: list[int] = []
    monkeypatch.setattr(Runtime, "wake", lambda _: wakes.append(1))
    return wakes


@contextmanager
def bound(queue: Bench, mode: str = "conditional_savepoint") -> Iterator[sa.Connection]:
    """Bind the session to a connection in a transaction, as a test does to roll all back."""
    engine = queue.db.engine
    with engine.connect() as connection, connection.begin():
        queue.db.session.remove()
        queue.db.session.configure(join_transaction_mode=mode)
        queue.db.engines[None] = connection
        try:
            yield connection
        finally:
            queue.db.session.remove()
            queue.db.engines[None] = engine


@pytest.mark.parametrize("who", ["session", "outer", "nobody"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_task_is_committed_when_the_outer_transaction_is(
    queue: Bench, woken: list[int], mode: str, nested: bool, who: str
) -> None:
    """Whatever the session's commit does in each join_transaction_mode, and whoever has written."""
    with bound(queue, mode) as connection:
        savepoint = connection.begin_nested() if nested else None
        if who == "outer":
            connection.execute(sa.insert(queue.Counter).values(id=5, count=0))
        elif who == "session":
            queue.db.session.add(queue.Counter(id=5, count=0))
        task = queue.tasks.add("/w")
        assert (task.is_committed, woken) == (False, [])
        queue.db.session.commit()
        over = not connection.in_transaction()
        assert over is (mode == "control_fully" and not nested)
        assert (task.is_committed, is_there(queue, task), woken) == (over, over, [1] * over)
        if savepoint is not None and savepoint.is_active:
            savepoint.commit()
            assert (task.is_committed, is_there(queue, task), woken) == (False, False, [])
        if not over:
            connection.get_transaction().commit()  # type: ignore[union-attr]
        assert (task.is_committed, is_there(queue, task), woken) == (True, True, [1])


def is_there(queue: Bench, task: Task) -> bool:
    """Whether another connection sees a task."""
    with queue.store.reading() as reader:
        return bool(queue.store.tasks.get_all(reader, [task.id]))


@pytest.mark.parametrize("mode", MODES[:3])
def test_a_task_goes_with_the_outer_transaction(queue: Bench, woken: list[int], mode: str) -> None:
    with bound(queue, mode) as connection:
        queue.db.session.add(queue.Counter(id=5, count=0))
        task = queue.tasks.add("/w")
        queue.db.session.commit()
        connection.get_transaction().rollback()  # type: ignore[union-attr]
    assert (task.is_committed, is_stored(queue, task), woken) == (False, False, [])
    with bound(queue, mode) as connection:  # a transaction of its own
        other = queue.tasks.add("/w")
        queue.db.session.commit()
    assert (task.is_committed, other.is_committed, woken) == (False, True, [1])


@pytest.mark.parametrize("mode", MODES[:3])
def test_a_task_goes_with_a_savepoint_around_the_session(queue: Bench, mode: str) -> None:
    """The rest of the outer transaction is committed all the same."""
    with bound(queue, mode) as connection:
        savepoint = connection.begin_nested()
        gone = queue.tasks.add("/w")
        queue.db.session.commit()
        savepoint.rollback()
        kept = queue.tasks.add("/w")
        queue.db.session.commit()
    assert (gone.is_committed, is_stored(queue, gone)) == (False, False)
    assert (kept.is_committed, is_stored(queue, kept)) == (True, True)


def test_a_session_that_is_rolled_back_takes_only_its_own_along(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with bound(queue, "create_savepoint"):
        kept = queue.tasks.add("/w")
        queue.db.session.commit()
        gone = queue.tasks.add("/w")
        queue.db.session.rollback()
        assert not caplog.messages
        lost = queue.tasks.add("/w")
        queue.db.session.close()
        assert [lost.id in message for message in caplog.messages] == [True]
    assert [is_stored(queue, task) for task in (kept, gone, lost)] == [True, False, False]
    assert [task.is_committed for task in (kept, gone, lost)] == [True, False, False]


def test_a_commit_that_fails_is_none(on_postgresql: TestDatabase, woken: list[int]) -> None:
    with bench(on_postgresql.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        with queue.db.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE late (id int REFERENCES counter DEFERRABLE INITIALLY DEFERRED)"
            )
        with bound(queue) as connection:
            queue.db.session.execute(sa.text("INSERT INTO late VALUES (99)"))
            task = add_and_commit(queue)
            with pytest.raises(sa.exc.IntegrityError):
                connection.get_transaction().commit()  # type: ignore[union-attr]
        assert (task.is_committed, is_stored(queue, task), woken) == (False, False, [])


@pytest.fixture
def on_postgresql(laid: Laid, tmp_path: Path) -> Iterator[TestDatabase]:
    with laid.lend("postgresql", tmp_path) as database:
        yield database


def test_two_phases_of_somebody_elses_are_refused(queue: Bench) -> None:
    if queue.db.engine.name != "mysql":
        pytest.skip("the other servers of the tests allow no prepared transactions")
    engine = queue.db.engine
    with engine.connect() as connection, connection.begin_twophase() as transaction:
        queue.db.session.remove()
        queue.db.engines[None] = connection
        with pytest.raises(BadTransactionStateError, match="two phases"):
            queue.tasks.add("/w")
        queue.db.session.remove()
        transaction.rollback()
    queue.db.engines[None] = engine


def test_what_would_wait_for_the_outer_transaction_is_refused(laid: Laid, tmp_path: Path) -> None:
    """On SQLite, which has one writer; not after a minute, but at once."""
    with laid.lend("sqlite", tmp_path) as database, bench(database.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        begin_explicitly(queue.db.engine)
        with bound(queue) as connection:
            connection.execute(sa.insert(queue.Counter).values(id=5, count=0))
            with pytest.raises(BadTransactionStateError, match="bound to a connection"):
                queue.tasks.add("/w", transactional=False)


def test_a_handler_cannot_commit_an_outer_transaction(queue: Bench) -> None:
    """So it does not run, and is attempted again, outside of the test kit."""
    ran: list[int] = []

    @queue.tasks.worker("/own", transactional=True)
    def own() -> None:
        ran.append(1)

    task = own.add()
    with bound(queue):
        queue.tasks.drain()
    found = queue.tasks.get(task.id)
    assert (ran, found.state, found.last_status) == ([], State.SCHEDULED, 500)
    assert "flask_taskqueue.testing" in str(found.last_error)


class Elsewhere(flask_sqlalchemy.session.Session):
    """A session that chooses where its rows go."""

    chosen: Any = None

    def get_bind(self, mapper: Any = None, clause: Any = None, bind: Any = None, **kw: Any) -> Any:
        chosen = type(self).chosen
        return chosen if chosen is not None and bind is None else super().get_bind(mapper, clause)


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_rows_that_get_bind_leads_to_an_outer_connection(
    on_a_server: TestDatabase, monkeypatch: pytest.MonkeyPatch, same: bool, flushed: bool
) -> None:
    """The task is committed with them, or neither is."""
    options = {"class_": Elsewhere}
    with bench(on_a_server.url, session_options=options) as queue:
        queue.tasks.worker("/w")(lambda: None)
        with (
            closing(queue.db.engine if same else sa.create_engine(on_a_server.url)) as engine,
            engine.connect() as connection,
            connection.begin() as outer,
        ):
            queue.db.session.remove()
            monkeypatch.setattr(Elsewhere, "chosen", connection)
            queue.db.session.add(queue.Counter(id=5, count=0))
            if flushed:
                queue.db.session.flush()
            if same and flushed:
                task = queue.tasks.add("/w")
                queue.db.session.commit()
                assert not task.is_committed
                outer.commit()
                assert task.is_committed
                return
            with pytest.raises((BadTransactionStateError, sa.exc.InvalidRequestError)):
                add_and_commit(queue)
            queue.db.session.rollback()
            assert queue.tasks.find() == []


@contextmanager
def closing(engine: sa.Engine) -> Iterator[sa.Engine]:
    """Close the connections of an engine afterwards."""
    yield engine
    engine.dispose()


def add_and_commit(queue: Bench) -> Task:
    """Add a task to what the session has changed, and commit."""
    task = queue.tasks.add("/w")
    queue.db.session.commit()
    return task


class Sharded(ShardedSession, flask_sqlalchemy.session.Session):
    """A session with two shards, of which the application's engine is one."""

    def get_bind(self, *args: Any, bind: Any = None, shard_id: Any = None, **kw: Any) -> Any:
        if bind is not None:
            return bind
        if shard_id is not None:
            return self._db.engines[shard_id]
        return flask_sqlalchemy.session.Session.get_bind(self, *args, **kw)


@pytest.mark.parametrize("shard", ["one", "two"])
def test_a_session_of_shards(on_a_server: TestDatabase, shard: str) -> None:
    """A row of another shard, on another connection, is there before the task."""
    options = {
        "class_": Sharded,
        "shard_chooser": lambda mapper, row, clause=None: shard,
        "identity_chooser": lambda *args, **kw: ["one"],
        "execute_chooser": lambda context: ["one"],
        "shards": {},
    }
    binds = {"one": on_a_server.url, "two": on_a_server.url}
    with bench(on_a_server.url, session_options=options, SQLALCHEMY_BINDS=binds) as queue:
        queue.tasks.worker("/w")(lambda: None)
        queue.db.session.add(queue.Counter(id=5, count=0))
        task = queue.tasks.add("/w")
        assert (task.is_committed, is_there(queue, task)) == (False, False)
        queue.db.session.commit()
        assert (task.is_committed, is_there(queue, task)) == (True, True)
        assert queue.db.session.get(queue.Counter, 5) is not None


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_session_that_another_thread_ends(queue: Bench, end: str) -> None:
    """While a task is stored in its transaction: nobody is told that the task is committed."""
    ended: list[threading.Thread] = []

    def end_it(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO taskqueue_task ") and not ended:
            context = copy_current_request_context(getattr(queue.db.session(), end))
            ended.append(threading.Thread(target=context))
            ended[0].start()
            ended[0].join()

    with queue.app.test_request_context():
        sa.event.listen(queue.db.engine, "after_cursor_execute", end_it)
        queue.db.session.add(queue.Counter(id=5, count=0))
        queue.db.session.flush()
        with pytest.raises(BadTransactionStateError, match="another thread"):
            queue.tasks.add("/w")
        assert ended
        queue.db.session.rollback()
        assert len(queue.tasks.find()) == (end == "commit")
