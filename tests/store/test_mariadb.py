"""MariaDB, where a database has a character set of its own, and where an insert that skips
duplicates is lenient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import ConfigurationError, PermanentFailure, State
from tests.apps import Bench, bench
from tests.databases import Servers, fresh

WORDS = "Änderung für 花子 🍎"


@pytest.fixture
def latin(servers: Servers, tmp_path: Path) -> Iterator[Bench]:
    """An application on a database whose tables are Latin-1 unless they say otherwise."""
    with fresh("mariadb", servers, tmp_path) as database:
        engine = sa.create_engine(database.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER DATABASE CHARACTER SET latin1")
        with bench(database.url) as one:
            yield one


def test_people_write_in_any_language(latin: Bench) -> None:
    """Whatever the database's character set is: who did something, errors, progress, parameters."""

    @latin.tasks.worker("/w")
    def fails(word: str) -> None:
        assert word == WORDS
        raise PermanentFailure(word)

    task = latin.run(fails.add(word=WORDS))
    assert (task.state, task.last_error) == (State.DEAD, WORDS)
    latin.tasks.queue("default").pause(by=WORDS)
    assert latin.tasks.queue("default").statistics().paused_by == WORDS
    store = latin.store
    entry: dict[str, Any] = {
        "who": WORDS,
        "address": "127.0.0.1",
        "action": "pause",
        "subject": WORDS,
        "changed": 1,
    }
    store.transact(lambda connection: store.audit.add(connection, "0" * 26, **entry))
    with store.reading() as connection:
        (row,) = store.audit.latest(connection, 1)
    assert (row.who, row.subject) == (WORDS, WORDS)


@pytest.mark.parametrize(
    "options", [{}, {"name": "n" * 500}, {"unique_key": "~" * 200}], ids=["plain", "named", "keyed"]
)
def test_the_longest_values_are_stored_whole(latin: Bench, options: dict[str, Any]) -> None:
    """Also by the insert that skips what is there already: it would cut them without a word."""
    headers = {"X-A": "ÿ" * 8000, "X-B": "y" * 8000}
    url = "/long?" + "x" * 1800
    latin.tasks.worker("/long")(lambda: None)
    task = latin.tasks.add(url, payload=WORDS * 500, headers=headers, **options)
    store = latin.store
    with store.reading() as connection:
        record = store.tasks.get(connection, task.id)
    assert json.loads(record.headers or "{}").items() >= headers.items()
    assert (record.name, record.unique_key) == (options.get("name"), options.get("unique_key"))
    assert latin.run(task).state is State.SUCCEEDED


@pytest.mark.parametrize("driver", ["mysql", "mariadb"])
def test_tables_can_roll_back_whatever_engine_is_usual(
    servers: Servers, tmp_path: Path, driver: str
) -> None:
    """A task of a transaction that is rolled back would be kept by the others."""
    with fresh("mariadb", servers, tmp_path) as database:
        url = sa.make_url(database.url)
        name = f"{driver}+{url.get_driver_name()}"
        usual = {"init_command": "SET SESSION default_storage_engine = Aria"}
        with bench(
            url.set(drivername=name).render_as_string(hide_password=False),
            SQLALCHEMY_ENGINE_OPTIONS={"connect_args": usual},
        ) as queue:
            queue.tasks.worker("/w")(lambda: None)
            queue.tasks.add("/w", transactional=True)
            queue.db.session.rollback()
            assert queue.tasks.find() == []
            with queue.store.reading() as connection:
                found = connection.exec_driver_sql(
                    "SELECT engine FROM information_schema.tables WHERE table_schema = database() "
                    "AND locate('taskqueue', table_name)"
                )
                assert set(found.scalars()) == {"InnoDB"}


def test_no_row_is_left_out_of_what_the_queue_reads(servers: Servers, tmp_path: Path) -> None:
    """The application's connections, or the server, may have a limit for people at a prompt."""
    with fresh("mariadb", servers, tmp_path) as database:
        limited = {"init_command": "SET SESSION sql_select_limit = 2"}
        options = {"connect_args": limited}
        with bench(database.url, SQLALCHEMY_ENGINE_OPTIONS=options) as queue:
            queue.tasks.worker("/w")(lambda: None)
            for _ in range(5):
                queue.tasks.add("/w")
            assert len(queue.tasks.find()) == 5
            assert queue.tasks.drain() == 5


@pytest.mark.parametrize("kind", ["Aria", "MyISAM"])
def test_tables_that_roll_nothing_back_are_refused(
    servers: Servers, tmp_path: Path, kind: str
) -> None:
    """By dispatchers and drains; ``doctor`` names each, and what makes it safe."""
    with fresh("mariadb", servers, tmp_path) as database, bench(database.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        task = queue.tasks.add("/w")
        doctor = ["taskqueue", "doctor", "--json"]
        console = queue.app.test_cli_runner()
        assert "storage engine" not in console.invoke(args=doctor).output
        engine = queue.store.database.engine
        with engine.connect() as connection:
            for name in ("taskqueue_batch", "taskqueue_lock"):
                connection.exec_driver_sql(f"ALTER TABLE {name} ENGINE = {kind}")
        told = console.invoke(args=doctor)
        wrong = [one for one in json.loads(told.stdout) if "storage engine" in one["text"]]
        remedies = [one["remedy"] for one in wrong if one["level"] == "error"]
        assert (told.exit_code, remedies) == (
            1,
            [
                "run: ALTER TABLE taskqueue_batch ENGINE = InnoDB",
                "run: ALTER TABLE taskqueue_lock ENGINE = InnoDB",
            ],
        )
        for begin in (queue.runtime.start, queue.tasks.drain):
            with pytest.raises(ConfigurationError, match=f"storage engine {kind}"):
                begin()
        with engine.connect() as connection:
            for remedy in remedies:
                connection.exec_driver_sql(remedy.removeprefix("run: "))
        assert queue.run(task).state is State.SUCCEEDED
