"""Which tasks are part of the session's transaction: known from what ran, or asked of the
database.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_taskqueue import BadTransactionStateError, InvalidTaskError, Task, TaskQueue
from flask_taskqueue.store.database.transaction import close_engine
from flask_taskqueue.store.uncommitted.writes import names_of
from tests.apps import Bench, bench, closing
from tests.databases import NAMES, TestDatabase
from tests.laid import Laid

SQLITE, POSTGRESQL, MARIADB = "sqlite", "postgresql", "mariadb"

FUNCTIONS = {
    POSTGRESQL: [
        "CREATE OR REPLACE FUNCTION bump() RETURNS int LANGUAGE sql AS 'UPDATE counter SET "
        "count = count + 1 RETURNING 1'",
        "CREATE OR REPLACE FUNCTION look() RETURNS int LANGUAGE sql AS 'SELECT count FROM "
        "counter WHERE id = 1'",
        "CREATE OR REPLACE FUNCTION lock() RETURNS int LANGUAGE sql AS 'SELECT count FROM "
        "counter WHERE id = 1 FOR UPDATE'",
        "CREATE OR REPLACE PROCEDURE bump_it() LANGUAGE sql AS 'UPDATE counter SET count = "
        "count + 1'",
        "CREATE SEQUENCE IF NOT EXISTS numbers",
        "CREATE OR REPLACE FUNCTION run(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN EXECUTE $1; "
        "RETURN 1; END'",
        "DROP TYPE IF EXISTS mood",
        "CREATE TYPE mood AS ENUM ()",
        "CREATE OR REPLACE FUNCTION log(text) RETURNS int LANGUAGE sql AS 'UPDATE counter SET "
        "count = count + 1 RETURNING 1'",
    ],
    MARIADB: [
        "CREATE OR REPLACE FUNCTION bump() RETURNS int MODIFIES SQL DATA BEGIN UPDATE "
        "counter SET count = count + 1; RETURN 1; END",
        "CREATE OR REPLACE FUNCTION look() RETURNS int READS SQL DATA RETURN (SELECT count "
        "FROM counter WHERE id = 1)",
        "CREATE OR REPLACE PROCEDURE bump_it() BEGIN UPDATE counter SET count = count + 1; END",
        "CREATE OR REPLACE FUNCTION date_trunc(x text) RETURNS int MODIFIES SQL DATA BEGIN "
        "UPDATE counter SET count = count + 1; RETURN 1; END",
        "CREATE OR REPLACE FUNCTION count (x int) RETURNS int MODIFIES SQL DATA BEGIN UPDATE "
        "counter SET count = count + 1; RETURN 1; END",
        "CREATE OR REPLACE PROCEDURE show_it() SELECT count FROM counter",
    ],
}


WORDS = {
    POSTGRESQL: "by conflict cross filter ilike join like materialized of over overlaps partition "
    "recursive similar within",
    MARIADB: "array cast conflict filter ilike lateral materialized of only similar",
}
"""Words of the grammar that can be names of functions as well."""


@pytest.fixture(params=[*NAMES, "sqlite that begins"])
def queue(request: pytest.FixtureRequest, laid: Laid, tmp_path: Path) -> Iterator[Bench]:
    """An application with functions of its own in the database; SQLite also with SQLAlchemy's
    recipe for savepoints.
    """
    name = request.param.partition(" ")[0]
    with laid.lend(name, tmp_path) as database, bench(database.url) as one:
        one.tasks.worker("/w")(lambda: None)
        if name != request.param:
            begin_explicitly(one.db.engine)
        with one.db.engine.begin() as connection:
            for statement in FUNCTIONS.get(name, ()):
                connection.exec_driver_sql(statement)
        # PostgreSQL counts the rows of the catalog with those of the next transaction.
        one.db.engine.dispose()
        one.tasks.find()  # makes the tables
        yield one


def begin_explicitly(engine: sa.Engine, begin: str = "BEGIN") -> None:
    """The recipe of SQLAlchemy's documentation: the driver begins nothing, an event does."""

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    close_engine(engine)


def execute(queue: Bench, text: str) -> None:
    """Run a statement in the session, as a view does that wants its rows."""
    result = queue.db.session.execute(sa.text(text))
    if result.returns_rows:
        result.all()


def is_stored(queue: Bench, task: Task) -> bool:
    """Whether others see a task."""
    return task.id in {task.id for task in queue.tasks.find()}


def expect(queue: Bench, *, joined: bool) -> None:
    """Add a task: it is part of the session's transaction, or it is not."""
    task = queue.tasks.add("/w")
    assert task.is_committed is not joined
    assert is_stored(queue, task) is not joined
    queue.db.session.rollback()
    assert is_stored(queue, task) is not joined


