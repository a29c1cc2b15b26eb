"""What is undone before its commit: nobody is told that it was committed, whatever follows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IllegalStateChangeError

from flask_taskqueue import BadTransactionStateError
from tests.apps import Bench, bench
from tests.databases import Servers, TestDatabase, fresh

_PROCEDURES = {
    "rolls_back": "ROLLBACK;",
    "goes_on": "ROLLBACK; UPDATE counter SET count = 8;",
    "returns_rows": "ROLLBACK; SELECT 1;",
    "fails": "ROLLBACK; UPDATE counter SET count = 8; SIGNAL SQLSTATE '45000';",
    "commits": "COMMIT;",
    "commits_and_goes_on": "COMMIT; UPDATE counter SET count = 8;",
}


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application, on MariaDB with procedures."""
    with bench(database.url) as one:
        one.tasks.worker("/w")(lambda: None)
        if database.name == "mariadb":
            with one.db.engine.begin() as connection:
                for name, body in _PROCEDURES.items():
                    connection.exec_driver_sql(
                        f"CREATE OR REPLACE PROCEDURE {name}() BEGIN {body} END"
                    )
        yield one


def execute(queue: Bench, text: str) -> None:
    """Run a statement in the session."""
    queue.db.session.execute(sa.text(text))


def failing(text: str) -> Callable[[Bench], None]:
    """A statement that fails, which the view catches."""

    def run(queue: Bench) -> None:
        with pytest.raises(sa.exc.DBAPIError):
            execute(queue, text)

    return run


def driver(queue: Bench) -> Any:
    """The driver's connection, of which SQLAlchemy's events tell nothing."""
    return queue.db.session.connection().connection


def fails_and_ends(queue: Bench) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with a rollback."""
    failing("SELECT 1 / 0")(queue)
    with pytest.raises(BadTransactionStateError, match="undone"):
        execute(queue, "COMMIT")


UNDOING: dict[str, dict[str, Callable[[Bench], Any]]] = {
    "sqlite": {
        "a conflict": failing("INSERT OR ROLLBACK INTO counter (id, count) VALUES (1, 0)"),
        "the driver": lambda queue: driver(queue).rollback(),
    },
    "postgresql": {
        "a COMMIT after an error": fails_and_ends,
        "several statements": lambda queue: execute(
            queue, "ROLLBACK; UPDATE counter SET count = 8"
        ),
        "a ROLLBACK and a BEGIN": lambda queue: execute(
            queue, "ROLLBACK; BEGIN; UPDATE counter SET count = 8"
        ),
        "the driver": lambda queue: driver(queue).rollback(),
    },
    "mariadb": {
        "a procedure": lambda queue: execute(queue, "CALL rolls_back()"),
        "a procedure that goes on": lambda queue: execute(queue, "CALL goes_on()"),
        "a procedure with a result": lambda queue: execute(queue, "CALL returns_rows()"),
        "a procedure that fails": failing("CALL fails()"),
    },
}


def write(queue: Bench) -> None:
    """Change a row."""
    execute(queue, "UPDATE counter SET count = 9")


def add(queue: Bench) -> None:
    """Add a task, which is refused: its transaction can only be rolled back."""
    with pytest.raises(BadTransactionStateError):
        queue.tasks.add("/w")


GOING_ON: dict[str, Callable[[Bench], Any]] = {
    "nothing": lambda queue: None,
    "a row": write,
    "a task": add,
    "a row and a task": lambda queue: (write(queue), add(queue)),
}


@pytest.mark.parametrize("go_on", GOING_ON.values(), ids=GOING_ON)
def test_what_was_undone_is_never_committed_in_silence(
    queue: Bench, go_on: Callable[[Bench], Any]
) -> None:
    """Whatever has undone it, and whatever the view does then."""
    name = {"mysql": "mariadb"}.get(queue.db.engine.dialect.name, queue.db.engine.dialect.name)
    for how, undo in UNDOING[name].items():
        write(queue)
        task = queue.tasks.add("/w")
        undo(queue)
        if how != "a COMMIT after an error":  # where PostgreSQL refuses all but a rollback
            go_on(queue)
        with pytest.raises(BadTransactionStateError, match="undone"):
            queue.db.session.commit()
        queue.db.session.rollback()
        assert (how, task.is_committed) == (how, False)
        assert (how, queue.tasks.find()) == (how, [])
        # psycopg2 does not see what a text ends: each later statement of the app commits itself.
        commits_itself = (
            queue.db.engine.dialect.driver == "psycopg2" and how == "several statements"
        )
        assert (how, queue.count() == 9 and not commits_itself) == (how, False)
        execute(queue, "UPDATE counter SET count = 0")
        queue.db.session.commit()
    write(queue)
    task = queue.tasks.add("/w")
    queue.db.session.commit()
    assert task.is_committed
    assert queue.count() == 9


COMMITTING: dict[str, dict[str, Callable[[Bench], Any]]] = {
    "sqlite": {"the driver": lambda queue: driver(queue).commit()},
    "postgresql": {
        "the driver": lambda queue: driver(queue).commit(),
        "several statements": lambda queue: execute(queue, "COMMIT; UPDATE counter SET count = 8"),
    },
    "mysql": {
        "a procedure": lambda queue: execute(queue, "CALL commits()"),
        "a procedure that goes on": lambda queue: execute(queue, "CALL commits_and_goes_on()"),
        "autocommit": lambda queue: execute(queue, "SET autocommit = 1"),
    },
}


def test_what_was_committed_unseen_is_found(queue: Bench) -> None:
    """The session's own commit then succeeds, because the task is there."""
    for how, commit in COMMITTING[queue.db.engine.dialect.name].items():
        write(queue)
        task = queue.tasks.add("/w")
        commit(queue)
        queue.db.session.commit()
        assert (how, task.is_committed) == (how, True)
        assert (how, task.id in {task.id for task in queue.tasks.find()}) == (how, True)
        renew(queue)


