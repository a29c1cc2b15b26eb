"""Threats: whoever can write a SQLite file puts bytes in place of a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.states import State
from tests.apps import Bench
from tests.apps import bench as application
from tests.databases import TestDatabase

UNREADABLE = {
    "not UTF-8": sa.text("CAST(x'61ff' AS TEXT)"),
    "with a NUL": sa.text("CAST(x'6100' AS TEXT)"),
    "a BLOB": sa.text("x'61ff'"),
}
READ_AS = {"not UTF-8": "a\\xff", "with a NUL": "a\\x00", "a BLOB": "b'a\\xff'"}
SENT = "id name queue method url target headers retry follow_up batch_id last_reason".split()
"""The columns of a task that decide what is sent, and what follows."""
PAGES = ("", "tasks", "queues", "handlers", "errors", "cron", "system", "health/dispatcher")
COMMANDS = (
    "list",
    "list --json",
    "doctor",
    "stats",
    "queues",
    "health",
    "circuits",
    "check",
    "cron list",
)


@pytest.fixture
def watched(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application whose dashboard shows everybody everything, with a worker at ``/w``."""
    with application(
        sqlite_database.url, TASKQUEUE_DASHBOARD=True, TASKQUEUE_DASHBOARD_ACCESS=lambda: True
    ) as one:
        one.tasks.worker("/w")(lambda: None)
        yield one


def write(bench: Bench, table: str, column: str, value: Any, key: str) -> None:
    """Write a value into a column of the row whose first column has this key."""
    name = f"taskqueue_{table}"
    first = next(iter(getattr(bench.store.database.tables, table).c)).name
    statement = f"UPDATE {name} SET {column} = {value} WHERE {first} = :key"
    with bench.store.database.engine.begin() as connection:
        assert connection.execute(sa.text(statement), {"key": key}).rowcount >= 1


def texts(table: sa.Table) -> list[str]:
    """The names of the columns that hold text."""
    return [column.name for column in table.c if isinstance(column.type, sa.String)]


def check_everything_is_shown(bench: Bench) -> None:
    """Every page, list and command answers."""
    client, commands = bench.app.test_client(), bench.app.test_cli_runner()
    shown = {page: client.get(f"/taskqueue/{page}").status_code for page in PAGES}
    assert 500 not in shown.values(), shown
    for command in COMMANDS:
        told = commands.invoke(args=["taskqueue", *command.split()])
        assert isinstance(told.exception, SystemExit | None), (command, told.exception)
    bench.tasks.find()


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_id_that_nobody_can_read_ends_as_dead(on_sqlite: Bench, kind: str) -> None:
    """The drain comes to its end, others run, and the task is found by what its id reads as."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    task, good = on_sqlite.tasks.add("/w"), on_sqlite.tasks.add("/w")
    write(on_sqlite, "task", "id", UNREADABLE[kind], task.id)
    assert READ_AS[kind] in {found.id for found in on_sqlite.tasks.find()}
    assert on_sqlite.run(good).state is State.SUCCEEDED
    dead = on_sqlite.tasks.get(READ_AS[kind])
    assert (dead.state, "malformed: id" in str(dead.last_error)) == (State.DEAD, True)
    assert len(on_sqlite.attempts(dead)) == 1


def test_an_unreadable_id_takes_no_other_task_along(on_sqlite: Bench) -> None:
    """Not even the task whose id is what the unreadable one reads as."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    tasks = [on_sqlite.tasks.add("/w") for _ in range(3)]
    write(on_sqlite, "task", "id", "'a\\xff'", tasks[0].id)
    write(on_sqlite, "task", "id", UNREADABLE["not UTF-8"], tasks[1].id)
    on_sqlite.tasks.drain()
    found = {task.id: task.state for task in on_sqlite.tasks.find()}
    assert found.pop(tasks[2].id) is State.SUCCEEDED
    assert found.pop("a\\xff") is State.DEAD
    (other, state) = found.popitem()
    assert (other.startswith("a\\xff~"), state, found) == (True, State.DEAD, {})


