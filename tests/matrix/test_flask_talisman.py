"""Flask-Talisman: it sends plain requests to https."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_taskqueue import State, TaskQueue
from tests.matrix.packages import package

flask_talisman = package("flask_talisman")


@pytest.mark.parametrize(
    "config",
    [{"PREFERRED_URL_SCHEME": "https"}, {"TASKQUEUE_BASE_URL": "https://www.example.com"}],
    ids=lambda config: next(iter(config)),
)
def test_an_app_that_says_its_address_runs_its_tasks(
    make: Callable[..., Flask], config: dict[str, str]
) -> None:
    """By either setting; over plain http its pages are still redirected."""
    app = make(**config)
    flask_talisman.Talisman(app)
    tasks = TaskQueue(app)
    handler = tasks.worker("/w")(lambda: None)
    with app.app_context():
        task = handler.add()
        tasks.drain()
        assert tasks.get(task.id).state is State.SUCCEEDED
    assert app.test_client().get("/", base_url="http://localhost").status_code == 302


@pytest.mark.parametrize("talisman_first", [True, False])
def test_without_an_address_the_failure_names_the_settings(
    make: Callable[..., Flask], talisman_first: bool
) -> None:
    """And so does the doctor, before any task fails."""
    app, talisman, tasks = make(), flask_talisman.Talisman(), TaskQueue()
    for extension in (talisman, tasks) if talisman_first else (tasks, talisman):
        extension.init_app(app)
    handler = tasks.worker("/w", retry={"task_retry_limit": 0})(lambda: None)
    with app.app_context():
        task = handler.add()
        tasks.drain()
        error: Any = tasks.get(task.id).last_error
    found = app.test_cli_runner().invoke(args=["taskqueue", "doctor"])
    for text in (error, found.output):
        assert "https://localhost/w" in text
        assert "TASKQUEUE_BASE_URL" in text
        assert "PREFERRED_URL_SCHEME" in text