def test_what_cannot_be_looked_for_is_not_taken_for_committed(queue: Bench) -> None:
    """A deletion leaves nothing of its own that could be found."""
    for commit in COMMITTING[queue.db.engine.dialect.name].values():
        task = queue.tasks.add("/w", countdown=3600)
        write(queue)
        task.delete()
        commit(queue)
        with pytest.raises(BadTransactionStateError, match="cannot be found"):
            queue.db.session.commit()
        renew(queue)


def renew(queue: Bench) -> None:
    """End the session and its connection, which may commit each statement now."""
    queue.db.session.remove()
    queue.db.engine.dispose()


def test_a_savepoint_of_the_drivers_takes_its_tasks_along(queue: Bench) -> None:
    """One that was never seen to begin, where a statement of the session's rolls back to it."""
    write(queue)
    kept = queue.tasks.add("/w")
    driver(queue).cursor().execute("SAVEPOINT mine")
    execute(queue, "ROLLBACK TO SAVEPOINT mine")
    queue.db.session.commit()
    assert kept.is_committed
    write(queue)
    driver(queue).cursor().execute("SAVEPOINT mine")
    lost = queue.tasks.add("/w")
    execute(queue, "ROLLBACK TO SAVEPOINT mine")
    with pytest.raises(BadTransactionStateError, match="undone"):
        queue.db.session.commit()
    queue.db.session.rollback()
    assert not lost.is_committed
    assert [task.id for task in queue.tasks.find()] == [kept.id]


@pytest.fixture
def on_mariadb(servers: Servers, tmp_path: Any) -> Iterator[Bench]:
    """An application on MariaDB."""
    with fresh("mariadb", servers, tmp_path) as database, bench(database.url) as one:
        one.tasks.worker("/w")(lambda: None)
        one.tasks.find()  # makes the tables
        yield one


LOSING = {
    "a change": "UPDATE counter SET count = 3 WHERE id = 2",
    "a temporary table": "CREATE TEMPORARY TABLE t SELECT id FROM counter WHERE id = 2 FOR UPDATE",
    "an analysis": "ANALYZE UPDATE counter SET count = 3 WHERE id = 2",
}


