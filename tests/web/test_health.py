"""Health: the routes and the command."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from flask_taskqueue import TaskSpec
from flask_taskqueue.cli import taskqueue as commands
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.outages import switched
from tests.waiting import wait_until


def ask(one: Bench, what: str) -> tuple[int, dict[str, object]]:
    """Status and document of a health check."""
    reply = one.app.test_client().get(f"/taskqueue/health/{what}")
    assert reply.headers["Cache-Control"] == "no-store"
    return reply.status_code, reply.get_json()


def command(one: Bench, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    result = one.app.test_cli_runner().invoke(commands, ["health", *arguments])
    return result.exit_code, result.output


def make_late(one: Bench, seconds: int) -> None:
    """Have every task be there, and due, for so long."""
    runtime = one.runtime
    task = runtime.store.database.tables.task
    late = {name: task.c[name] - seconds * 1_000_000 for name in ("due_at", "created_at")}
    runtime.store.transact(lambda connection: connection.execute(sa.update(task).values(late)))


def test_health_tells_whether_tasks_are_attempted(sqlite_database: TestDatabase) -> None:
    """No dispatcher; one that works; a task that waits too long, though not in a paused queue."""
    with bench(sqlite_database.url, TASKQUEUE_POLL_INTERVAL=3600) as one:
        one.tasks.worker("/w")(lambda: None)
        assert ask(one, "live") == (200, {"status": "ok", "problems": []})
        assert ask(one, "ready") == (200, {"status": "ok", "problems": []})
        status, document = ask(one, "dispatcher")
        assert (status, document["status"], document["dispatchers"]) == (503, "failing", 0)
        code, text = command(one)
        assert (code, "no dispatcher is alive" in text) == (69, True)
        runtime = one.runtime
        runtime.start()
        wait_until(lambda: one.tasks.dispatchers(), what="the dispatcher is seen")
        assert ask(one, "dispatcher")[0] == 200
        code, text = command(one, "--json")
        assert (code, json.loads(text)["dispatchers"]) == (0, 1)
        one.tasks.queue("default").pause()
        one.tasks.add("/w")
        make_late(one, 400)
        assert ask(one, "dispatcher")[0] == 200
        runtime.scheduler.dispatcher.stop(10)  # not before a drain that is under way has ended
        one.tasks.queue("default").resume()
        status, document = ask(one, "dispatcher")
        assert (status, 400 <= float(str(document["oldest_due_seconds"])) < 500) == (503, True)
        code, text = command(one)
        assert code == 1
        assert "more than 300" in text
        assert command(one, "--max-latency", "10m")[0] == 0
        assert command(one, "--max-latency", "soon")[0] == 2
        runtime.stop()


def test_an_outage_of_this_processs_dispatcher_is_told(sqlite_database: TestDatabase) -> None:
    """Since when, and why to those who have the token; well again when it works again."""
    with (
        switched(sqlite_database) as (url, switch),
        bench(
            url,
            TASKQUEUE_POLL_INTERVAL=0.1,
            TASKQUEUE_CREATE_TABLES=False,
            TASKQUEUE_METRICS_TOKEN="a-token-for-the-tests",
        ) as one,
    ):
        runtime = one.runtime
        dispatcher = runtime.start().dispatcher
        wait_until(lambda: ask(one, "dispatcher")[0] == 200, what="all is well")
        switch(False)
        wait_until(lambda: dispatcher.health.refusing_since, what="it is refused")
        known = {"Authorization": "Bearer a-token-for-the-tests"}
        told = one.app.test_client().get("/taskqueue/health/dispatcher", headers=known).text
        assert re.search(
            r"the database has refused the dispatcher of this process since \d{4}-\d\d-\d\d "
            r"[\d:]+Z: the tables in the",
            told,
        )
        stranger = one.app.test_client().get(
            "/taskqueue/health/dispatcher", environ_base={"REMOTE_ADDR": "127.0.0.1"}
        )
        assert stranger.status_code == 503
        assert "the log says why" in stranger.text
        switch(True)
        wait_until(lambda: ask(one, "dispatcher")[0] == 200, what="all is well again")
        runtime.stop()


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.db", "postgresql+psycopg://nobody@127.0.0.1:1/none"]
)
def test_a_database_that_does_not_answer_is_told(
    tmp_path: object, url: str, sqlite_database: TestDatabase
) -> None:
    """Not raised; the process itself is alive."""
    with bench(sqlite_database.url, TASKQUEUE_DATABASE_URI=url) as one:
        assert ask(one, "live")[0] == 200
        for what in ("ready", "dispatcher"):
            status, document = ask(one, what)
            assert (status, document["status"]) == (503, "failing")
        code, text = command(one)
        assert (code, "cannot be reached" in text) == (69, True)


def test_health_can_be_somewhere_else_or_nowhere(sqlite_database: TestDatabase) -> None:
    """As the settings say."""
    with bench(sqlite_database.url, TASKQUEUE_HEALTH_URL="/up") as one:
        assert one.app.test_client().get("/up/live").status_code == 200
    with bench(sqlite_database.url, TASKQUEUE_HEALTH=False) as one:
        assert one.app.test_client().get("/taskqueue/health/live").status_code == 404


def test_an_eta_of_the_past_makes_nobody_late(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """A task cannot have waited for longer than it has been there; its eta stays what was asked
    for.
    """
    last_week = datetime.now(UTC) - timedelta(days=7)
    with bench(database.url, TASKQUEUE_HEALTH_MAX_LATENCY="1h") as one:

        @one.tasks.worker("/w")
        def handler() -> None: ...

        tasks = [
            handler.options(eta=last_week).add(),
            *one.tasks.queue("default").add([TaskSpec("/w", eta=last_week)]),
            handler.options(eta=last_week, unique_key="key", on_conflict="debounce").add(),
            handler.options(eta=last_week, unique_key="key", on_conflict="debounce").add(),
        ]
        assert {task.eta for task in tasks} == {last_week}
        found = ask(one, "dispatcher")[1]
        assert isinstance(found["oldest_due_seconds"], float)
        assert 0 <= found["oldest_due_seconds"] < 3600
        assert found["problems"] == [
            "no dispatcher is alive, and 3 tasks wait; start one: flask taskqueue run"
        ]
        with caplog.at_level("INFO", "flask_taskqueue"):
            one.tasks.drain()
        latencies = [
            record.latency_ms
            for record in caplog.records
            if getattr(record, "latency_ms", None) is not None
        ]
        assert len(latencies) == 3
        assert max(latencies) < 3_600_000
