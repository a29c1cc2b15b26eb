"""One writer never waits for itself: what a view or a handler changes beside its own changes,
on each database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import request
from sqlalchemy.orm import Session

from flask_taskqueue import (
    BadTransactionStateError,
    State,
    Task,
    current_task,
    queue_paused,
    queue_resumed,
    task_added,
    task_deleted,
    task_requeued,
    tasks_changed,
)
from tests.apps import Bench, bench
from tests.databases import NAMES, Servers, fresh
from tests.laid import Laid
from tests.web.test_joining import begin_explicitly, execute

BEGINS = {"sqlite that begins": "BEGIN", "sqlite that locks": "BEGIN IMMEDIATE"}


@pytest.fixture(params=[*NAMES, *BEGINS])
def queue(request: pytest.FixtureRequest, laid: Laid, tmp_path: Path) -> Iterator[Bench]:
    """An application; SQLite with and without a begin of its own. Nobody waits in vain for a
    lock, which is told when the wait is over.
    """
    name = request.param.partition(" ")[0]
    with (
        laid.lend(name, tmp_path) as database,
        bench(database.url, TASKQUEUE_QUEUES={"default": {}, "handlers": {}}) as one,
    ):
        declare(one)
        if request.param in BEGINS:
            begin_explicitly(one.db.engine, BEGINS[request.param])
        with nobody_waits(one):
            yield one


@contextmanager
def nobody_waits(one: Bench) -> Iterator[None]:
    """Nobody waits in vain for a lock, which is told when the wait is over."""
    database = one.store.database
    waited: list[object] = []

    def note(context: sa.ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if isinstance(error, sa.exc.DBAPIError) and (
            database.dialect.is_locked(error) or database.dialect.is_transient(error)
        ):
            waited.append(error)

    for engine in (database.engine, one.db.engine):
        sa.event.listen(engine, "handle_error", note)
    yield
    assert waited == [], "somebody has waited for a lock"


@pytest.fixture
def on_a_file(laid: Laid, tmp_path: Path) -> Iterator[Bench]:
    """An application on a SQLite file."""
    with laid.lend("sqlite", tmp_path) as database, bench(database.url) as one:
        declare(one)
        yield one


def declare(one: Bench) -> None:
    """What is changed here: tasks that succeed, tasks that give up, a schedule."""
    one.tasks.worker("/w")(lambda: None)
    one.tasks.worker("/dead", endpoint="dead", retry={"task_retry_limit": 0})(lambda: ("no", 500))
    one.tasks.schedule("nightly", "/w", "every day 03:00")
    one.tasks.schedules()


def is_sqlite(queue: Bench) -> bool:
    """Whether there is one writer only."""
    return bool(queue.db.engine.dialect.name == "sqlite")


def dead(queue: Bench) -> Task:
    """A task that has given up."""
    return queue.run(queue.tasks.add("/dead"))


CHANGES: dict[
    str,
    tuple[Callable[[Bench], Any], Callable[[Bench, Any], object], Callable[[Bench, Any], object]],
] = {
    "delete": (
        lambda queue: queue.tasks.add("/w", countdown=3600),
        lambda queue, task: task.delete(),
        lambda queue, task: queue.tasks.get(task.id).state,
    ),
    "run now": (
        lambda queue: queue.tasks.add("/w", countdown=3600),
        lambda queue, task: task.run_now(),
        lambda queue, task: queue.tasks.get(task.id).due_at == task.due_at,
    ),
    "requeue": (
        dead,
        lambda queue, task: task.requeue(),
        lambda queue, task: (queue.tasks.get(task.id).state, len(queue.attempts(task))),
    ),
    "delete some": (
        lambda queue: [queue.tasks.add("/w", countdown=3600) for _ in range(3)],
        lambda queue, tasks: queue.tasks.queue("default").delete(tasks),
        lambda queue, tasks: [queue.tasks.get(task.id).state for task in tasks],
    ),
    "pause": (
        lambda queue: queue.tasks.queue("default"),
        lambda queue, one: one.pause(by="ana"),
        lambda queue, one: one.statistics().is_paused,
    ),
    "resume": (
        lambda queue: (queue.tasks.queue("default").pause(), queue.tasks.queue("default"))[1],
        lambda queue, one: one.resume(),
        lambda queue, one: one.statistics().is_paused,
    ),
    "configure": (
        lambda queue: queue.tasks.queue("default"),
        lambda queue, one: one.configure(max_concurrent=3),
        lambda queue, one: one.statistics().max_concurrent,
    ),
    "pause a schedule": (
        lambda queue: queue.tasks.get_schedule("nightly"),
        lambda queue, one: one.pause(),
        lambda queue, one: queue.tasks.get_schedule("nightly").is_paused,
    ),
    "resume a schedule": (
        lambda queue: (
            queue.tasks.get_schedule("nightly").pause(),
            queue.tasks.get_schedule("nightly"),
        )[1],
        lambda queue, one: one.resume(),
        lambda queue, one: queue.tasks.get_schedule("nightly").is_paused,
    ),
    "run a schedule": (
        lambda queue: queue.tasks.get_schedule("nightly"),
        lambda queue, one: one.run_now(),
        lambda queue, one: len(queue.tasks.find()),
    ),
    "add a list": (
        lambda queue: queue.tasks.queue("default"),
        lambda queue, one: one.add(["/w", "/w"]),
        lambda queue, one: len(queue.tasks.find()),
    ),
    "add many": (
        lambda queue: None,
        lambda queue, _: queue.tasks.add_many(["/w"]),
        lambda queue, _: len(queue.tasks.find()),
    ),
    "add a batch": (
        lambda queue: None,
        lambda queue, _: queue.tasks.batch(["/w"]),
        lambda queue, _: len(queue.tasks.find()),
    ),
}


def test_beside_changes_of_the_session_each_is_one_of_them(queue: Bench) -> None:
    """Rolled back with them, committed with them."""
    for name, (prepare, make, look) in CHANGES.items():
        subject = prepare(queue)
        before = look(queue, subject)
        for end, kept in ((queue.db.session.rollback, False), (queue.db.session.commit, True)):
            execute(queue, "UPDATE counter SET count = 7")
            make(queue, subject)
            assert (name, look(queue, subject)) == (name, before)
            end()
            assert (name, look(queue, subject) != before) == (name, kept)
        restore(queue)


def test_without_changes_each_is_made_at_once(queue: Bench) -> None:
    """Whatever the session has read or changed nothing by: it lets go of the lock that it may
    hold.
    """
    for name, (prepare, make, look) in CHANGES.items():
        subject = prepare(queue)
        before = look(queue, subject)
        queue.db.session.get(queue.Counter, 1)
        execute(queue, "UPDATE counter SET count = 7 WHERE id = 99")
        savepoint = queue.db.session.begin_nested()
        execute(queue, "UPDATE counter SET count = 8")
        savepoint.rollback()
        make(queue, subject)
        assert (name, look(queue, subject) != before) == (name, True)
        execute(queue, "UPDATE counter SET count = 9")
        queue.db.session.rollback()
        assert (name, look(queue, subject) != before) == (name, True)
        assert queue.count() == 0
        restore(queue)


@pytest.mark.slow
def test_a_transactional_handler_takes_each_along(queue: Bench) -> None:
    """It happens exactly if the handler succeeds, also in one that has changed nothing else."""
    current: list[Any] = []

    @queue.tasks.worker(
        "/handler", transactional=True, queue="handlers", retry={"task_retry_limit": 0}
    )
    def handler(fail: bool) -> Any:
        make, subject = current
        make(queue, subject)
        return ("no", 500) if fail else None

    for name, (prepare, make, look) in CHANGES.items():
        for fail in (True, False):
            subject = prepare(queue)
            current[:] = [make, subject]
            queue.tasks.drain()
            task = handler.add(fail=fail)
            before = look(queue, subject)
            ran = queue.run(task)
            assert (name, ran.state) == (name, State.DEAD if fail else State.SUCCEEDED)
            assert (name, look(queue, subject) == before) == (name, fail)
            restore(queue)


def test_a_transactional_handler_cannot_delete_its_own_task(queue: Bench) -> None:
    """Its transaction is to complete it: to do both would end neither."""
    told: list[str] = []

    @queue.tasks.worker("/own", transactional=True, retry={"task_retry_limit": 0})
    def own() -> None:
        for delete in (
            current_task.task.delete,
            lambda: queue.tasks.queue("default").delete([current_task.id]),
        ):
            with pytest.raises(BadTransactionStateError, match="its own transactional handler"):
                delete()
            told.append(current_task.id)

    assert queue.run(own.add()).state is State.SUCCEEDED
    assert len(told) == 2


def restore(queue: Bench) -> None:
    """Let nothing be paused or limited."""
    queue.db.session.rollback()
    queue.tasks.queue("default").resume()
    queue.tasks.queue("default").configure(max_concurrent=None)
    queue.tasks.get_schedule("nightly").resume()


MANY: dict[str, Callable[[Bench, bool | None], object]] = {
    "purge": lambda queue, rule: queue.tasks.queue("default").purge(transactional=rule),
    "delete_matching": lambda queue, rule: queue.tasks.queue("default").delete_matching(
        url="/w", transactional=rule
    ),
    "run_now": lambda queue, rule: queue.tasks.queue("default").run_now(transactional=rule),
    "requeue_dead": lambda queue, rule: queue.tasks.queue("default").requeue_dead(
        transactional=rule
    ),
}


@pytest.mark.parametrize("change", MANY.values(), ids=MANY)
def test_what_takes_several_transactions_is_refused_beside_changes(
    queue: Bench, change: Callable[[Bench, bool | None], object]
) -> None:
    """At once, with what to do; forced it is made where there are several writers."""
    queue.tasks.add("/w", countdown=3600)
    execute(queue, "UPDATE counter SET count = 7")
    for rule in (None, True):
        with pytest.raises(BadTransactionStateError, match="commit the session first"):
            change(queue, rule)
    if is_sqlite(queue):
        with pytest.raises(BadTransactionStateError, match="commit the session first"):
            change(queue, False)
    else:
        change(queue, False)
    queue.db.session.rollback()
    change(queue, None)


def test_to_store_at_once_beside_changes(queue: Bench) -> None:
    """With several writers it is done; with one it is refused, and the session goes on."""
    execute(queue, "UPDATE counter SET count = 7")
    if is_sqlite(queue):
        with pytest.raises(BadTransactionStateError, match="would wait for them for ever"):
            queue.tasks.add("/w", transactional=False)
    else:
        assert queue.tasks.add("/w", transactional=False).is_committed
    queue.db.session.commit()
    assert queue.count() == 7


def test_changes_that_would_wait_for_the_sessions_own_are_refused(queue: Bench) -> None:
    """A key that it has taken, a task that it has deleted: the database could not tell that it
    is the same caller.
    """
    task = queue.tasks.add("/w", countdown=3600)
    queue.tasks.add("/w", unique_key="k", transactional=True)
    task.delete()
    for again in (
        lambda: queue.tasks.add("/w", unique_key="k", transactional=False),
        lambda: task.delete(transactional=False),
        lambda: queue.tasks.queue("default").purge(transactional=False),
    ):
        with pytest.raises(BadTransactionStateError, match="commit the session first"):
            again()
    if not is_sqlite(queue):
        assert queue.tasks.add("/w", transactional=False).is_committed
    queue.db.session.commit()


def test_an_open_savepoint_that_may_hold_the_lock(queue: Bench) -> None:
    """The session is not disturbed: where the lock is needed it is refused."""
    savepoint = queue.db.session.begin_nested()
    execute(queue, "UPDATE counter SET count = 7 WHERE id = 99")
    if is_sqlite(queue):
        with pytest.raises(BadTransactionStateError, match="open savepoint"):
            queue.tasks.add("/w")
        assert not queue.tasks.add("/w", transactional=True).is_committed
    else:
        queue.tasks.add("/w")
    savepoint.commit()
    queue.db.session.commit()
    assert len(queue.tasks.find()) == 1


def test_a_session_that_let_go_goes_on(queue: Bench) -> None:
    """Nothing expires, `with session.begin()` goes on, and what follows is one transaction."""
    session = queue.db.session
    with session.begin():
        session.connection()
        queue.tasks.add("/w")
        execute(queue, "UPDATE counter SET count = 3")
    assert queue.count() == 3
    counter = session.get(queue.Counter, 1)
    queue.tasks.add("/w")
    assert "count" in counter.__dict__
    session.commit()
    execute(queue, "SELECT 1")
    queue.tasks.add("/w")
    execute(queue, "UPDATE counter SET count = 4")
    session.rollback()
    assert queue.count() == 3
    assert len(queue.tasks.find()) == 3


def test_what_was_read_before_a_session_let_go_changes_nothing(queue: Bench) -> None:
    """Others may have changed it meanwhile, so the commit is refused and leaves nothing behind,
    also in the pool. Where the session need not let go, it is not refused.
    """
    session = queue.db.session
    counter = session.get(queue.Counter, 1)
    driver = session.connection().connection
    begins = queue.db.engine.dialect.name == "sqlite" and driver.in_transaction
    queue.tasks.add("/w")
    counter.count += 1
    if not begins:
        session.commit()
        assert queue.count() == 1
        return
    with pytest.raises(BadTransactionStateError, match="read again"):
        session.commit()
    session.remove()
    assert queue.count() == 0
    session.get(queue.Counter, 1).count += 1
    queue.tasks.add("/w")
    session.commit()
    assert queue.count() == 1
    assert len(queue.tasks.find()) == 2


def test_a_transaction_that_was_begun_by_a_statement_is_begun_again(on_a_file: Bench) -> None:
    """With the same statement."""
    queue = on_a_file
    connection = queue.db.session.connection()
    for _ in range(2):
        if not connection.connection.in_transaction:
            execute(queue, "BEGIN IMMEDIATE")
        assert queue.tasks.add("/w").is_committed
        assert connection.connection.in_transaction
    execute(queue, "UPDATE counter SET count = 7")
    queue.db.session.rollback()
    assert queue.count() == 0


def test_what_a_change_of_the_sessions_has_looked_at_stays_so(on_a_file: Bench) -> None:
    """SQLite locks no rows, so the write lock comes before the look: a task that ended in
    between would be made cancelled.
    """
    queue = on_a_file
    other = sqlite3.connect(str(queue.db.engine.url.database), timeout=0, isolation_level=None)
    answers: list[str] = []

    def intrude(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("SELECT") and "taskqueue_task" in statement:
            try:
                other.execute("UPDATE taskqueue_task SET state = 'succeeded' WHERE 0")
                answers.append("written")
            except sqlite3.OperationalError as error:
                answers.append(str(error))

    sa.event.listen(queue.db.engine, "after_cursor_execute", intrude)
    for prepare, make, _ in CHANGES.values():
        subject = prepare(queue)
        queue.db.session.add(
            queue.Counter(count=1)
        )  # a change that has not been flushed: no lock is held for it
        make(queue, subject)
        queue.db.session.rollback()
    other.close()
    assert {*answers} == {"database is locked"}


def test_draining_and_waiting_beside_changes(queue: Bench) -> None:
    """Where there is one writer they are refused at once, for handlers would wait; otherwise
    handlers run.
    """
    task = queue.tasks.add("/w")
    execute(queue, "UPDATE counter SET count = 7 WHERE id = 99")
    assert queue.tasks.drain() == 1
    execute(queue, "UPDATE counter SET count = 7")
    if is_sqlite(queue):
        for ask in (queue.tasks.drain, task.wait):
            with pytest.raises(BadTransactionStateError, match="commit the session first"):
                ask()
    else:
        assert queue.tasks.drain() == 0
        assert task.wait(1).state is State.SUCCEEDED
    queue.db.session.rollback()
    assert task.wait(1).state is State.SUCCEEDED


def test_progress_beside_changes_of_the_handler(queue: Bench) -> None:
    """It is stored with them, or at once."""
    told: list[Any] = []

    @queue.tasks.worker("/long")
    def long() -> None:
        execute(queue, "UPDATE counter SET count = 7")
        current_task.progress(1, 2)
        queue.db.session.commit()
        told.append(queue.tasks.get(current_task.id).progress)

    task = long.add()
    queue.tasks.drain()
    assert queue.tasks.get(task.id).state is State.SUCCEEDED
    assert [task.done for task in told] == [1]


def test_another_session_of_the_thread(on_a_file: Bench) -> None:
    """One that is around this one, as a test's around a request: also nobody waits for that."""
    queue = on_a_file
    execute(queue, "UPDATE counter SET count = 7")
    with (
        queue.app.app_context(),
        pytest.raises(BadTransactionStateError, match="of an outer application context perhaps"),
    ):
        queue.tasks.add("/w")
    queue.db.session.rollback()
    execute(queue, "UPDATE counter SET count = 7 WHERE id = 99")
    with queue.app.app_context():
        assert queue.tasks.add("/w").is_committed