@contextmanager
def in_the_way(queue: Bench) -> Iterator[None]:
    """Another transaction, which has row 2 and asks for row 1.

    It has changed more, so MariaDB lets it win the deadlock, whoever of the two begins to wait.
    """
    counter = queue.Counter
    with queue.db.engine.connect() as other:
        other.execute(sa.update(counter).where(counter.id >= 2).values(count=1))
        wins = threading.Thread(
            target=lambda: other.execute(sa.update(counter).where(counter.id == 1).values(count=2))
        )
        wins.start()
        yield
        wins.join()
        other.rollback()


@pytest.mark.parametrize("statement", LOSING.values(), ids=LOSING)
@pytest.mark.parametrize("nested", [False, True])
def test_after_a_deadlock_nothing_is_added_or_committed(
    on_mariadb: Bench, statement: str, nested: bool
) -> None:
    """MariaDB has undone the whole transaction, also where a savepoint was to limit the damage."""
    queue, session = on_mariadb, on_mariadb.db.session
    session.add_all([queue.Counter(id=number, count=0) for number in range(2, 30)])
    session.commit()
    execute(queue, "UPDATE counter SET count = 1 WHERE id = 1")
    task = queue.tasks.add("/w")
    with (
        in_the_way(queue),
        pytest.raises(sa.exc.DBAPIError),
        session.begin_nested() if nested else nullcontext(),
    ):
        execute(queue, statement)
    with pytest.raises(BadTransactionStateError, match="undone"):
        queue.tasks.add("/w")
    with pytest.raises(BadTransactionStateError, match="undone"):
        session.commit()
    session.rollback()
    assert not task.is_committed
    assert (queue.tasks.find(), queue.count()) == ([], 0)
    assert queue.tasks.add("/w").is_committed


@pytest.fixture
def in_two_phases(servers: Servers, tmp_path: Any) -> Iterator[Bench]:
    """An application on MariaDB whose sessions commit in two phases."""
    with (
        fresh("mariadb", servers, tmp_path) as database,
        bench(database.url, session_options={"twophase": True}) as one,
    ):
        one.tasks.worker("/w")(lambda: None)
        one.tasks.find()  # makes the tables
        yield one


def test_the_first_of_two_phases_refuses_what_is_undone(in_two_phases: Bench) -> None:
    """The app is told what to do, as at a commit in one phase; what was not undone is stored."""
    queue, session = in_two_phases, in_two_phases.db.session
    session.add_all([queue.Counter(id=number, count=0) for number in range(2, 30)])
    session.commit()
    execute(queue, "UPDATE counter SET count = 1 WHERE id = 1")
    lost = queue.tasks.add("/w")
    with in_the_way(queue), pytest.raises(sa.exc.DBAPIError):
        execute(queue, LOSING["a change"])
    with pytest.raises(BadTransactionStateError, match="undone"):
        queue.tasks.add("/w")
    with pytest.raises((BadTransactionStateError, IllegalStateChangeError)) as refused:
        session.commit()
    # SQLAlchemy before 2.0.51 fails itself while it handles the refusal.
    error = refused.value
    own = error.__context__ if isinstance(error, IllegalStateChangeError) else error
    assert isinstance(own, BadTransactionStateError)
    assert "undone" in str(own)
    session.rollback()
    assert not lost.is_committed
    assert (queue.tasks.find(), queue.count()) == ([], 0)
    execute(queue, "UPDATE counter SET count = 1 WHERE id = 1")
    kept = queue.tasks.add("/w")
    assert not kept.is_committed
    session.commit()
    assert (kept.is_committed, queue.count()) == (True, 1)
    assert [task.id for task in queue.tasks.find()] == [kept.id]


def test_a_handler_may_not_commit_in_two_phases(in_two_phases: Bench) -> None:
    """Neither the session nor, past its events, the first phase of its connection."""
    queue = in_two_phases

    @queue.tasks.worker("/early", transactional=True)
    def early() -> None:
        execute(queue, "UPDATE counter SET count = 5")
        transaction: Any = queue.db.session.connection().get_transaction()
        transaction.prepare()

    queue.tasks.add("/early")
    queue.db.session.rollback()
    queue.tasks.drain()
    assert queue.count() == 0
    [task] = queue.tasks.find(url="/early")
    assert "must not commit" in str(task.last_error)