READS: dict[str, tuple[str, ...]] = {
    "SELECT 1": (),
    "  select count from counter": (),
    "WITH recent AS (SELECT 1 AS n) SELECT n FROM recent": (),
    "-- the newest\nSELECT 1": (),
    "/* report */ SELECT 1": (),
    "/* INSERT */ -- UPDATE\nSELECT 'DELETE' AS \"insert\"": (SQLITE, POSTGRESQL),
    "(SELECT 1) UNION (SELECT 2)": (POSTGRESQL, MARIADB),
    "((SELECT 1))": (POSTGRESQL, MARIADB),
    "TABLE counter": (POSTGRESQL,),
    "VALUES (1), (2)": (),
    "EXPLAIN SELECT 1": (),
    "SELECT count(*), max(count), lower('A') FROM counter": (),
    "SELECT coalesce(max(id), 0) FROM counter": (),
    "EXPLAIN UPDATE counter SET count = 7": (POSTGRESQL, MARIADB),
    "SHOW search_path": (POSTGRESQL,),
    "SHOW TABLES": (MARIADB,),
    "DESCRIBE counter": (MARIADB,),
    "SET LOCAL statement_timeout = 0": (POSTGRESQL,),
    "SET CONSTRAINTS ALL IMMEDIATE": (POSTGRESQL,),
    "SET @x = 1": (MARIADB,),
    "SET STATEMENT max_statement_time = 9 FOR SELECT count FROM counter": (MARIADB,),
    "LOCK TABLE counter IN SHARE MODE": (POSTGRESQL,),
    "PRAGMA user_version": (SQLITE,),
    "PRAGMA cache_size = 3000": (SQLITE,),
    "SELECT * FROM counter WHERE id = 1 FOR UPDATE": (POSTGRESQL, MARIADB),
    "SELECT lock()": (POSTGRESQL,),
    "SELECT look()": (POSTGRESQL, MARIADB),
    "SELECT pg_advisory_xact_lock(7)": (POSTGRESQL,),
    "SELECT nextval('numbers')": (POSTGRESQL,),
    "DO $$ BEGIN PERFORM look(); END $$": (POSTGRESQL,),
    "CALL show_it()": (MARIADB,),
    "DO look()": (MARIADB,),
    "UPDATE counter SET count = 7 WHERE id = 99": (),
    "UPDATE counter SET count = 7 WHERE id = 99 RETURNING id": (SQLITE, POSTGRESQL),
    "DELETE FROM counter WHERE id = 99": (),
    "INSERT INTO counter (id, count) SELECT id + 1, 0 FROM counter WHERE id = 99": (),
    "WITH gone AS (DELETE FROM counter WHERE id = 99 RETURNING *) SELECT * FROM gone": (
        POSTGRESQL,
    ),
    "CREATE TABLE IF NOT EXISTS counter (id INTEGER)": (SQLITE, POSTGRESQL),
}

WRITES: dict[str, tuple[str, ...]] = {
    "INSERT INTO counter (id, count) VALUES (2, 0)": (),
    "/* new */ INSERT INTO counter (id, count) VALUES (2, 0)": (),
    "INSERT INTO counter (id, count) VALUES (2, 0) RETURNING id": (),
    "INSERT INTO counter (id, count) VALUES (2, abs(-7)) ON CONFLICT (id) DO NOTHING": (
        SQLITE,
        POSTGRESQL,
    ),
    "REPLACE INTO counter (id, count) VALUES (2, 0)": (SQLITE, MARIADB),
    "UPDATE counter SET count = 7": (),
    "DELETE FROM counter WHERE id = 1": (),
    "MERGE INTO counter USING (SELECT 1 AS n) AS one ON id = n WHEN MATCHED THEN UPDATE SET "
    "count = 7": (POSTGRESQL,),
    "WITH new AS (INSERT INTO counter (id, count) VALUES (2, 0) RETURNING id) SELECT id FROM new": (
        POSTGRESQL,
    ),
    "WITH n AS (SELECT 2 AS n) INSERT INTO counter (id, count) SELECT n, n FROM n": (POSTGRESQL,),
    "WITH n AS (SELECT 2 AS n) INSERT INTO counter (id, count) SELECT n, n FROM n RETURNING id": (
        POSTGRESQL,
    ),
    "SELECT bump()": (POSTGRESQL, MARIADB),
    "SELECT count, bump() FROM counter": (POSTGRESQL,),
    "SELECT log('hello')": (POSTGRESQL,),
    "SELECT run('CREATE SCHEMA acme')": (POSTGRESQL,),
    "SELECT run('GRANT SELECT ON counter TO public')": (POSTGRESQL,),
    "SELECT run('CREATE TYPE other AS ENUM ()')": (POSTGRESQL,),
    "SELECT run('ALTER TYPE mood ADD VALUE $$sad$$')": (POSTGRESQL,),
    "SELECT run('CREATE FUNCTION more() RETURNS int LANGUAGE sql AS $$SELECT 1$$')": (POSTGRESQL,),
    "SELECT lo_create(0)": (POSTGRESQL,),
    "SELECT lo_unlink(lo_create(0))": (POSTGRESQL,),
    "SELECT date_trunc('day')": (MARIADB,),
    "SELECT count (1)": (MARIADB,),
    "CALL bump_it()": (POSTGRESQL, MARIADB),
    "DO bump()": (MARIADB,),
    "SET @x = bump()": (MARIADB,),
    "SET STATEMENT max_statement_time = 9 FOR UPDATE counter SET count = 7": (MARIADB,),
    "SET STATEMENT max_statement_time = 9 FOR DELETE FROM counter": (MARIADB,),
    "DO $$ BEGIN PERFORM bump(); END $$": (POSTGRESQL,),
    "SELECT * INTO other FROM counter": (POSTGRESQL,),
    "CREATE TABLE other AS SELECT * FROM counter WHERE false": (POSTGRESQL,),
    "CREATE TABLE other (id INTEGER)": (POSTGRESQL,),
    "CREATE OR REPLACE FUNCTION more() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$": (POSTGRESQL,),
    "COMMENT ON TABLE counter IS 'what is counted'": (POSTGRESQL,),
    "EXPLAIN ANALYZE UPDATE counter SET count = 7": (POSTGRESQL,),
    "TRUNCATE counter": (POSTGRESQL,),
    "SELECT 1; UPDATE counter SET count = 7": (POSTGRESQL,),
}


def name_of(queue: Bench) -> str:
    """The name of the database."""
    return {"sqlite": SQLITE, "postgresql": POSTGRESQL}.get(queue.db.engine.dialect.name, MARIADB)


def of(statements: dict[str, tuple[str, ...]], queue: Bench) -> list[str]:
    """The statements that a database has."""
    return [text for text, names in statements.items() if not names or name_of(queue) in names]


