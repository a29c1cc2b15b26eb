"""The version of the tables, and their upgrade, on each database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.errors import TablesMissingError, TablesOutdatedError, TablesTooNewError
from flask_taskqueue.core.settings.queue import QueueSettings
from flask_taskqueue.store import Database, Store, Tables
from flask_taskqueue.store.database.schema import CURRENT, SchemaVersion
from tests.databases import TestDatabase
from tests.store.conftest import add, get, open_store

Another = Callable[..., Store]


@pytest.fixture
def store(empty_database: TestDatabase) -> Iterator[Store]:
    """A store in a database of its own."""
    with open_store(empty_database) as one:
        yield one


@pytest.fixture
def another(empty_database: TestDatabase) -> Iterator[Another]:
    """Makes further stores on the same database, as other processes would."""
    opened: list[Database] = []

    def make(*, create: bool = False) -> Store:
        opened.append(
            Database(
                Tables.join(sa.MetaData(), "taskqueue_"),
                sa.make_url(empty_database.url),
                create=create,
            )
        )
        return Store(opened[-1], [QueueSettings(name="default")])

    yield make
    for record in opened:
        record.close()


def stamp(store: Store) -> SchemaVersion | None:
    """What the tables say of themselves."""
    with store.reading() as connection:
        return store.database.schema.stamp(connection)


def set_stamp(store: Store, version: int, oldest: int) -> None:
    """Have the tables say something else."""
    table = store.database.tables.schema
    store.transact(
        lambda connection: connection.execute(
            sa.update(table).values(version=version, oldest=oldest)
        )
    )


def make_older(store: Store) -> None:
    """Take away what a release might have added: a table, a column, an index."""
    tables = store.database.tables
    with store.database.engine.begin() as connection:
        tables.dispatcher.drop(connection)
        connection.exec_driver_sql("ALTER TABLE taskqueue_queue DROP COLUMN paused_by")
        next(
            index for index in tables.task.indexes if index.name == "ix_taskqueue_task_ended"
        ).drop(connection)
        connection.execute(sa.update(tables.schema).values(version=0, oldest=0))


def test_new_tables_say_which_version_they_are_of(store: Store) -> None:
    """Nothing is missing then."""
    assert stamp(store) == CURRENT
    assert store.database.missing() == []


def test_tables_made_by_others_are_of_this_version_once_they_are_found_complete(
    another: Another,
) -> None:
    """``create_all`` and Alembic know nothing of versions; the first process that writes says
    it.
    """
    made = another()
    made.database.tables.task.metadata.create_all(made.database.engine)
    assert stamp(made) is None
    made.ensure_queues()
    assert stamp(made) == CURRENT


def test_a_database_without_tables_is_told_from_one_with_earlier_ones(
    store: Store, another: Another
) -> None:
    """Each error names the command that helps."""
    make_older(store)
    older = another()
    with pytest.raises(
        TablesOutdatedError,
        match=r"column taskqueue_queue\.paused_by is missing; run: flask taskqueue upgrade",
    ):
        older.ensure_queues()
    store.database.tables.task.metadata.drop_all(store.database.engine)
    empty = another()
    with pytest.raises(TablesMissingError, match="flask taskqueue init-db") as raised:
        empty.ensure_queues()
    assert not isinstance(raised.value, TablesOutdatedError)


def test_an_upgrade_adds_what_is_missing_and_keeps_what_is_there(
    store: Store, another: Another
) -> None:
    """Whatever the version was; a second finds nothing to do."""
    task = add(store)
    make_older(store)
    newer = another()
    added = [str(change) for change in newer.database.upgrade()]
    assert sorted(added) == [
        "column taskqueue_queue.paused_by",
        "index ix_taskqueue_task_ended",
        "table taskqueue_dispatcher",
    ]
    assert newer.database.upgrade() == []
    newer.ensure_queues()
    assert stamp(newer) == CURRENT
    assert get(newer, task.id) == task
    assert newer.transact(lambda connection: newer.queues.pause(connection, "default", "me"))


def test_where_tables_may_be_created_they_are_upgraded(store: Store, another: Another) -> None:
    """In development and in the queue's own file nobody has to think of it."""
    make_older(store)
    newer = another(create=True)
    newer.ensure_queues()
    assert (newer.database.missing(), stamp(newer)) == ([], CURRENT)


@pytest.mark.slow
def test_of_several_that_upgrade_at_once_one_does(store: Store, another: Another) -> None:
    """The others wait, and find nothing to do."""
    make_older(store)
    several = [another() for _ in range(5)]
    added: list[list[str]] = []
    together = threading.Barrier(5)

    def upgrade(database: Database) -> None:
        together.wait()
        added.append([change.name for change in database.upgrade()])

    threads = [threading.Thread(target=upgrade, args=(record.database,)) for record in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, added)) == [0, 0, 0, 0, 3]


def test_a_table_that_goes_missing_while_one_works_is_noticed(
    store: Store, another: Another
) -> None:
    """Also when the version says that all is well."""
    other = another()
    other.ensure_queues()
    store.database.tables.task.drop(store.database.engine)
    with pytest.raises(TablesOutdatedError, match="table taskqueue_task is missing"):
        add(other)
    other.database.upgrade()
    add(other)


def test_later_tables_take_tasks_but_not_our_dispatchers(store: Store, another: Another) -> None:
    """Unless they say that ours may work with them; nor does an upgrade to ours change them."""
    set_stamp(store, 3, 1)
    compatible = another()
    compatible.database.refuse_if_too_new()
    set_stamp(store, 4, 3)
    later = another()
    with pytest.raises(TablesTooNewError, match="version 4 and need dispatchers of version 3"):
        later.database.refuse_if_too_new()
    add(later)
    assert later.database.upgrade() == []
    assert stamp(later) == SchemaVersion(4, 3)


def test_a_database_that_may_not_be_changed_is_said_so(sqlite_database: TestDatabase) -> None:
    """With the way out: the statements for somebody who may."""
    tables = Tables.join(sa.MetaData(), "taskqueue_")
    opened = Database(tables, sa.make_url(sqlite_database.url), create=False)
    sa.event.listen(
        opened.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON")
    )
    with pytest.raises(TablesOutdatedError, match="flask taskqueue upgrade --sql"):
        opened.upgrade()
    opened.close()
