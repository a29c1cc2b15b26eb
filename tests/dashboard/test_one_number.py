"""One number for one fact: pages, commands, checks and metrics count alike, on each database."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import RetryOptions
from flask_taskqueue.core.times import SECOND
from tests.apps import Bench
from tests.dashboard.conftest import Open

LISTS = ("due", "running", "lost", "scheduled", "retrying", "waiting", "forwarded")
ENDED = ("succeeded", "dead", "cancelled")


def make_each(one: Bench) -> None:
    """Tasks of every kind, in a queue that is open and in one that is paused."""
    slow = RetryOptions(min_backoff_seconds=500)
    for queue in ("default", "mail"):
        one.tasks.add("/fine", queue=queue)
        one.tasks.add("/hopeless", queue=queue)
        one.tasks.add("/broken", queue=queue, retry=slow, serial_key=queue)
        one.tasks.add("/fine", queue=queue, serial_key=queue)
        one.tasks.add("/fine", queue=queue, countdown=900).delete()
    one.tasks.drain()
    lease(one, 3, ran_out=1)
    for queue, number in (("default", 2), ("mail", 3)):
        for _ in range(number):
            one.tasks.add("/fine", queue=queue)
        one.tasks.add("/fine", queue=queue, countdown=900, priority=3)
    one.tasks.queue("mail").pause(by="ana")
    make_older(one, "mail", 7200)
    make_older(one, "default", 600)


def lease(one: Bench, number: int, *, ran_out: int) -> None:
    """Let a dispatcher that does nothing hold some tasks, the leases of some of which ran out."""
    for _ in range(number):
        one.tasks.add("/fine", queue="default")
    task = one.store.database.tables.task
    with one.store.database.engine.begin() as connection:
        ids = connection.scalars(
            sa.select(task.c.id).where(
                task.c.state == "scheduled", task.c.attempts == 0, task.c.due_at.is_not(None)
            )
        ).all()
        now = one.store.database.dialect.now
        for place, task_id in enumerate(ids):
            until = now - SECOND if place < ran_out else now + 600 * SECOND
            connection.execute(
                sa.update(task)
                .where(task.c.id == task_id)
                .values(
                    state="leased",
                    lease_id=f"l{place}",
                    attempts=1,
                    started_at=now - 60 * SECOND,
                    due_at=until,
                )
            )


def make_older(one: Bench, queue: str, seconds: int) -> None:
    """Let the first due task of a queue have waited so long."""
    task = one.store.database.tables.task
    with one.store.database.engine.begin() as connection:
        now = connection.scalar(sa.select(one.store.database.dialect.now)) or 0
        first = connection.scalar(
            sa.select(sa.func.min(task.c.id)).where(
                task.c.state == "scheduled", task.c.queue == queue, task.c.due_at <= now
            )
        )
        since = now - seconds * SECOND
        connection.execute(
            sa.update(task).where(task.c.id == first).values(due_at=since, created_at=since)
        )


def command(one: Bench, *words: str) -> Any:
    """The document that a command prints."""
    result = one.app.test_cli_runner().invoke(args=["taskqueue", *words, "--json"])
    return json.loads(result.stdout)


def counts(document: dict[str, Any]) -> dict[str, int]:
    """The numbers of a document that name lists."""
    return {name: document[name] for name in (*LISTS, *ENDED) if name in document}


def test_every_place_shows_the_same_numbers(opened: Open) -> None:
    """The overview, the queues, the lists with what is on them, ``queues`` and ``stats``."""
    one = opened(TASKQUEUE_DASHBOARD_PAGE_SIZE=50)
    make_each(one)
    client = one.app.test_client()
    overview = client.get("/taskqueue/overview.json").get_json()
    of_lists = client.get("/taskqueue/tasks.json").get_json()["counts"]
    of_queues = {
        line["queue"]: counts(line)
        for line in client.get("/taskqueue/queues.json").get_json()["queues"]
    }
    expected = {"due": 5, "running": 2, "lost": 1, "scheduled": 2, "retrying": 2, "waiting": 2}
    expected["forwarded"] = 0
    expected |= {"succeeded": 2, "dead": 2, "cancelled": 2}
    assert of_lists == expected
    assert counts(overview["totals"]) == {
        name: expected[name] for name in expected if name != "cancelled"
    }
    assert {line["queue"]: counts(line) for line in overview["queues"]} == of_queues
    assert {name: sum(queue[name] for queue in of_queues.values()) for name in expected} == expected
    assert {line["queue"]: counts(line["counts"]) for line in command(one, "queues")} == of_queues
    assert counts(command(one, "stats")["counts"]) == expected
    for name, number in expected.items():
        shown = client.get("/taskqueue/tasks.json", query_string={"state": name}).get_json()
        assert len(shown["tasks"]) == number, name
    text = one.app.test_cli_runner().invoke(args=["taskqueue", "stats"]).stdout
    for name, number in expected.items():
        assert re.search(rf"^{name} +{number}$", text, re.MULTILINE), name


def test_the_oldest_due_task_is_the_same_everywhere(opened: Open) -> None:
    """In all together no task of a paused queue is it; the queue itself has its own."""
    one = opened()
    make_each(one)
    client = one.app.test_client()
    overview = client.get("/taskqueue/overview.json").get_json()
    now = datetime.fromisoformat(overview["now"])
    since = {line["queue"]: line["due_since"] for line in overview["queues"]}
    assert overview["totals"]["due_since"] == since["default"]
    assert now - datetime.fromisoformat(since["mail"]) >= timedelta(seconds=7200)
    lines = {line["queue"]: line["counts"]["due_since"] for line in command(one, "queues")}
    assert {name: datetime.fromisoformat(lines[name]) for name in lines} == {
        name: datetime.fromisoformat(since[name]) for name in since
    }
    waited = (datetime.now(UTC) - datetime.fromisoformat(since["default"])).total_seconds()
    for document in (command(one, "stats"), command(one, "health")):
        assert document["oldest_due_seconds"] == pytest.approx(waited, abs=60)
    assert 'class="warn">10 m</b><span>oldest due' in client.get("/taskqueue/").text


def test_a_past_eta_is_no_waiting(opened: Open) -> None:
    """A task that is added for last week has waited since it was added, on every page."""
    one = opened()
    one.tasks.add("/fine", eta=datetime.now(UTC) - timedelta(days=7))
    for document in (command(one, "stats"), command(one, "health")):
        assert document["oldest_due_seconds"] < 3600
    since = one.app.test_client().get("/taskqueue/overview.json").get_json()["totals"]["due_since"]
    assert datetime.now(UTC) - datetime.fromisoformat(since) < timedelta(hours=1)


def test_the_banner_counts_what_the_tile_counts(opened: Open) -> None:
    """It says how many of the due tasks are in paused queues."""
    one = opened()
    make_each(one)
    page = one.app.test_client().get("/taskqueue/").text
    assert "5 tasks are due (3 of them in paused queues), the oldest for 10 m" in page
    one.tasks.queue("default").pause()
    assert "All that is due is in paused queues." in one.app.test_client().get("/taskqueue/").text
