"""The commands about the tables, and what Alembic makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from flask import Flask

from flask_taskqueue import ConfigurationError, State, TaskQueue, include_object
from tests.apps import Bench, bench, closing
from tests.databases import TestDatabase


def run(queue: Bench, *arguments: str) -> tuple[int, str]:
    """A command's exit code and output."""
    result = queue.app.test_cli_runner().invoke(args=["taskqueue", *arguments])
    return result.exit_code, result.output


def differences(queue: Bench, **options: Any) -> list[str]:
    """What Alembic's autogenerate would do about tables and their columns."""
    with queue.db.engine.connect() as connection:
        found = compare_metadata(
            MigrationContext.configure(connection, opts=options), queue.db.metadata
        )
    return [
        f"{task[0]} {task[1].name if task[0].endswith('table') else task[-1].name}"
        for task in found
    ]


def test_migrations_find_every_default_as_it_is(database: TestDatabase) -> None:
    """So a comparison of defaults does not write the same change each time."""
    with bench(database.url) as queue, queue.db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, queue.db.metadata) == []


def make_older(queue: Bench) -> None:
    """Take away a column that a release might have added."""
    with queue.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE taskqueue_queue DROP COLUMN paused_by")
        connection.exec_driver_sql("UPDATE taskqueue_schema SET version = 0, oldest = 0")


def test_the_statements_of_an_upgrade_can_be_run_by_somebody_else(
    empty_database: TestDatabase,
) -> None:
    """Who may change tables; then check is content, and the queue works."""
    with bench(empty_database.url) as queue:
        assert run(queue, "init-db") == (0, "The tables are there already.\n")
        make_older(queue)
        code, output = run(queue, "check")
        assert (
            code,
            "column taskqueue_queue.paused_by is missing: run flask taskqueue upgrade" in output,
        ) == (1, True)
        code, output = run(queue, "upgrade", "--sql")
        assert code == 0
        with queue.db.engine.begin() as connection:
            for statement in output.split(";\n")[:-1]:
                connection.exec_driver_sql(statement)
        assert run(queue, "check")[0] == 0
        queue.tasks.worker("/w")(lambda: None)
        assert queue.run(queue.tasks.add("/w")).state is State.SUCCEEDED


def test_upgrade_says_what_it_adds(empty_database: TestDatabase) -> None:
    """With --dry-run what it would add."""
    with bench(empty_database.url) as queue:
        run(queue, "init-db")
        make_older(queue)
        assert (
            "Would add column taskqueue_queue.paused_by." in run(queue, "upgrade", "--dry-run")[1]
        )
        assert run(queue, "check")[0] == 1
        assert run(queue, "upgrade") == (
            0,
            "Added column taskqueue_queue.paused_by.\nThe tables are complete, of version 2.\n",
        )
        assert run(queue, "check") == (0, "The tables are complete, of version 2.\n")


def test_check_fails_where_only_later_dispatchers_may_work(sqlite_database: TestDatabase) -> None:
    """And so do draining and running; adding works."""
    with bench(sqlite_database.url) as queue:
        run(queue, "init-db")
        with queue.db.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE taskqueue_schema SET version = 3, oldest = 3")
        queue.store.database.close()
    with bench(sqlite_database.url) as older:
        for command in (["check"], ["run"], ["run", "--burst"]):
            code, output = run(older, *command)
            assert (code, "need dispatchers of version 3" in output) == (1, True)
        older.tasks.worker("/w")(lambda: None)
        assert older.tasks.add("/w").state is State.SCHEDULED


def test_autogenerate_finds_what_differs_and_nothing_else(database: TestDatabase) -> None:
    """An upgrade is an ordinary migration: what is missing is added, the row that says the
    version is no part of it.
    """
    with bench(database.url) as queue:
        assert differences(queue) == []
        run(queue, "init-db")
        make_older(queue)
        assert differences(queue) == ["add_column paused_by"]


def test_autogenerate_leaves_tables_of_the_queues_own_alone(sqlite_database: TestDatabase) -> None:
    """With include_object; without it would drop them, for the application's metadata has none."""
    with bench(sqlite_database.url, TASKQUEUE_DATABASE_URI=sqlite_database.url) as queue:
        run(queue, "init-db")
        assert "remove_table taskqueue_task" in differences(queue)
        assert differences(queue, include_object=include_object) == []
    with bench(sqlite_database.url) as joined:
        assert differences(joined, include_object=include_object) == []
        with joined.db.engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE taskqueue_fire"))
        assert differences(joined, include_object=include_object) == ["add_table taskqueue_fire"]


def test_a_relative_file_is_in_the_instance_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the working directory is; one that lies there only is refused."""
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        app = Flask(__name__, instance_path=str(tmp_path / "instance"))
        app.config.update(TESTING=True, SECRET_KEY="x", TASKQUEUE_DATABASE_URI="sqlite:///q/t.db")
        tasks = TaskQueue(app)
        app.add_url_rule("/w", "w", lambda: "", methods=["POST"])
        with closing(app), app.app_context():
            tasks.add("/w")
            found.append(len(tasks.find()))
    assert found == [1, 2]
    (tmp_path / "b/here.db").touch()
    app.config["TASKQUEUE_DATABASE_URI"] = "sqlite:///here.db"
    other = Flask(__name__, instance_path=str(tmp_path / "instance"))
    other.config.update(app.config)
    tasks = TaskQueue(other)
    with (
        closing(other),
        other.app_context(),
        pytest.raises(ConfigurationError, match=r"here\.db.*working directory: move it"),
    ):
        tasks.add("/w")


def test_the_tables_are_told_as_json(sqlite_database: TestDatabase) -> None:
    """By each command about them, with the same keys; one that prints statements prints no
    document.
    """
    with bench(sqlite_database.url) as queue:

        def told(*arguments: str) -> tuple[int, Any]:
            code, output = run(queue, *arguments, "--json")
            return code, json.loads(output)

        complete = {"complete": True, "version": 2, "added": [], "missing": []}
        assert told("init-db") == told("check") == told("upgrade") == (0, complete)
        make_older(queue)
        missing = ["column taskqueue_queue.paused_by"]
        behind = {"complete": False, "version": None, "added": [], "missing": missing}
        assert told("check") == (1, behind)
        assert told("upgrade", "--dry-run") == (0, behind)
        assert run(queue, "upgrade", "--sql", "--json")[0] == 2
        assert told("upgrade") == (0, complete | {"added": missing})
    with bench(sqlite_database.url) as queue:
        assert told("upgrade", "--dry-run") == (0, complete)


def test_the_webhook_secret_is_told_as_json(sqlite_database: TestDatabase) -> None:
    """The same as without."""
    with bench(sqlite_database.url) as queue:
        asked = ("webhook-secret", "example.com:443")
        assert json.loads(run(queue, *asked, "--json")[1]) == {
            "secret": run(queue, *asked)[1].strip()
        }
        for text in ("", "/hook", "two words"):
            code, told = run(queue, "webhook-secret", text)
            assert (code, f"target {text!r} must be the URL" in told) == (1, True), told