def test_tables_that_are_not_there_yet(servers: Servers, tmp_path: Path) -> None:
    """They become part of the transaction that needs them first, and are made again after a
    rollback.
    """
    with fresh("sqlite", servers, tmp_path) as database, bench(database.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        runtime = queue.runtime
        runtime.store.database.tables.task.metadata.drop_all(
            queue.db.engine, tables=[table for table in runtime.store.database.tables.all]
        )
        for end in (queue.db.session.rollback, queue.db.session.commit):
            execute(queue, "UPDATE counter SET count = 7")
            queue.tasks.add("/w")
            end()
        assert len(queue.tasks.find()) == 1


def test_a_database_of_the_queues_own_in_the_same_file(laid: Laid, tmp_path: Path) -> None:
    """It cannot be joined, but it is not waited for either."""
    with (
        laid.lend("sqlite", tmp_path) as database,
        bench(database.url, TASKQUEUE_DATABASE_URI=database.url) as queue,
    ):
        runtime = queue.runtime
        runtime.store.database.upgrade()
        queue.tasks.worker("/w")(lambda: None)
        execute(queue, "UPDATE counter SET count = 7")
        with pytest.raises(BadTransactionStateError, match="commit the session first"):
            queue.tasks.add("/w")
        queue.db.session.commit()
        assert queue.tasks.add("/w").is_committed


def test_signals_are_sent_once_after_the_commit(queue: Bench) -> None:
    """And not at all after a rollback; only task_added tells at once, as it is documented."""
    heard: list[str] = []
    later, gone = queue.tasks.add("/w", countdown=3600), dead(queue)
    signals = {
        "added": task_added,
        "deleted": task_deleted,
        "requeued": task_requeued,
        "paused": queue_paused,
        "resumed": queue_resumed,
        "changed": tasks_changed,
    }
    receivers = {name: lambda _app, name=name, **_: heard.append(name) for name in signals}
    for name, signal in signals.items():
        signal.connect(receivers[name], queue.app)
    default = queue.tasks.queue("default")
    for end in (queue.db.session.rollback, queue.db.session.commit):
        heard.clear()
        execute(queue, "UPDATE counter SET count = 7")
        later.delete()
        gone.requeue()
        default.pause()
        default.resume()
        default.delete([queue.tasks.get_schedule("nightly").run_now().id])
        assert heard == ["added"]
        end()
    assert heard == ["added", "deleted", "requeued", "paused", "resumed", "changed"]


@pytest.mark.parametrize("begin", BEGINS.values())
def test_an_async_view_does_not_wait_for_its_own_session(on_a_file: Bench, begin: str) -> None:
    """Though its coroutine runs in another thread than the hook that began the transaction."""
    queue = on_a_file
    begin_explicitly(queue.db.engine, begin)

    @queue.app.before_request
    def hook() -> None:
        if request.path == "/reads":
            queue.db.session.get(queue.Counter, 1)
        else:
            execute(queue, "UPDATE counter SET count = 1")

    @queue.app.get("/<path:_>")
    async def view(_: str) -> str:
        try:
            queue.tasks.add("/w", transactional=None if request.path == "/reads" else False)
        except BadTransactionStateError as error:
            return str(error)
        return "stored"

    client = queue.app.test_client()
    assert client.get("/reads").text == "stored"
    assert "holds changes" in client.get("/writes").text


RETURNING = [
    "UPDATE counter SET count = 5 RETURNING id",
    "INSERT INTO counter (id, count) VALUES (2, 5), (3, 5) RETURNING id",
]


@pytest.mark.parametrize("begin", [None, *BEGINS.values()])
@pytest.mark.parametrize("fetched", [0, 1])
@pytest.mark.parametrize("text", RETURNING)
def test_a_statement_that_has_not_ended_is_a_change(
    on_a_file: Bench, begin: str | None, fetched: int, text: str
) -> None:
    """One of a driver's own cursor, whose rows SQLite counts only when they have been fetched."""
    queue = on_a_file
    queue.tasks.find()
    if begin is not None:
        begin_explicitly(queue.db.engine, begin)
    for end, kept in ((queue.db.session.rollback, False), (queue.db.session.commit, True)):
        cursor = queue.db.session.connection().connection.cursor()
        cursor.execute(text)
        for _ in range(fetched):
            cursor.fetchone()
        task = queue.tasks.add("/w")
        assert not task.is_committed
        cursor.close()
        end()
        assert (task.is_committed, len(queue.tasks.find())) == (kept, int(kept))
        fives = queue.db.session.execute(sa.text("SELECT count(*) FROM counter WHERE count = 5"))
        assert bool(fives.scalar()) == kept
        queue.db.session.rollback()


def write_a_blob(driver: Any) -> None:
    """Write to a value as to a file."""
    with driver.blobopen("notes", "text", 1) as blob:
        blob.write(b"new")


UNCOUNTED: dict[str, tuple[Callable[[Any], object], str]] = {
    "a table": (
        lambda driver: driver.execute("CREATE TABLE other AS SELECT 'new'"),
        "SELECT * FROM other",
    ),
    "a temporary table": (
        lambda driver: driver.execute("CREATE TEMP TABLE other AS SELECT 'new'"),
        "SELECT * FROM other",
    ),
    "a blob": (write_a_blob, "SELECT CAST(text AS TEXT) FROM notes"),
}


@pytest.mark.parametrize("begin", BEGINS.values())
@pytest.mark.parametrize(("write", "look"), UNCOUNTED.values(), ids=UNCOUNTED)
def test_a_session_that_makes_way_takes_nothing_back(
    on_a_file: Bench, begin: str, write: Callable[[Any], object], look: str
) -> None:
    """Not even what SQLite does not count, and so nobody knows of."""
    queue, session = on_a_file, on_a_file.db.session
    execute(queue, "CREATE TABLE notes (text BLOB)")
    execute(queue, "INSERT INTO notes VALUES (x'6f6c64')")
    session.commit()
    begin_explicitly(queue.db.engine, begin)
    write(session.connection().connection)
    queue.tasks.add("/w")
    session.commit()
    assert session.scalar(sa.text(look)) == "new"
    assert len(queue.tasks.find()) == 1


def test_a_commit_by_text_is_refused_as_any_other(on_a_file: Bench) -> None:
    """Where others may have changed what was read before the session made way."""
    queue = on_a_file
    begin_explicitly(queue.db.engine)
    execute(queue, "SELECT * FROM counter")
    queue.tasks.add("/w")
    execute(queue, "UPDATE counter SET count = 7")
    with pytest.raises(BadTransactionStateError, match="read again"):
        execute(queue, "COMMIT")
    queue.db.session.rollback()
    assert queue.count() == 0


@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("how", ["a session", "a connection"])
def test_what_would_wait_for_a_transaction_beside_the_session(
    on_a_file: Bench, how: str, joins: bool
) -> None:
    """One that the same thread has begun and that has changed the file: nothing waits for it."""
    queue, change = on_a_file, sa.text("UPDATE counter SET count = count + 1")
    with ExitStack() as stack:
        if how == "a session":
            own: Any = stack.enter_context(Session(queue.db.engine))
        else:
            own = stack.enter_context(queue.db.engine.connect())
        own.execute(sa.text("SELECT count FROM counter")).all()
        assert queue.tasks.add("/w").is_committed  # which one that has only read lets happen
        own.rollback()
        own.execute(change)
        if joins:
            queue.db.session.add(queue.Counter(id=5, count=0))
        for refused in (queue.tasks.drain, partial(queue.tasks.add, "/w")):
            with pytest.raises(BadTransactionStateError, match="commit it first"):
                refused()
        own.commit()
        assert queue.tasks.add("/w").is_committed is not joins
        queue.db.session.rollback()


def test_a_report_beside_a_transaction_that_locks(on_a_file: Bench) -> None:
    """A handler does not fail for a report of its progress that cannot be stored."""

    @on_a_file.tasks.worker("/reports")
    def reports() -> None:
        with on_a_file.db.engine.begin() as own:
            own.execute(sa.text("UPDATE counter SET count = count + 1"))
            current_task.progress(1, 2)

    assert on_a_file.run(reports.add()).state is State.SUCCEEDED
    assert on_a_file.count() == 1
