"""Flask-Limiter: its default limits are for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask

from flask_taskqueue import State, TaskQueue
from tests.apps import served
from tests.matrix.packages import package

flask_limiter = package("flask_limiter")

ONCE = {"task_retry_limit": 0}


def limiting(**limits: Any) -> Any:
    """A limiter that counts in memory, and all who call as one."""
    return flask_limiter.Limiter(lambda: "everybody", storage_uri="memory://", **limits)


def page() -> str:
    """A view for people."""
    return "page"


@pytest.mark.parametrize("limits", ["default_limits", "application_limits"])
@pytest.mark.parametrize("transport", ["wsgi", "http"])
@pytest.mark.parametrize("limiter_first", [True, False])
def test_deliveries_to_workers_do_not_count(
    make: Callable[..., Flask], limiter_first: bool, transport: str, limits: str
) -> None:
    """In either order of initialisation; other routes stay limited."""
    app, limiter, tasks = make(), limiting(**{limits: ["1 per hour"]}), TaskQueue()
    for extension in (limiter, tasks) if limiter_first else (tasks, limiter):
        extension.init_app(app)
    app.add_url_rule("/page", view_func=page)
    handler = tasks.worker("/w", retry=ONCE)(lambda: None)
    blueprint = Blueprint("mine", __name__)
    other = tasks.worker("/other", blueprint=blueprint, retry=ONCE)(page)
    app.register_blueprint(blueprint)
    with app.app_context(), served(app) as url:
        added = [one.add().id for one in (handler, handler, other, other)]
        options: Any = {"transport": "http", "base_url": url} if transport == "http" else {}
        app.extensions["taskqueue"].drain(**options)
        assert {tasks.get(task).state for task in added} == {State.SUCCEEDED}
    statuses = [app.test_client().get("/page").status_code for _ in range(2)]
    assert statuses == [200, 429]


def test_a_limit_of_the_handlers_own_holds(make: Callable[..., Flask]) -> None:
    """It is a failed attempt of the handler, with its status."""
    app = make()
    limiter, tasks = limiting(default_limits=["1 per hour"]), TaskQueue(app)
    limiter.init_app(app)
    handler = tasks.worker("/w", retry=ONCE)(limiter.limit("2 per hour")(page))
    with app.app_context():
        added = [handler.add() for _ in range(3)]
        tasks.drain()
        found = sorted((tasks.get(task.id).last_status, tasks.get(task.id).state) for task in added)
    assert found == [(200, State.SUCCEEDED)] * 2 + [(429, State.DEAD)]


def test_a_view_that_tasks_call_is_told_how_to_let_them_pass(make: Callable[..., Flask]) -> None:
    """Tasks and people count alike there, until the app lets deliveries pass as the docs say."""
    app = make()
    limiter, tasks = limiting(default_limits=["1 per hour"]), TaskQueue(app)
    limiter.init_app(app)
    app.add_url_rule("/page", view_func=page, methods=["POST"])

    def failed() -> list[str | None]:
        added = [tasks.add("/page", retry=ONCE) for _ in range(2)]
        tasks.drain()
        found = [tasks.get(task.id) for task in added]
        return [task.last_error for task in found if task.state is State.DEAD]

    with app.app_context():
        (error,) = failed()
        assert "@limiter.request_filter on a function that returns tasks.is_task_request()" in (
            error or ""
        )
        limiter.request_filter(tasks.is_task_request)
        assert failed() == []