@contextmanager
def functions(queue: Bench, names: Iterable[str]) -> Iterator[None]:
    """Functions of any names that change a row."""
    quote = queue.db.engine.dialect.identifier_preparer.quote_identifier
    on_postgresql = name_of(queue) == POSTGRESQL
    before, after = ("public.", "(int)") if on_postgresql else ("", "")
    body = (
        " RETURNS int LANGUAGE sql AS 'UPDATE counter SET count = count + 1 RETURNING 1'"
        if on_postgresql
        else " (x int) RETURNS int MODIFIES SQL DATA BEGIN UPDATE counter SET count = count + 1; "
        "RETURN 1; END"
    )
    with queue.db.engine.begin() as connection:
        for name in names:
            connection.exec_driver_sql(f"CREATE FUNCTION {before}{quote(name)}{after}{body}")
    try:
        yield
    finally:
        queue.db.session.rollback()
        with queue.db.engine.begin() as connection:
            for name in names:
                connection.exec_driver_sql(f"DROP FUNCTION {before}{quote(name)}{after}")


def test_a_statement_that_changes_nothing_leaves_the_task_alone(queue: Bench) -> None:
    """It is stored at once, whatever the statement looks like: a view that only reads need not
    commit.
    """
    for text in of(READS, queue):
        execute(queue, text)
        assert (text, queue.tasks.add("/w").is_committed) == (text, True)
        queue.db.session.rollback()
    assert len(queue.tasks.find()) == len(of(READS, queue))


def test_a_statement_that_changes_something_takes_the_task_along(queue: Bench) -> None:
    """It is rolled back with it, whatever the statement looks like."""
    for text in of(WRITES, queue):
        execute(queue, text)
        assert (text, queue.tasks.add("/w").is_committed) == (text, False)
        queue.db.session.rollback()
    assert queue.tasks.find() == []


def test_after_all_reads_of_a_transaction_together_the_task_is_stored_at_once(queue: Bench) -> None:
    """What locks rows or savepoints that were rolled back leave behind is no change."""
    savepoint = queue.db.session.begin_nested()
    execute(queue, "UPDATE counter SET count = 7")
    savepoint.rollback()
    for text in of(READS, queue):
        execute(queue, text)
    expect(queue, joined=False)


def test_a_function_that_is_named_like_a_word_of_the_grammar_is_called(queue: Bench) -> None:
    """What it changes is a change, although the word mostly calls nothing."""
    if name_of(queue) == SQLITE:
        pytest.skip("SQLite has no functions in the database")
    names = WORDS[name_of(queue)].split()
    with functions(queue, names):
        for name in names:
            execute(queue, f"SELECT {name} (1)")
            assert (name, queue.tasks.add("/w").is_committed) == (name, False)
            queue.db.session.rollback()


def test_a_word_that_is_taken_for_grammar_calls_no_function(queue: Bench) -> None:
    """The database itself says so of each, where a function has that name."""
    if name_of(queue) == SQLITE:
        pytest.skip("SQLite has no functions in the database")
    with queue.db.engine.connect() as connection:
        names = sorted(names_of(connection).words)
    with functions(queue, names):
        for name in names:
            for text in (f"SELECT {name} (1)", f"SELECT 1 = {name}(1)", f"TABLE {name}(1)"):
                with suppress(sa.exc.DBAPIError), queue.db.session.begin_nested():
                    execute(queue, text)
            count = queue.db.session.scalar(sa.select(queue.Counter.count))
            assert (name, count) == (name, 0)


def test_a_write_among_statements_that_do_not_tell_is_found(queue: Bench) -> None:
    """Whichever of them it was, also after a row was locked."""
    reads = [text for text in of(READS, queue) if "look()" in text or "lock()" in text]
    for text in of(WRITES, queue):
        for before in (reads, ["SELECT * FROM counter", *reads], []):
            for one in [*before, text, *reads]:
                execute(queue, one)
            assert (text, queue.tasks.add("/w").is_committed) == (text, False)
            queue.db.session.rollback()


@pytest.mark.parametrize("nested", [1, 2])
@pytest.mark.parametrize("kept", [True, False])
def test_savepoints_are_followed(queue: Bench, nested: int, kept: bool) -> None:
    """What a savepoint held is a change of the transaction exactly if it is released."""
    for text in of(WRITES, queue):
        if text.startswith("CREATE OR REPLACE FUNCTION"):
            continue
        savepoints = [queue.db.session.begin_nested() for _ in range(nested)]
        execute(queue, text)
        assert (text, queue.tasks.add("/w").is_committed) == (text, False)
        for number, savepoint in enumerate(reversed(savepoints)):
            if kept or number + 1 < nested:
                savepoint.commit()
            else:
                savepoint.rollback()
        execute(queue, "WITH n AS (SELECT 1 AS n) SELECT n FROM n")
        # The driver of SQLite begins nothing for a savepoint: to release the outermost is to
        # commit.
        committed = not kept or (
            queue.db.engine.dialect.name == "sqlite"
            and not queue.db.session.connection().connection.in_transaction
        )
        assert (text, queue.tasks.add("/w").is_committed) == (text, committed)
        queue.db.session.rollback()
        queue.db.session.execute(sa.text("DELETE FROM counter WHERE id > 1"))
        queue.db.session.commit()