def test_a_task_whose_lease_ran_out_under_an_unreadable_id_is_ended(on_sqlite: Bench) -> None:
    """Its takeover does not go on for ever."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    task, good = on_sqlite.tasks.add("/w"), on_sqlite.tasks.add("/w")
    lost = "'leased', lease_id = 'x', held_by = 'x', attempts = 1, started_at = 1, due_at = 1"
    write(on_sqlite, "task", "state", lost, task.id)
    write(on_sqlite, "task", "id", UNREADABLE["a BLOB"], task.id)
    assert on_sqlite.run(good).state is State.SUCCEEDED
    assert on_sqlite.tasks.get(READ_AS["a BLOB"]).state is State.DEAD


def test_finished_tasks_with_unreadable_ids_are_forgotten(on_sqlite: Bench) -> None:
    """And keep no other from being forgotten."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    tasks = [on_sqlite.tasks.add("/w") for _ in range(3)]
    on_sqlite.tasks.drain()
    for task, kind in zip(tasks, ("not UTF-8", "a BLOB"), strict=False):
        write(on_sqlite, "task", "id", UNREADABLE[kind], task.id)
    told = on_sqlite.app.test_cli_runner().invoke(
        args=["taskqueue", "prune", "--older-than", "0s", "--yes"]
    )
    assert (told.exit_code, on_sqlite.tasks.find()) == (0, []), told.output


def test_the_application_reads_its_own_tables_as_before(on_sqlite: Bench) -> None:
    """Only the queue's own connections read bytes as text."""
    session = on_sqlite.db.session
    session.execute(sa.text("CREATE TABLE mine (word TEXT)"))
    session.execute(sa.text("INSERT INTO mine VALUES (x'61ff')"))
    session.commit()
    on_sqlite.tasks.worker("/w")(lambda: None)
    task = on_sqlite.tasks.add("/w")
    write(on_sqlite, "task", "id", UNREADABLE["a BLOB"], task.id)
    on_sqlite.tasks.drain()
    assert session.scalar(sa.text("SELECT word FROM mine")) == b"a\xff"


@pytest.mark.slow
def test_any_text_of_a_task_may_be_unreadable(watched: Bench) -> None:
    """Everything is shown, the drain ends, others run; what decides the request is refused."""
    columns = [name for name in texts(watched.store.database.tables.task) if name != "state"]
    for kind, value in UNREADABLE.items():
        written = {column: watched.tasks.add("/w") for column in columns}
        for column, task in written.items():
            write(watched, "task", column, value, task.id)
        good = watched.tasks.add("/w")
        check_everything_is_shown(watched)
        watched.tasks.drain()
        watched.runtime.sweep()
        assert watched.tasks.get(good.id).state is State.SUCCEEDED
        for column, task in written.items():
            ended = watched.tasks.get(READ_AS[kind] if column == "id" else task.id)
            assert ended.state.is_finished, (kind, column)
            if column in SENT:
                is_told = "malformed" in str(ended.last_error)
                assert (ended.state, is_told) == (State.DEAD, True), (kind, column)
        check_everything_is_shown(watched)
        watched.store.transact(
            lambda connection: connection.execute(sa.delete(watched.store.database.tables.task))
        )


@pytest.mark.slow
def test_any_text_beside_the_tasks_may_be_unreadable(watched: Bench) -> None:
    """Rows of all the other tables, each with one such text, hide and hold up nothing."""
    watched.tasks.add_schedule("nightly", "/w", "every day 03:00")
    watched.tasks.drain()
    database = watched.store.database
    for table in database.tables.all[1:]:
        name = table.name.removeprefix("taskqueue_")
        with database.engine.begin() as connection:
            before = [row._asdict() for row in connection.execute(sa.select(table))]
            connection.execute(sa.delete(table))
        for column in texts(table):
            row = before[0] if before else {other.name: _any_value(other) for other in table.c}
            with database.engine.begin() as connection:
                connection.execute(sa.insert(table).values(row))
                if before[1:]:
                    connection.execute(sa.insert(table), before[1:])
                value = UNREADABLE["a BLOB" if len(column) % 2 else "not UTF-8"]
                one = sa.text(
                    f"UPDATE {table.name} SET {column} = {value} "
                    f"WHERE rowid = (SELECT min(rowid) FROM {table.name})"
                )
                assert connection.execute(one).rowcount == 1
            check_everything_is_shown(watched)
            task = watched.tasks.add("/w")
            watched.tasks.drain()
            watched.runtime.sweep()
            ran = watched.tasks.get(task.id).state is State.SUCCEEDED
            assert ran or (name, column) == ("queue", "mode"), (name, column)
            check_everything_is_shown(watched)
            with database.engine.begin() as connection:
                connection.execute(sa.delete(table))
        if before:
            with database.engine.begin() as connection:
                connection.execute(sa.insert(table), before)


def _any_value(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, sa.String):
        return "x"
    return b"x" if isinstance(column.type, sa.LargeBinary) else 1
