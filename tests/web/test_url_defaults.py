"""What the application's ``url_defaults`` know is in the URLs of tasks, as in those that
``url_for`` makes.
"""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, g, url_for

from flask_taskqueue import InvalidUrlError, State, TaskSpec
from tests.apps import Bench


def know_language(owner: Any, *, strict: bool = True) -> None:
    """The pattern of Flask's own documentation, for an application or a blueprint; ``strict``
    as it is often written.
    """

    @owner.url_defaults
    def put(_endpoint: str, values: dict[str, Any]) -> None:
        if "language" not in values and (strict or "language" in g):
            values["language"] = g.language

    @owner.url_value_preprocessor
    def pull(_endpoint: str | None, values: dict[str, Any] | None) -> None:
        if values and "language" in values:
            g.language = values.pop("language")


@pytest.fixture(params=["application", "blueprint"])
def spoken(request: pytest.FixtureRequest, on_sqlite: Bench) -> Bench:
    """An application all of whose URLs begin with a language, or those of a blueprint."""
    app, tasks = on_sqlite.app, on_sqlite.tasks
    app.extensions["said"] = said = []
    if request.param == "application":
        know_language(app)
        worker = tasks.worker("/<language>/count/<int:number>", endpoint="count")
    else:
        blueprint = Blueprint("speaking", __name__, url_prefix="/<language>")
        know_language(blueprint)
        worker = tasks.worker("/count/<int:number>", blueprint=blueprint, endpoint="count")

    @worker
    def count(number: int, by: str = "one") -> None:
        said.append((g.language, number, by))
        if number:
            count.add(number - 1, by="the handler")

    @tasks.worker("/plain", endpoint="plain")
    def plain() -> None:
        said.append("plain")

    def add() -> str:
        count.add(1, by="its add")
        tasks.add(count, {"number": 0, "by": "tasks.add"})
        tasks.add_many(
            [TaskSpec(count, {"number": 0, "by": "a list"}), count.spec(0, by="its spec")]
        )
        plain.options(then=count.spec(0, by="what follows")).add()
        return url_for(
            ".count" if request.param == "blueprint" else count_endpoint(on_sqlite), number=1
        )

    if request.param == "application":
        app.add_url_rule("/<language>/add", view_func=add)
    else:
        blueprint.add_url_rule("/add", view_func=add)
        app.register_blueprint(blueprint)
    app.extensions["count"] = count
    return on_sqlite


def count_endpoint(one: Bench) -> str:
    """The endpoint of the worker."""
    return next(rule.endpoint for rule in one.app.url_map.iter_rules() if "/count/" in rule.rule)


def test_in_a_request_they_fill_the_url(spoken: Bench) -> None:
    """Of a handler's tasks, of lists, of what follows; and in a handler those of the task."""
    with spoken.app.app_context():  # whose g is this request's
        reply = spoken.app.test_client().get("/fr/add")
    assert reply.text == "/fr/count/1"
    assert {task.url for task in spoken.tasks.find()} == {"/fr/count/1", "/fr/count/0", "/plain"}
    while spoken.tasks.drain():
        pass
    assert {task.state for task in spoken.tasks.find()} == {State.SUCCEEDED}
    ways = [
        ("its add", 1),
        ("tasks.add", 0),
        ("a list", 0),
        ("its spec", 0),
        ("what follows", 0),
        ("the handler", 0),
    ]
    assert sorted(map(str, spoken.app.extensions["said"])) == sorted(
        [*(str(("fr", number, by)) for by, number in ways), "plain"]
    )


def test_what_is_given_goes_first(spoken: Bench) -> None:
    """In a request and outside."""
    endpoint = count_endpoint(spoken)
    assert spoken.tasks.add(endpoint, {"language": "de", "number": 0}).url == "/de/count/0"
    with spoken.app.test_request_context("/"):
        g.language = "fr"
        assert (
            spoken.tasks.add(spoken.app.extensions["count"], {"language": "de", "number": 0}).url
            == "/de/count/0"
        )
        assert spoken.tasks.add(endpoint, {"number": 0}).url == "/fr/count/0"


def test_where_they_do_not_know_the_task_is_refused(spoken: Bench) -> None:
    """By what is missing and what to do; a task whose URL has no such place is not concerned."""
    count = spoken.app.extensions["count"]
    for add in (
        lambda: count.add(0),
        lambda: spoken.tasks.add(count_endpoint(spoken), {"number": 0}),
    ):
        with pytest.raises(
            InvalidUrlError,
            match=r"a place for 'language'.*outside of a request "
            r"perhaps.*tasks\.add\(.*'language': ",
        ):
            add()
    assert spoken.tasks.find() == []
    spoken.tasks.add("plain" if "plain" in spoken.app.view_functions else "taskqueue.plain")


def test_that_they_are_silent_is_refused_too(on_sqlite: Bench) -> None:
    """With werkzeug's own words."""
    know_language(on_sqlite.app, strict=False)
    handler = on_sqlite.tasks.worker("/<language>/w")(lambda: None)
    with pytest.raises(InvalidUrlError, match="language"):
        handler.add()
    g.language = "fr"
    assert handler.add().url == "/fr/w"
    g.language = "de"
    assert handler.add().url == "/de/w"
