"""Packages that publish an app's routes: nobody can call a worker, so none is published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_taskqueue import State, TaskQueue
from tests.apps import closing
from tests.matrix.packages import package

flask_smorest = package("flask_smorest")
apiflask = package("apiflask")


def smorest(app: Flask) -> tuple[Any, Callable[[Any], None], str]:
    """An API of flask-smorest: a blueprint, what registers one, and where it is described."""
    app.config.update(
        API_TITLE="API", API_VERSION="1", OPENAPI_VERSION="3.0.3", OPENAPI_URL_PREFIX="/"
    )
    api = flask_smorest.Api(app)
    return flask_smorest.Blueprint("pets", __name__), api.register_blueprint, "/openapi.json"


def of_apiflask(app: Flask) -> tuple[Any, Callable[[Any], None], str]:
    """The same of APIFlask, which describes whole apps."""
    return apiflask.APIBlueprint("pets", __name__), app.register_blueprint, "/openapi.json"


@pytest.mark.parametrize(
    ("publisher", "kind"), [(smorest, Flask), (of_apiflask, apiflask.APIFlask)]
)
def test_no_worker_is_published(tmp_path: Any, publisher: Any, kind: Any) -> None:
    """Whether it is on a blueprint of the API's or on none, or is a task function; they run."""
    app = kind(__name__, instance_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="a secret for tests")
    blueprint, register, document = publisher(app)
    tasks = TaskQueue(app)

    @blueprint.route("/pet")
    def pet() -> Any:
        return {"name": "Rex"}

    def feed(name: str) -> None:
        """A handler."""

    on_it = tasks.worker("/hidden", blueprint=blueprint)(feed)
    beside = tasks.worker("/hidden-too")(feed)
    register(blueprint)
    function = tasks.task(feed)
    with closing(app), app.app_context():
        added = [one.add("Rex").id for one in (on_it, beside, function)]
        tasks.drain()
        assert {tasks.get(task).state for task in added} == {State.SUCCEEDED}
        assert set(app.test_client().get(document).get_json()["paths"]) == {"/pet"}
