"""The route that tells a page how far a task has come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import ConfigurationError, PermanentFailure, Task, current_task
from tests.apps import Bench, bench
from tests.databases import TestDatabase


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application whose route is open, with a handler that reports."""
    with bench(database.url, TASKQUEUE_PROGRESS=True) as one:

        @one.tasks.worker("/work")
        def work(seen: str = "") -> None:
            if seen:
                current_task.progress(3, 10, seen)
            if seen == "the end":
                raise PermanentFailure("a secret")

        yield one


def url_of(queue: Bench, task: Task | str) -> str:
    """The URL that a page would get."""
    with queue.app.test_request_context():
        return queue.tasks.progress_url(task)


def told(queue: Bench, url: str) -> tuple[int, Any]:
    """What a script is told at a URL."""
    reply = queue.app.test_client().get(url)
    assert reply.headers["Cache-Control"] == "no-store"
    return reply.status_code, reply.get_json()


def test_a_page_is_told_how_far_its_task_has_come(queue: Bench) -> None:
    """State and figures, as `Task.report` has them, and nothing that the task holds."""
    task = queue.tasks.add("/work", {"seen": "halfway"})
    url = url_of(queue, task)
    assert url == url_of(queue, task.id)
    nothing = {"state": "scheduled", "finished": False, "done": 0, "total": None, "note": None}
    assert told(queue, url) == (200, nothing)
    after = queue.run(task)
    figures = {"done": 3, "total": 10, "note": "halfway"}
    assert told(queue, url) == (200, {"state": "succeeded", "finished": True, **figures})
    assert after.report() == told(queue, url)[1]


def test_errors_are_not_told(queue: Bench) -> None:
    """A page is for visitors, and an error for whoever runs the app."""
    task = queue.tasks.add("/work", {"seen": "the end"})
    assert queue.run(task).last_error == "a secret"
    status, report = told(queue, url_of(queue, task))
    assert (status, report["state"], report["finished"]) == (200, "dead", True)
    assert "secret" not in str(report)


def test_a_url_shows_one_task_only(queue: Bench) -> None:
    """Without its own signature a task is as unknown as one that never was."""
    one, other = queue.tasks.add("/work"), queue.tasks.add("/work")
    url = url_of(queue, one)
    signature = url.rpartition(".")[2]
    unknown = (404, told(queue, url_of(queue, "0" * 26))[1])
    assert unknown[1]["state"] == "unknown"
    assert unknown[1]["finished"] is True
    for wrong in (
        url.replace(one.id, other.id),
        url.replace(signature, signature[:-1] + ("A" if signature[-1] != "A" else "B")),
        url.replace(f".{signature}", ""),
        url.replace(signature, ""),
        url.replace(signature, "ä\x00%ff"),
        f"{url}.{signature}",
    ):
        assert told(queue, wrong) == unknown
    assert told(queue, url)[0] == 200


def test_a_former_secret_still_opens_what_it_signed(sqlite_database: TestDatabase) -> None:
    """While it is a fallback; afterwards nothing that it signed is known any more."""
    old, new = "the secret of last year", "the secret of this year"
    options: dict[str, Any] = {"TASKQUEUE_PROGRESS": True}
    with bench(sqlite_database.url, SECRET_KEY=old, **options) as one:
        one.tasks.worker("/work")(lambda: None)
        url = url_of(one, one.tasks.add("/work"))
    for fallbacks, status in (([old], 200), ([], 404)):
        keys = {"SECRET_KEY": new, "SECRET_KEY_FALLBACKS": fallbacks}
        with bench(sqlite_database.url, **keys, **options) as one:
            assert told(one, url)[0] == status


def test_nothing_is_open_by_default(on_sqlite: Bench) -> None:
    """Whoever asks for a URL is told the setting."""
    with (
        on_sqlite.app.test_request_context(),
        pytest.raises(ConfigurationError, match="set TASKQUEUE_PROGRESS = True"),
    ):
        on_sqlite.tasks.progress_url("0" * 26)
    assert not [rule for rule in on_sqlite.app.url_map.iter_rules() if "progress" in rule.rule]


def test_while_the_database_is_away_a_script_goes_on_asking(
    sqlite_database: TestDatabase,
) -> None:
    """Nothing that is wrong with the database is told to visitors."""
    with bench(sqlite_database.url, TASKQUEUE_PROGRESS=True) as one:
        one.tasks.worker("/work")(lambda: None)
        url = url_of(one, one.tasks.add("/work"))
        with one.store.database.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE taskqueue_task RENAME TO away"))
        try:
            status, report = told(one, url)
        finally:
            with one.store.database.engine.begin() as connection:
                connection.execute(sa.text("ALTER TABLE away RENAME TO taskqueue_task"))
        assert (status, report["finished"], report["state"]) == (503, False, "unknown")
        assert told(one, url)[0] == 200


def test_where_it_is_can_be_chosen(sqlite_database: TestDatabase) -> None:
    """By a setting that has to be a path."""
    options = {"TASKQUEUE_PROGRESS": True, "TASKQUEUE_PROGRESS_URL": "/how-far"}
    with bench(sqlite_database.url, **options) as one:
        assert url_of(one, "0" * 26).startswith("/how-far/0000")
