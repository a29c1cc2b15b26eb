"""What commands change is in the audit log, with who ran them and on which host."""

from __future__ import annotations

import getpass
import socket
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from tests.apps import bench
from tests.cli.conftest import Console
from tests.databases import TestDatabase


def logged(console: Console) -> list[tuple[str, str, int]]:
    """Action, subject and how much was changed, the first in front."""
    store = console.bench.store
    with store.reading() as connection:
        rows = list(reversed(store.audit.latest(connection, 100)))
    assert {(row.who, row.address) for row in rows} <= {
        (getpass.getuser(), f"host {socket.gethostname()}")
    }
    return [(row.action, row.subject, row.changed) for row in rows]


def succeed(console: Console, *words: str) -> None:
    """Run a command."""
    result = console.run(*words)
    assert result.exit_code == 0, result.output


def test_changes_of_queues_and_schedules(console: Console) -> None:
    """With the words of the dashboard, whether they change anything or not."""
    console.bench.tasks.schedule("tidy", "/work", "every 5 minutes", {"what": "good"})
    for words in (
        ("pause", "mail"),
        ("pause", "mail"),
        ("resume", "mail"),
        ("configure", "mail", "--rate", "7/m", "--max-concurrent", "none"),
        ("cron", "pause", "tidy"),
        ("cron", "resume", "tidy"),
        ("cron", "run", "tidy"),
    ):
        succeed(console, *words)
    assert logged(console) == [
        ("pause", "mail", 1),
        ("pause", "mail", 0),
        ("resume", "mail", 1),
        ("configure", "mail: rate=7/m, max_concurrent=None", 1),
        ("pause-cron", "tidy", 1),
        ("resume-cron", "tidy", 1),
        ("run-cron", "tidy", 1),
    ]


def test_changes_of_tasks(console: Console) -> None:
    """By ids, by filters and by queue; a question that is answered with no changes nothing."""
    dead, later, other = console.add("bad"), console.add(countdown=60), console.add(countdown=60)
    console.bench.run(dead)
    succeed(console, "requeue", dead.id)
    succeed(console, "run-now", later.id, other.id)
    console.run("delete", "--all", "--queue", "mail", answer="n\n")
    succeed(console, "delete", "--all", "--queue", "mail", "--url", "/work", "--yes")
    console.add(countdown=60)
    succeed(console, "purge", "mail", "--yes")
    succeed(console, "purge", "mail", "--state", "cancelled", "--yes")
    console.bench.run(console.add())
    succeed(console, "prune", "--older-than", "0", "--yes")
    succeed(console, "prune", "--older-than", "0", "--dry-run")
    assert logged(console) == [
        ("requeue", dead.id, 1),
        ("run", f"2 selected: {later.id}, {other.id}", 2),
        ("delete", "all tasks, queue mail, url /work", 3),
        ("purge", "mail", 1),
        ("purge", "mail: cancelled tasks", 4),
        ("prune", "finished tasks, ended 0 ms ago", 1),
    ]


def test_what_is_added(console: Console) -> None:
    """The entry names the task."""
    task = console.json("add", "/work", "-p", "what=good")
    assert logged(console) == [("add", task["id"], 1)]


def test_hidden_values_of_a_filter_are_hidden(console: Console) -> None:
    """What somebody sought in URLs comes last, where the dashboard can leave it out."""
    console.add(countdown=60)
    words = ("--url", "/work?api_token=s3cret", "--search", "user", "--since", "1h")
    console.run("delete", "--all", *words, "--yes")
    task = console.bench.store.database.tables.task
    with console.bench.db.engine.begin() as connection:
        connection.execute(sa.update(task).values(url="/work?api_token=s3cret"))
    succeed(console, "delete", "--all", *words[:2], "--status", "5xx", "--yes")
    succeed(console, "delete", "--all", *words[:2], "--yes")
    ((action, subject, changed),) = logged(console)
    assert (action, subject, changed) == ("delete", "all tasks, url /work?api_token=•••", 1)


def test_nothing_is_changed_that_cannot_be_logged(database: TestDatabase) -> None:
    """The entry and the change are one transaction, on each database."""
    config: dict[str, Any] = {"TASKQUEUE_CREATE_TABLES": False, "TASKQUEUE_QUEUES": {"mail": {}}}
    with bench(database.url, **config) as one:
        one.app.add_url_rule("/any", "any", lambda: "", methods=["POST"])
        task, console = one.tasks.add("/any", queue="mail", countdown=60), Console(one)
        table = one.store.database.tables.audit.name
        with one.db.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME COLUMN who TO whom")
        for words in (
            ("delete", task.id),
            ("purge", "mail", "--yes"),
            ("pause", "mail"),
            ("configure", "mail", "--rate", "7/m"),
            ("add", "/any"),
        ):
            assert console.run(*words).exit_code != 0, words
        with one.db.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME COLUMN whom TO who")
        assert logged(console) == []
        found = one.tasks.queue("mail").statistics()
        assert (found.is_paused, found.rate, found.scheduled) == (False, None, 1)
        assert console.state(task) == "scheduled"


def test_a_user_without_a_name_is_a_number(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs as any user; the queue says so too."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    succeed(console, "pause", "mail")
    store = console.bench.store
    with store.reading() as connection:
        assert store.audit.latest(connection, 1)[0].who == "user 12345"
    assert console.bench.tasks.queue("mail").statistics().paused_by == "user 12345"


def test_keys_and_owners(sqlite_database: TestDatabase) -> None:
    """New keys with the number of rows, and who handed the tables over."""
    keys = [Fernet.generate_key().decode() for _ in range(2)]
    config: dict[str, Any] = {"TASKQUEUE_ENCRYPTION_KEYS": keys}
    with bench(sqlite_database.url, **config) as one:
        one.app.add_url_rule("/any", "any", lambda: "", methods=["POST"])
        one.tasks.add("/any", {"what": "good"})
        one.app.config["TASKQUEUE_ENCRYPTION_KEYS"] = keys
        console = Console(one)
        succeed(console, "adopt", "--yes")
        succeed(console, "rotate-keys")
        name = one.app.name
        assert logged(console) == [
            ("adopt", f"the tables, for application {name}", 1),
            ("rotate-keys", "what tasks hold", 0),
        ]


def test_the_dashboard_shows_what_commands_did(console: Console) -> None:
    """In the same table, with the host in place of the address."""
    console.run("pause", "mail")
    with bench(
        console.bench.app.config["SQLALCHEMY_DATABASE_URI"],
        TASKQUEUE_DASHBOARD=True,
        TASKQUEUE_DASHBOARD_ACCESS=lambda: True,
    ) as other:
        page = other.app.test_client().get("/taskqueue/system").text
    assert f"host {socket.gethostname()}" in page
    assert "actions on this dashboard and of commands" in page
