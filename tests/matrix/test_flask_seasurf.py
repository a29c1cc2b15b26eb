"""Flask-SeaSurf: a CSRF protection that does not know of worker routes, but can be told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from flask_taskqueue import State, TaskQueue
from tests.matrix.packages import package

flask_seasurf = package("flask_seasurf")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_seasurf")


def test_the_recipe_lets_tasks_pass_and_nobody_else(make: Callable[..., Flask]) -> None:
    """To workers and to views; without it the failure says what to write."""
    app = make(CSRF_DISABLE=False)
    csrf, tasks = flask_seasurf.SeaSurf(app), TaskQueue(app)
    handler = tasks.worker("/w", retry={"task_retry_limit": 0})(lambda: None)
    app.add_url_rule("/form", view_func=lambda: "form", endpoint="form", methods=["POST"])
    with app.app_context():
        refused = handler.add()
        tasks.drain()
        assert "if tasks.is_task_request(): return" in str(tasks.get(refused.id).last_error)

        @csrf.skip_validation
        def no_token_for_tasks(request: object) -> bool:
            return tasks.is_task_request()

        added = [handler.add(), tasks.add("/form")]
        tasks.drain()
        assert {tasks.get(task.id).state for task in added} == {State.SUCCEEDED}
    client = app.test_client()
    assert [client.post(path).status_code for path in ("/form", "/w")] == [403, 403]
