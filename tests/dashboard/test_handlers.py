"""The figures of handlers, on each database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from flask_taskqueue import RetryOptions
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.dashboard.handlers import percentile
from tests.apps import Bench
from tests.dashboard.conftest import Open

DAY = 86_400 * SECOND


def figures(one: Bench) -> dict[str, Any]:
    """The lines of the page, by where the tasks go."""
    found = one.app.test_client().get("/taskqueue/handlers.json").get_json()
    return {line["rule"]: line for line in found["handlers"]}


def last(one: Bench, seconds: list[float]) -> None:
    """Let the attempts at /fine have taken so long, in the order of their tasks."""
    tables = one.store.database.tables
    task, attempt = tables.task, tables.attempt
    with one.db.engine.begin() as connection:
        ids = connection.scalars(
            sa.select(task.c.id).where(task.c.url == "/fine").order_by(task.c.id)
        ).all()
        for task_id, took in zip(ids, seconds, strict=True):
            connection.execute(
                sa.update(attempt)
                .where(attempt.c.task_id == task_id)
                .values(started_at=attempt.c.finished_at - int(took * SECOND))
            )


def test_each_handler_has_its_figures(opened: Open) -> None:
    """Attempts, failures and durations are those of its own tasks, whatever their state."""
    one = opened()

    @one.tasks.worker("/user/<int:number>", methods=("PUT",))
    def user(number: int) -> None:
        pass

    for _ in range(4):
        one.tasks.add("/fine")
    one.tasks.add("/hopeless", queue="mail")
    one.tasks.add("/broken", retry=RetryOptions(min_backoff_seconds=900))
    user.add(7)
    user.add(8)
    one.tasks.drain()
    one.tasks.add("/fine", countdown=900)
    one.tasks.add("/fine", countdown=900).delete()
    last(one, [0.25, 0.5, 1, 2, 0, 0])
    lines = figures(one)
    assert {rule: (line["attempts"], line["failures"]) for rule, line in lines.items()} == {
        "/fine": (4, 0),
        "/hopeless": (1, 1),
        "/broken": (1, 1),
        "/user/<int:number>": (2, 0),
    }
    assert (lines["/fine"]["p50"], lines["/fine"]["p95"]) == (0.5, 2)
    assert (lines["/broken"]["p50"], lines["/broken"]["p95"]) == (None, None)
    assert lines["/hopeless"]["queues"] == ["mail"]
    assert lines["/fine"]["handler"] == "tests.dashboard.conftest.fine"
    assert (lines["/user/<int:number>"]["method"], lines["/user/<int:number>"]["url"]) == (
        "PUT",
        None,
    )
    page = one.app.test_client().get("/taskqueue/handlers").text
    assert "of the last 24 hours" in page
    assert "tests.dashboard.conftest.hopeless" in page
    assert "PUT /user/&lt;int:number&gt;" in page


def test_tasks_without_a_handler_are_put_together_by_url(on_file: Open) -> None:
    """Numbers in paths do not part them, hosts do, and no query is shown."""
    one = on_file(TASKQUEUE_ALLOWED_HOSTS=["127.0.0.1:1", "127.0.0.1:2"])
    for number in range(2):
        one.tasks.add(f"https://127.0.0.1:1/hook/{number}?token=s3cret", method="GET")
    one.tasks.add("https://127.0.0.1:2/hook/1")
    with one.store.database.engine.begin() as connection:
        insert_failed(one, connection)
    lines = figures(one)
    assert {rule: line["attempts"] for rule, line in lines.items()} == {
        "https://127.0.0.1:1/hook/*": 2,
        "https://127.0.0.1:2/hook/*": 1,
    }
    assert "no handler of this app" in one.app.test_client().get("/taskqueue/handlers").text


def insert_failed(one: Bench, connection: sa.Connection, *, ago: int = 0, number: int = 1) -> None:
    """Log a failed attempt of every task."""
    tables = one.store.database.tables
    now = one.store.database.dialect.now - ago
    rows = sa.select(
        tables.task.c.id,
        sa.literal(number),
        sa.literal(f"lease{number}"),
        now - 5,
        now,
        sa.literal("timeout"),
    )
    columns = ["task_id", "number", "lease_id", "started_at", "finished_at", "reason"]
    connection.execute(sa.insert(tables.attempt).from_select(columns, rows))


def test_only_the_last_day_counts(opened: Open) -> None:
    """Attempts before it do not, although they are kept."""
    one = opened()
    one.tasks.add("/fine", countdown=900)
    with one.store.database.engine.begin() as connection:
        insert_failed(one, connection, ago=DAY + 60 * SECOND)
        insert_failed(one, connection, ago=DAY - 60 * SECOND, number=2)
    assert figures(one)["/fine"]["attempts"] == 1


def test_where_there_are_too_many_the_time_is_shortened(opened: Open) -> None:
    """So that what is counted is complete: nothing of the time is left out, and nothing before
    it is counted.
    """
    one = opened()
    for _ in range(6):
        one.tasks.add("/fine")
    one.tasks.add("/hopeless")
    one.tasks.drain()
    store, tables = one.store, one.store.database.tables
    with store.database.engine.begin() as connection:
        now = connection.scalar(sa.select(store.database.dialect.now)) or 0
        ids = connection.scalars(
            sa.select(tables.task.c.id).where(tables.task.c.url == "/fine")
        ).all()
        for place, task_id in enumerate(sorted(ids)):
            ended = now - (place + 1) * 100 * SECOND
            for table, column in ((tables.task, "id"), (tables.attempt, "task_id")):
                connection.execute(
                    sa.update(table).where(table.c[column] == task_id).values(finished_at=ended)
                )
        failed = tables.attempt.c.reason == "permanent"
        before = now - 350 * SECOND
        connection.execute(sa.update(tables.attempt).where(failed).values(finished_at=before))
    with store.reading() as connection:
        cut = store.ended_attempts.latest(connection, DAY, most=2)
        whole = store.ended_attempts.latest(connection, DAY, most=6)
        nearly = store.ended_attempts.latest(connection, DAY, most=3)
    assert (len(cut.attempts), cut.since) == (2, now - 300 * SECOND + 1)
    assert (len(whole.attempts), whole.since <= now - DAY + 60 * SECOND) == (7, True)
    assert sorted(attempt.reason or "" for attempt in nearly.attempts) == [
        "permanent",
        *["success"] * 3,
    ]
    assert nearly.since == now - 400 * SECOND + 1


def test_percentiles_are_values_that_occurred() -> None:
    """The shortest that the share does not exceed."""
    assert [percentile(list(range(1, 101)), share) for share in (0.5, 0.95)] == [50, 95]
    assert [percentile([3.0], share) for share in (0.5, 0.95)] == [3.0, 3.0]
    assert percentile([], 0.5) is None