CHANGES: dict[str, Callable[[Bench], object]] = {
    "on the connection": lambda queue: queue.db.session.connection().execute(
        sa.update(queue.Counter).values(count=7)
    ),
    "by the driver": lambda queue: queue.db.session.connection().exec_driver_sql(
        "UPDATE counter SET count = 7"
    ),
    "bulk_insert_mappings": lambda queue: queue.db.session.bulk_insert_mappings(
        queue.Counter, [{"id": 2, "count": 0}]
    ),
    "bulk_save_objects": lambda queue: queue.db.session.bulk_save_objects(
        [queue.Counter(id=2, count=0)]
    ),
    "many rows": lambda queue: queue.db.session.execute(
        sa.insert(queue.Counter), [{"id": n, "count": 0} for n in range(2, 9)]
    ),
    "a query's update": lambda queue: queue.db.session.query(queue.Counter).update({"count": 7}),
    "rows that are not fetched": lambda queue: setattr(
        queue,
        "result",
        queue.db.session.execute(
            sa.text("INSERT INTO counter (id, count) VALUES (2, 0), (3, 0) RETURNING id")
        ),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_writes_that_bypass_the_session_are_seen(
    queue: Bench, change: Callable[[Bench], object]
) -> None:
    """On its connection, by the driver, by bulk methods."""
    change(queue)
    expect(queue, joined=True)


@pytest.mark.parametrize("many", [1, 3])
def test_rows_that_the_database_returns_still_reach_the_session(queue: Bench, many: int) -> None:
    """Keys that the database has made, one and several to a statement."""
    execute(queue, "DELETE FROM counter")
    new = [queue.Counter(count=number) for number in range(many)]
    queue.db.session.add_all(new)
    queue.db.session.flush()
    assert len({one.id for one in new} - {None}) == many
    rows = queue.db.session.execute(
        sa.insert(queue.Counter).returning(queue.Counter.id), [{"count": 7}, {"count": 8}]
    ).all()
    assert len(rows) == 2
    text = queue.db.session.execute(
        sa.text("INSERT INTO counter (id, count) VALUES (91, 7), (92, 8) RETURNING id")
    )
    assert [row.id for row in text] == [91, 92]
    expect(queue, joined=True)


def test_an_attribute_set_to_its_own_value_is_no_change(queue: Bench) -> None:
    """Nothing would be flushed."""
    counter = queue.db.session.get(queue.Counter, 1)
    counter.count = counter.count + 0
    expect(queue, joined=False)


def test_hooks_of_a_commit(queue: Bench) -> None:
    """Before it a task is part of it; after it, it is stored at once; a rollback is followed by
    none.
    """
    added: dict[str, Task] = {}
    session = queue.db.session
    for name in ("before_commit", "after_flush", "after_commit", "after_rollback"):

        def hook(*_: Any, name: str = name) -> None:
            added[name] = queue.tasks.add("/w")

        sa.event.listen(session, name, hook)
    session.add(queue.Counter(id=2, count=0))
    session.commit()
    assert {name: task.is_committed for name, task in added.items()} == dict.fromkeys(
        ("before_commit", "after_flush", "after_commit"), True
    )
    assert len(queue.tasks.find()) == 3
    added.clear()
    session.add(queue.Counter(id=3, count=0))
    session.flush()
    session.rollback()
    assert is_stored(queue, added["after_rollback"])
    assert not is_stored(queue, added["after_flush"])
    session.add(queue.Counter(id=4, count=0))  # not flushed
    session.rollback()
    assert is_stored(queue, added["after_rollback"])


def test_a_session_that_can_only_be_rolled_back_is_not_joined(queue: Bench) -> None:
    """Its changes are lost, the task is not."""
    queue.db.session.add(queue.Counter(id=1, count=0))
    with pytest.raises(sa.exc.IntegrityError):
        queue.db.session.flush()
    expect(queue, joined=False)


def test_a_commit_that_is_over_cannot_be_joined(queue: Bench) -> None:
    """It is said so; the commit itself has been made."""

    def hook(_session: Any) -> None:
        queue.tasks.add("/w", transactional=True)

    sa.event.listen(queue.db.session, "after_commit", hook)
    queue.db.session.add(queue.Counter(id=2, count=0))
    with pytest.raises(
        BadTransactionStateError, match="no transaction that the change could be part of"
    ):
        queue.db.session.commit()
    sa.event.remove(queue.db.session, "after_commit", hook)
    queue.db.session.remove()
    assert queue.db.session.get(queue.Counter, 2) is not None


def test_a_transaction_that_the_application_ends_by_a_statement(queue: Bench) -> None:
    """COMMIT and ROLLBACK as texts: what they ended is no change any more."""
    if queue.db.engine.dialect.name == "sqlite":
        execute(queue, "UPDATE counter SET count = 7")
        execute(queue, "COMMIT")
        expect(queue, joined=False)
        return
    execute(queue, "UPDATE counter SET count = 7")
    task = queue.tasks.add("/w")
    execute(queue, "COMMIT")
    assert task.is_committed
    expect(queue, joined=False)
    execute(queue, "UPDATE counter SET count = 8")
    task = queue.tasks.add("/w")
    execute(queue, "ROLLBACK")
    assert not task.is_committed
    assert not is_stored(queue, task)
    expect(queue, joined=False)


def test_a_connection_that_commits_by_itself_holds_no_changes(queue: Bench) -> None:
    """Each of its statements is committed when it has run."""
    connection = queue.db.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    connection.execute(sa.update(queue.Counter).values(count=7))
    # A recipe that begins on SQLite begins here too.
    expect(
        queue,
        joined=queue.db.engine.dialect.name == "sqlite" and connection.connection.in_transaction,
    )


@pytest.mark.parametrize("transactional", [None, True])
@pytest.mark.parametrize(
    ("driver", "begin"),
    [
        ({"isolation_level": None}, None),
        ({"isolation_level": None}, "BEGIN"),
        ({"isolation_level": None}, "BEGIN IMMEDIATE"),
        pytest.param(
            {"autocommit": True},
            None,
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has it"),
        ),
    ],
)
def test_a_driver_of_sqlite_that_begins_nothing_is_no_transaction_to_join(
    tmp_path: Path, driver: dict[str, Any], transactional: bool | None, begin: str | None
) -> None:
    """It commits each statement at once, unless something has begun a transaction."""
    options = {"connect_args": driver}
    url = f"sqlite:///{tmp_path}/test.db"
    with bench(url, SQLALCHEMY_ENGINE_OPTIONS=options) as queue:
        queue.tasks.worker("/w")(lambda: None)
        if begin is not None:
            sa.event.listen(
                queue.db.engine, "begin", lambda connection: connection.exec_driver_sql(begin)
            )
        queue.db.session.add(queue.Counter(id=2, count=0))
        if begin is None:
            with pytest.raises(BadTransactionStateError, match="AUTOCOMMIT"):
                queue.tasks.add("/w", transactional=transactional)
            assert queue.tasks.find() == []
            queue.db.session.flush()  # commits
            assert queue.tasks.add("/w").is_committed
        else:
            task = queue.tasks.add("/w", transactional=transactional)
            assert not is_stored(queue, task)
            queue.db.session.commit()
            assert is_stored(queue, task)


@pytest.mark.parametrize(
    "text",
    [
        "PRAGMA user_version = 7",
        "CREATE TEMP TABLE other (id INTEGER)",
        "CREATE TABLE other (id INTEGER)",
    ],
)
def test_what_sqlite_does_not_count_in_rows_is_a_change_too(queue: Bench, text: str) -> None:
    """Where a transaction is open, which the driver begins for a change of rows only."""
    if queue.db.engine.dialect.name != "sqlite":
        pytest.skip("of SQLite only")
    execute(queue, "UPDATE counter SET count = 7 WHERE id = 99")
    execute(queue, text)
    expect(queue, joined=True)


def test_savepoints_by_text_are_followed(queue: Bench) -> None:
    """As those of the session's own."""
    execute(queue, "SAVEPOINT mine")
    execute(queue, "UPDATE counter SET count = 7")
    execute(queue, "ROLLBACK TO SAVEPOINT mine")
    execute(queue, "RELEASE SAVEPOINT mine")
    expect(queue, joined=False)


def test_a_statement_that_commits_by_itself(queue: Bench) -> None:
    """On MariaDB that is every change of a table: then nothing is left to join."""
    execute(queue, "UPDATE counter SET count = 7")
    execute(queue, "CREATE TABLE other (id INTEGER)")
    expect(queue, joined=queue.db.engine.dialect.name in ("sqlite", "postgresql"))
    execute(queue, "DROP TABLE IF EXISTS other")
    queue.db.session.commit()


def test_what_many_rows_have_changed_before_one_failed_is_a_change(queue: Bench) -> None:
    """A view may catch the error and commit the rest; PostgreSQL lets it only roll back."""
    queue.db.session.execute(sa.insert(queue.Counter), [{"id": n, "count": 0} for n in (2, 3)])
    queue.db.session.commit()
    move = sa.update(queue.Counter.__table__).where(queue.Counter.id == sa.bindparam("old"))
    rows = [{"old": 1, "new": 9}, {"old": 2, "new": 3}]
    with pytest.raises(sa.exc.IntegrityError):
        queue.db.session.execute(move.values(id=sa.bindparam("new")), rows)
    expect(queue, joined=queue.db.engine.dialect.name != "postgresql")
    with pytest.raises(sa.exc.IntegrityError):
        execute(queue, "INSERT INTO counter (id, count) VALUES (1, 0)")
    expect(queue, joined=False)


def test_what_a_procedure_has_changed_before_it_failed_is_a_change(queue: Bench) -> None:
    """On MariaDB, which keeps it in the transaction."""
    if queue.db.engine.dialect.name in ("sqlite", "postgresql"):
        pytest.skip("of MariaDB only")
    for body, joined in (("UPDATE counter SET count = 7;", True), ("", False)):
        execute(
            queue,
            f"CREATE OR REPLACE PROCEDURE fail_it() BEGIN {body} SIGNAL SQLSTATE '45000'; END",
        )
        with pytest.raises(sa.exc.DBAPIError):
            execute(queue, "CALL fail_it()")
        expect(queue, joined=joined)


def test_what_a_trigger_has_changed_before_its_row_was_left_out_is_a_change(queue: Bench) -> None:
    """With IGNORE no row counts, but MariaDB keeps what the trigger has written."""
    if queue.db.engine.dialect.name in ("sqlite", "postgresql"):
        pytest.skip("of MariaDB only")
    for text in (
        "CREATE TABLE seen (id INTEGER)",
        "CREATE TABLE item (id INTEGER PRIMARY KEY)",
        "CREATE TABLE part (item INTEGER, FOREIGN KEY (item) REFERENCES item (id))",
        "INSERT INTO item VALUES (1)",
        "INSERT INTO part VALUES (1)",
        "CREATE TRIGGER enters BEFORE INSERT ON item FOR EACH ROW INSERT INTO seen VALUES (1)",
        "CREATE TRIGGER leaves BEFORE DELETE ON item FOR EACH ROW INSERT INTO seen VALUES (1)",
    ):
        execute(queue, text)
    queue.db.session.commit()
    for text in ("INSERT IGNORE INTO item VALUES (1)", "DELETE IGNORE FROM item WHERE id = 1"):
        execute(queue, text)
        assert queue.db.session.scalar(sa.text("SELECT count(*) FROM seen")) == 1
        expect(queue, joined=True)
    execute(queue, "DELETE IGNORE FROM item WHERE id = 99")
    expect(queue, joined=False)


def test_a_change_of_a_table_that_fails_has_committed_on_mariadb(queue: Bench) -> None:
    """What was added before is committed; a statement that is not understood commits nothing."""
    if queue.db.engine.dialect.name in ("sqlite", "postgresql"):
        pytest.skip("of MariaDB only")
    execute(queue, "UPDATE counter SET count = 7")
    task = queue.tasks.add("/w")
    with pytest.raises(sa.exc.DBAPIError):
        execute(queue, "CREATE TABLE counter oops")
    assert not task.is_committed
    with pytest.raises(sa.exc.DBAPIError):
        execute(queue, "CREATE TABLE counter (id INTEGER)")
    assert task.is_committed
    assert is_stored(queue, task)
    expect(queue, joined=False)


@pytest.mark.parametrize("text", ["SELECT id FROM counter", "SELECT id, look() FROM counter"])
@pytest.mark.parametrize("writes", [False, True])
def test_a_streamed_result_loses_no_row_to_a_task(queue: Bench, text: str, writes: bool) -> None:
    """A connection of MariaDB's can do nothing else meanwhile: what would need it is refused."""
    on_mariadb = queue.db.engine.dialect.name not in ("sqlite", "postgresql")
    if queue.db.engine.dialect.name == "sqlite" and "look" in text:
        pytest.skip("SQLite has no functions in the database")
    session = queue.db.session
    session.execute(sa.insert(queue.Counter), [{"id": n, "count": 0} for n in range(2, 41)])
    session.commit()
    if writes:
        session.execute(sa.update(queue.Counter).values(count=7))
    seen = 0
    for _ in session.execute(sa.text(text).execution_options(yield_per=5)):
        seen += 1
        if on_mariadb and (writes or "look" in text) and seen <= 30:
            with pytest.raises(BadTransactionStateError, match=r"read all rows first"):
                queue.tasks.add("/w")
            with pytest.raises(BadTransactionStateError, match=r"read all rows first"):
                queue.tasks.add("/w", transactional=True)
    assert seen == 40
    expect(queue, joined=writes)


@pytest.mark.parametrize("savepoint", [False, True])
def test_what_a_streamed_result_writes_later_is_a_change(
    on_postgresql: Bench, savepoint: bool
) -> None:
    """PostgreSQL calls the functions of a row when it is fetched, also after a task was added."""
    queue, session = on_postgresql, on_postgresql.db.session
    added = []
    text = "SELECT n, CASE WHEN n > 50 THEN bump() END FROM generate_series(1, 100) AS n"
    for n, _ in session.execute(sa.text(text).execution_options(yield_per=5)):
        if n in (1, 2):
            added.append(queue.tasks.add("/w"))
        if n == 20 and savepoint:
            session.begin_nested()
            session.connection()  # SQLAlchemy begins the savepoint when it uses the connection
        if n == 70:
            added.append(queue.tasks.add("/w"))
    assert [task.is_committed for task in added] == [True, True, False]
    session.rollback()
    execute(queue, "SELECT lower('A')")
    expect(queue, joined=False)


@pytest.mark.parametrize("savepoint", [False, True])
def test_a_streamed_result_that_was_read_after_a_task_is_a_change(
    on_postgresql: Bench, savepoint: bool
) -> None:
    """What its last rows have written is asked when the next one is added."""
    text = "SELECT n, CASE WHEN n > 50 THEN bump() END FROM generate_series(1, 100) AS n"
    session = on_postgresql.db.session
    rows = session.execute(sa.text(text).execution_options(yield_per=5))
    rows.fetchone()
    assert on_postgresql.tasks.add("/w").is_committed
    if savepoint:
        session.begin_nested()
        session.connection()
    rows.all()
    expect(on_postgresql, joined=True)


def closed(queue: Bench) -> None:
    """As at the end of a request."""
    queue.db.session.remove()


def test_a_session_that_is_closed_without_a_commit_is_told(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """With the tasks that are lost by it, and what to do."""
    caplog.set_level(logging.WARNING)
    queue.db.session.add(queue.Counter(id=2, count=0))
    tasks = [queue.tasks.add("/w"), queue.tasks.queue("default").add(["/w"])[0]]
    closed(queue)
    assert [task.is_committed for task in tasks] == [False, False]
    [record] = [record for record in caplog.records if "without a commit" in record.message]
    assert all(f"task {task.id} (/w)" in record.message for task in tasks)
    assert "transactional=False" in record.message


def test_a_session_that_is_closed_with_a_savepoint_open_is_told(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """What was added in it is lost as well."""
    caplog.set_level(logging.WARNING)
    queue.db.session.begin_nested()
    queue.db.session.add(queue.Counter(id=2, count=0))
    task = queue.tasks.add("/w")
    closed(queue)
    assert f"task {task.id} (/w)" in caplog.text


def test_only_true_and_false_force_the_rule(queue: Bench) -> None:
    """Anything else is refused, for one of them would lose the task."""
    with pytest.raises(InvalidTaskError, match="transactional is 'no'; it must be True or False"):
        queue.tasks.add("/w", transactional="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "how", ["commit", "rollback", "context manager", "savepoint", "nothing added"]
)
def test_what_was_meant_is_not_told(
    queue: Bench, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """A commit, a rollback, an exception that passes through ``with session.begin()``."""
    caplog.set_level(logging.WARNING)
    session = queue.db.session
    if how in ("context manager", "savepoint"):
        with (
            suppress(ZeroDivisionError),
            session.begin() if how == "context manager" else session.begin_nested(),
        ):
            execute(queue, "UPDATE counter SET count = 7")
            queue.tasks.add("/w")
            raise ZeroDivisionError
    else:
        session.add(queue.Counter(id=2, count=0))
        if how != "nothing added":
            queue.tasks.add("/w")
            session.commit() if how == "commit" else session.rollback()
    closed(queue)
    assert caplog.records == []
    assert len(queue.tasks.find()) == (how == "commit")


def test_a_task_of_a_released_savepoint_is_told_too(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It was lost with the transaction."""
    with queue.db.session.begin_nested():
        task = queue.tasks.add("/w", transactional=True)
    closed(queue)
    # On SQLite the driver has committed it, unless something has begun the transaction before.
    assert is_stored(queue, task) if task.is_committed else task.id in caplog.text


def test_dispatchers_are_woken_after_a_commit_only(
    queue: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for all that was committed together."""
    woken: list[None] = []
    monkeypatch.setattr(queue.runtime, "wake", lambda: woken.append(None))
    session = queue.db.session
    for end in (session.rollback, session.remove, session.commit):
        assert woken == []
        execute(queue, "UPDATE counter SET count = 7")
        queue.tasks.add("/w")
        queue.tasks.add("/w")
        end()
    assert len(woken) <= 2


def test_a_task_that_is_not_committed_is_not_waited_for(queue: Bench) -> None:
    """Nobody could run it."""
    task = queue.tasks.add("/w", transactional=True)
    with pytest.raises(BadTransactionStateError, match="commit the session first"):
        task.wait(1)
    queue.db.session.commit()
    queue.tasks.drain()
    assert task.wait(1).state == "succeeded"


def test_changes_of_another_bind_count(database: TestDatabase, tmp_path: Any) -> None:
    """The session commits all its databases together, so the task is one with them."""
    with bench(database.url, SQLALCHEMY_BINDS={"other": f"sqlite:///{tmp_path}/other.db"}) as queue:
        queue.tasks.worker("/w")(lambda: None)
        other = queue.db.engines["other"]
        connection = queue.db.session.connection(bind_arguments={"bind": other})
        connection.exec_driver_sql("CREATE TABLE thing (id INTEGER)")
        queue.db.session.commit()
        connection = queue.db.session.connection(bind_arguments={"bind": other})
        connection.exec_driver_sql("INSERT INTO thing VALUES (1)")
        expect(queue, joined=True)


def test_a_key_that_a_running_task_has_is_not_locked(queue: Bench) -> None:
    """While the session's transaction stays open, whoever attempts that task can record what
    became of it.
    """
    first = queue.tasks.add("/w", unique_key="k")
    queue.db.session.add(queue.Counter(id=2, count=0))
    queue.db.session.flush()
    second = queue.tasks.add("/w", unique_key="k")
    assert (second.id, second.disposition) == (first.id, "skipped")
    if queue.db.engine.dialect.name == "sqlite":
        return  # one writer: nobody records anything meanwhile
    store = queue.store
    patience = {
        "postgresql": "SET LOCAL lock_timeout = '2s'",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 2",
    }
    with store.database.engine.begin() as connection:
        connection.exec_driver_sql(patience[connection.dialect.name])
        assert store.tasks.delete(connection, first.id)
    queue.db.session.rollback()


def test_a_key_whose_task_was_deleted_in_the_transaction_is_free(queue: Bench) -> None:
    """What the transaction itself has done counts, though nobody else sees it yet."""
    first = queue.tasks.add("/w", unique_key="k")
    queue.db.session.add(queue.Counter(id=2, count=0))
    first.delete()
    second = queue.tasks.add("/w", unique_key="k")
    assert second.disposition == "added"
    queue.db.session.commit()
    assert [task.id for task in queue.tasks.find(state="scheduled")] == [second.id]


def test_what_the_drivers_own_cursor_changes_is_kept(queue: Bench) -> None:
    """On SQLite, where its driver counts it, it is a change like any other; nothing is ever
    taken back behind the app's back.
    """
    cursor = queue.db.session.connection().connection.cursor()
    cursor.execute("UPDATE counter SET count = 5")
    cursor.close()
    task = queue.tasks.add("/w")
    if queue.db.engine.dialect.name == "sqlite":
        assert task.is_committed is False
    queue.db.session.commit()
    queue.db.session.expire_all()
    assert queue.db.session.get(queue.Counter, 1).count == 5


def visit(queue: Bench) -> None:
    """A transaction that is over, which the server counts for some seconds with the next one."""
    execute(queue, "UPDATE counter SET count = count + 1")
    queue.db.session.commit()


def roll_back_a_savepoint(queue: Bench) -> None:
    """Change a row in a savepoint, and roll it back."""
    savepoint = queue.db.session.begin_nested()
    execute(queue, "UPDATE counter SET count = 7")
    savepoint.rollback()


LOCKS: dict[str, Callable[[Bench], object]] = {
    "a row": lambda queue: queue.db.session.get(queue.Counter, 1, with_for_update=True),
    "a table": lambda queue: execute(queue, "LOCK TABLE counter"),
    "what was rolled back": roll_back_a_savepoint,
}


@pytest.fixture
def on_postgresql(laid: Laid, tmp_path: Path) -> Iterator[Bench]:
    """An application on PostgreSQL, with a table whose rows a trigger puts elsewhere."""
    with laid.lend("postgresql", tmp_path) as database, bench(database.url) as one:
        one.tasks.worker("/w")(lambda: None)
        with one.db.engine.begin() as connection:
            for statement in (
                "CREATE TABLE door (id int)",
                "CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO "
                "counter (id, count) VALUES (NEW.id, 0); RETURN NULL; END'",
                "CREATE TRIGGER pass BEFORE INSERT ON door FOR EACH ROW EXECUTE FUNCTION pass()",
                "CREATE OR REPLACE FUNCTION bump() RETURNS int LANGUAGE sql AS 'UPDATE counter SET "
                "count = count + 1 RETURNING 1'",
            ):
                connection.exec_driver_sql(statement)
        one.tasks.find()
        yield one
        one.db.session.rollback()
        with one.db.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE door")
            connection.exec_driver_sql("DROP FUNCTION pass()")


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_is_no_change_whatever_the_connection_has_done_before(
    on_postgresql: Bench, lock: Callable[[Bench], object]
) -> None:
    """Before and after statements that match no row; a view that only adds a task need not
    commit.
    """
    queue, nothing = on_postgresql, "UPDATE counter SET count = 7 WHERE id = 99"
    for before, after in (([], []), ([], [nothing]), ([nothing], []), ([nothing], [nothing])):
        visit(queue)
        execute(queue, "SELECT lower('A')")
        for text in before:
            execute(queue, text)
        lock(queue)
        for text in after:
            execute(queue, text)
        expect(queue, joined=False)


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
@pytest.mark.parametrize(
    "text",
    ["INSERT INTO door VALUES (3)", "UPDATE counter SET count = 7", "SELECT lo_create(0)"],
)
def test_a_write_beside_a_lock_is_a_change(
    on_postgresql: Bench, lock: Callable[[Bench], object], text: str
) -> None:
    """Also one of a trigger, for a statement that has inserted no row itself."""
    queue = on_postgresql
    for first, second in ((lock, None), (None, lock)):
        visit(queue)
        for step in (first, lambda queue: execute(queue, text), second):
            if step is not None:
                step(queue)
        expect(queue, joined=True)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("SELECT counter.touch FROM counter", True),
        ("SELECT n FROM touching", True),
        ("SELECT @+ id FROM counter", True),
        ("SELECT counter.count FROM counter", False),
    ],
)
def test_what_a_read_calls_unseen_is_a_change(
    on_postgresql: Bench, text: str, joined: bool, nested: bool
) -> None:
    """As the function of ``row.function``, of a view or of an operator."""
    queue, session = on_postgresql, on_postgresql.db.session
    making = (
        "CREATE FUNCTION touch(counter) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT bump()'",
        "CREATE FUNCTION raise(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT bump()'",
        "CREATE VIEW touching AS SELECT bump() AS n",
        "CREATE OPERATOR @+ (FUNCTION = raise, RIGHTARG = int)",
    )
    dropping = (
        "DROP OPERATOR @+ (NONE, int)",
        "DROP VIEW touching",
        "DROP FUNCTION raise(int)",
        "DROP FUNCTION touch(counter)",
    )
    with queue.db.engine.begin() as connection:
        for statement in making:
            connection.exec_driver_sql(statement)
    queue.db.engine.dispose()
    try:
        execute(queue, text)
        if nested:
            with suppress(ZeroDivisionError), session.begin_nested():
                execute(queue, "SELECT 1")
                raise ZeroDivisionError
        expect(queue, joined=joined)
    finally:
        session.rollback()
        with queue.db.engine.begin() as connection:
            for statement in dropping:
                connection.exec_driver_sql(statement)


def test_a_number_that_no_lock_explains_is_a_change(on_postgresql: Bench) -> None:
    """As that of a message for logical decoding, which is in no table."""
    execute(on_postgresql, "SELECT pg_logical_emit_message(true, 'outbox', 'paid')")
    expect(on_postgresql, joined=True)


@pytest.mark.parametrize("lock", [None, *LOCKS.values()], ids=["nothing", *LOCKS])
def test_what_the_server_does_not_count_is_a_change(
    on_postgresql: Bench, lock: Callable[[Bench], object] | None
) -> None:
    """Where `track_counts` is off nothing tells a lock from a write."""
    queue = on_postgresql
    execute(queue, "SET LOCAL track_counts = off")
    execute(queue, "SELECT lower('A')")
    expect(queue, joined=False)
    execute(queue, "SET LOCAL track_counts = off")
    if lock is not None:
        lock(queue)
    execute(queue, "SELECT bump()")
    expect(queue, joined=True)


@pytest.mark.parametrize("lock", [None, *LOCKS.values()], ids=["nothing", *LOCKS])
@pytest.mark.parametrize("joined", [True, False])
def test_a_write_to_a_foreign_table_is_a_change(
    on_postgresql: Bench, lock: Callable[[Bench], object] | None, joined: bool
) -> None:
    """Although this server counts none of its rows, and gives the transaction no number."""
    queue, url = on_postgresql, on_postgresql.db.engine.url
    available = "SELECT 1 FROM pg_available_extensions WHERE name = 'postgres_fdw'"
    if not queue.db.session.scalar(sa.text(available)):
        pytest.skip("this server does not have postgres_fdw")
    queue.db.session.rollback()
    host, password = url.host or url.query["host"], url.password or ""
    with queue.db.engine.begin() as connection:
        for statement in (
            "CREATE EXTENSION postgres_fdw",
            f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', "
            f"port '{url.port or 5432}', dbname '{url.database}')",
            f"CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user '{url.username}', "
            f"password '{password}')",
            "CREATE FOREIGN TABLE remote (id int) SERVER far OPTIONS (table_name 'door')",
            "CREATE FUNCTION send() RETURNS bigint LANGUAGE sql AS 'WITH new AS (INSERT INTO "
            "remote VALUES (3) RETURNING id) SELECT count(*) FROM new'",
            "ALTER TABLE door DISABLE TRIGGER pass",
        ):
            connection.exec_driver_sql(statement)
    queue.db.engine.dispose()
    try:
        for text in (
            "WITH new AS (INSERT INTO remote VALUES (3) RETURNING id) SELECT id FROM new",
            "SELECT send()",
        ):
            if lock is not None:
                lock(queue)
            execute(queue, text if joined else "SELECT count(*) FROM remote")
            expect(queue, joined=joined)
    finally:
        queue.db.session.rollback()
        with queue.db.engine.begin() as connection:
            connection.exec_driver_sql("DROP FUNCTION send()")
            connection.exec_driver_sql("DROP EXTENSION postgres_fdw CASCADE")


def test_what_a_hook_of_the_beginning_writes_is_a_change(database: TestDatabase) -> None:
    """Although it was registered before the queue knew the session."""
    app = Flask(__name__)
    app.config.update(
        TESTING=True, SECRET_KEY="a secret for tests", SQLALCHEMY_DATABASE_URI=database.url
    )
    db: Any = SQLAlchemy(app)

    class Visit(db.Model):  # type: ignore[name-defined, misc]
        id = sa.Column(sa.Integer, primary_key=True)

    with app.app_context(), closing(app):
        db.create_all()

        def write(_session: Any, _transaction: Any, connection: sa.Connection) -> None:
            connection.execute(sa.insert(Visit))

        sa.event.listen(db.session, "after_begin", write)
        tasks = TaskQueue(app, db)
        tasks.worker("/w")(lambda: None)
        db.create_all()
        if database.name == "sqlite":
            begin_explicitly(db.engine)
        for end, kept in ((db.session.rollback, False), (db.session.commit, True)):
            db.session.scalars(sa.select(Visit)).all()
            task = tasks.add("/w")
            assert not task.is_committed
            end()
            assert task.is_committed is kept
            with db.engine.connect() as connection:
                assert len(connection.execute(sa.select(Visit)).all()) == int(kept)
