"""A declaration that cannot work is refused when it is made."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from operator import add
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask_sqlalchemy import SQLAlchemy
from werkzeug.routing import BaseConverter

from flask_taskqueue import (
    ConfigurationError,
    InvalidUrlError,
    State,
    TaskQueue,
    TaskQueueError,
    UnknownQueueError,
)
from flask_taskqueue.web.handlers import handler_of
from flask_taskqueue.web.starting import autostart
from tests.apps import closing
from tests.waiting import wait_until

Declare = Callable[[TaskQueue], Any]


@pytest.fixture(params=["before", "after"])
def declaring(request: pytest.FixtureRequest, make: Callable[..., Flask]) -> Callable[..., Flask]:
    """Declares before an application is set up, and after."""

    def declare(how: Declare, **config: Any) -> Flask:
        app, tasks = make(**config), TaskQueue()
        if request.param == "after":
            tasks.init_app(app)
        how(tasks)
        if request.param == "before":
            tasks.init_app(app)
        return app

    return declare


def anything(**_: Any) -> None:
    """A handler for whatever a URL brings."""


PLACES: dict[str, dict[str, str]] = {"worker": {"rule": "/w"}, "task": {}}


def two(
    first: str,
    second: str,
    methods: tuple[str, ...] = ("POST",),
    others: tuple[str, ...] = ("POST",),
) -> Declare:
    """Two workers."""

    def declare(tasks: TaskQueue) -> None:
        tasks.worker(first, endpoint="first", methods=methods)(anything)
        tasks.worker(second, endpoint="second", methods=others)(anything)

    return declare


@pytest.mark.parametrize(
    "workers",
    [
        two("/w", "/w"),
        two("/w", "/w", ("GET",), ("HEAD", "POST")),
        two("/u/<int:a>", "/u/<int:b>"),
        two("/u/<a>", "/u/<string:b>"),
        two("/u/<int(max=4):a>", "/u/<int(min=5):b>"),
        two("/u/<path:a>/x", "/u/<path:b>/x"),
    ],
)
def test_two_workers_on_one_url_are_refused(
    declaring: Callable[..., Flask], workers: Declare
) -> None:
    """Whatever their variables are called: the second would never run, and the first for it."""
    with pytest.raises(
        ConfigurationError, match=r"'second' and .*'first'.*another URL or another method"
    ):
        declaring(workers)


@pytest.mark.parametrize(
    "workers",
    [
        two("/w", "/w", ("GET",), ("POST",)),
        two("/w", "/w/"),
        two("/u/<a>/x", "/u/<a>/y"),
        two("/u/<int:a>", "/u/<b>"),
        two("/u/<b>", "/u/list"),
    ],
)
def test_two_workers_that_can_both_run_are_not(
    declaring: Callable[..., Flask], workers: Declare
) -> None:
    """Each has URLs of its own."""
    assert declaring(workers).test_client().get("/").status_code == 404


def test_blueprints_have_urls_of_the_application(make: Callable[..., Flask]) -> None:
    """With their prefixes, in either order; a blueprint may be there twice."""
    for early in (True, False):
        app, blueprint = make(), Blueprint("mine", __name__, url_prefix="/mine")
        tasks = TaskQueue(app)
        tasks.worker("/w", blueprint=blueprint)(anything)
        if early:
            app.register_blueprint(blueprint)
            app.register_blueprint(blueprint, name="again", url_prefix="/again")
        with pytest.raises(ConfigurationError, match="POST /mine/w"):
            tasks.worker("/mine/w", endpoint="other")(anything), app.register_blueprint(blueprint)
    blueprint = Blueprint("mine", __name__)
    tasks.worker("/w", blueprint=blueprint, endpoint="first")(anything)
    with pytest.raises(ConfigurationError, match="POST /w"):
        tasks.worker("/w", blueprint=blueprint, endpoint="second")(anything)


def test_what_was_refused_changes_nothing(make: Callable[..., Flask]) -> None:
    """The worker that was there runs, and another may be declared."""
    seen: list[str] = []
    app = make()
    tasks = TaskQueue(app)
    first = tasks.worker("/w", endpoint="first")(lambda: seen.append("first"))
    with pytest.raises(ConfigurationError):
        tasks.worker("/w", endpoint="second")(anything)
    second = tasks.worker("/v", endpoint="second")(lambda: seen.append("second"))
    first.add(), second.add(), tasks.drain()
    assert sorted(seen) == ["first", "second"]


def test_a_view_on_a_workers_url_is_refused_as_soon_as_it_is_known(
    make: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    """At once where the view is there; one that comes later at the first request, at a drain,
    and before a dispatcher starts.
    """
    app = make()
    app.add_url_rule("/w", "view", lambda: "view", methods=["POST"])
    tasks = TaskQueue(app)
    with pytest.raises(ConfigurationError, match=r"'taskqueue\.first' and of 'view'"):
        tasks.worker("/w", endpoint="first")(anything)
    early = TaskQueue()
    early.worker("/w", endpoint="first")(anything)
    other = make()
    other.add_url_rule("/w", "view", lambda: "view", methods=["POST"])
    with pytest.raises(ConfigurationError, match="POST /w"):
        early.init_app(other)

    late = make()
    tasks = TaskQueue(late)
    tasks.worker("/w", endpoint="first")(anything)
    late.add_url_rule("/w", "view", lambda: "view", methods=["POST"])
    with pytest.raises(ConfigurationError, match=r"of 'view' and of 'taskqueue\.first'"):
        tasks.drain()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="POST /w"):
            late.test_client().get("/")
    caplog.set_level(logging.ERROR)
    late.testing = False
    assert late.test_client().get("/").status_code == 500
    autostart._autostarts[late].start()
    wait_until(
        lambda: "the dispatcher does not start: POST /w" in caplog.text, what="the log says why"
    )
    assert "POST /w" in late.test_cli_runner().invoke(args=["taskqueue", "run", "--burst"]).output


def test_a_view_for_another_method_is_none_on_it(make: Callable[..., Flask]) -> None:
    """A page and the worker that it adds to share a URL."""
    app = make()
    app.add_url_rule("/w", "view", lambda: "page")
    tasks = TaskQueue(app)
    task = tasks.worker("/w")(anything).add()
    assert app.test_client().get("/w").text == "page"
    tasks.drain()
    assert tasks.get(task.id).state is State.SUCCEEDED


def test_one_function_has_one_url(declaring: Callable[..., Flask]) -> None:
    """Unless the second has an endpoint of its own; the same one may be declared again, as by a
    module that is read again.
    """

    def several(*declarations: dict[str, Any]) -> Declare:
        def declare(tasks: TaskQueue) -> None:
            for declaration in declarations:
                tasks.worker(**declaration)(anything)

        return declare

    for second in ({"rule": "/b"}, {"rule": "/a", "methods": ("GET",)}):
        with pytest.raises(ConfigurationError, match=r"anything has two URLs.* endpoint="):
            declaring(several({"rule": "/a"}, second))
    declaring(several({"rule": "/a"}, {"rule": "/b", "endpoint": "b"}))
    declaring(several({"rule": "/a"}, {"rule": "/a", "deadline": 5}))


RULES = (
    "w",
    "",
    None,
    5,
    "/<int:>",
    "/<x",
    "/<a>/<a>",
    "/w?x=1",
    "/w#x",
    "/a b",
    "/\ud800",
    "/../w",
    "/<nowhere:x>",
)


@pytest.mark.parametrize("rule", RULES)
def test_rules_that_are_none(declaring: Callable[..., Flask], rule: Any) -> None:
    """No slash at the beginning, malformed, or without a URL that leads there."""
    with pytest.raises(ConfigurationError, match=r"the rule .*worker"):
        declaring(lambda tasks: tasks.worker(rule)(anything))


def test_rules_may_have_converters_of_the_application(make: Callable[..., Flask]) -> None:
    """Which are not known before."""

    class Code(BaseConverter):
        regex = "[a-z]?[0-9]"

    tasks = TaskQueue()
    handler = tasks.worker("/<code:x>", endpoint="first")(anything)
    tasks.worker("/more/<code:x>", endpoint="second")(anything)
    app = make()
    app.url_map.converters["code"] = Code
    tasks.init_app(app)
    assert handler.add(x="a1").url == "/a1"


@pytest.mark.parametrize("methods", [(), "POST", None, ("FETCH",), ("POST", "FETCH"), (5,)])
def test_methods_that_are_none(declaring: Callable[..., Flask], methods: Any) -> None:
    """None at all, a text for a tuple, one that no task has."""
    with pytest.raises(ConfigurationError, match="methods of worker '/w'"):
        declaring(lambda tasks: tasks.worker("/w", methods=methods)(anything))


OPTIONS = (
    {"deadline": "soon"},
    {"deadline": 0},
    {"transactional": "yes"},
    {"retry": 5},
    {"queue": "nowhere"},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["worker", "task"])
def test_options_that_no_task_could_have(
    declaring: Callable[..., Flask], kind: str, options: Any
) -> None:
    """They are refused where they stand, not at each add()."""

    def declare(tasks: TaskQueue) -> None:
        getattr(tasks, kind)(**PLACES[kind], **options)(anything)

    with pytest.raises(TaskQueueError, match=next(iter(options))):
        declaring(declare)


def test_a_queue_that_is_not_configured_is_refused(
    declaring: Callable[..., Flask], make: Callable[..., Flask]
) -> None:
    """Of a handler, of one on a blueprint, of a schedule; where it is configured it is not."""
    blueprint = Blueprint("mine", __name__)
    cases: list[Declare] = [
        lambda tasks: tasks.worker("/w", queue="mail")(anything),
        lambda tasks: tasks.schedule("s", "/w", "every 5 minutes", queue="mail"),
        lambda tasks: tasks.cron("every 5 minutes", queue="mail")(anything),
    ]
    for declare in cases:
        with pytest.raises(
            UnknownQueueError, match="'mail', which is not configured: add it to TASKQUEUE_QUEUES"
        ):
            declaring(declare)
        declaring(declare, TASKQUEUE_QUEUES={"mail": {}})
    tasks = TaskQueue()
    tasks.worker("/w", queue="mail", blueprint=blueprint)(anything)
    for early in (True, False):
        app = make()
        if early:
            app.register_blueprint(blueprint)
        with pytest.raises(UnknownQueueError, match=r"'mine\.anything'"):
            tasks.init_app(app), app.register_blueprint(blueprint)


def test_a_transactional_worker_needs_a_session(declaring: Callable[..., Flask]) -> None:
    """A queue with a database of its own has none to share."""
    for kind in ("worker", "task"):
        with pytest.raises(
            ConfigurationError, match="is transactional, but the queue has a database of its own"
        ):
            declaring(
                lambda tasks, kind=kind: getattr(tasks, kind)(
                    **({"rule": "/w"} if kind == "worker" else {}), transactional=True
                )(anything)
            )


def test_parentheses_are_missed(declaring: Callable[..., Flask]) -> None:
    """A worker has a URL."""
    with pytest.raises(ConfigurationError, match=r'@tasks.worker\("/anything"\)'):
        declaring(lambda tasks: tasks.worker(anything))  # type: ignore[arg-type]


class Calls:
    """An object that is called, and yields."""

    def __call__(self) -> Any:
        yield


def generator() -> Any:
    """One."""
    yield


async def async_generator() -> Any:
    """An async one."""
    yield


@pytest.mark.parametrize(
    "function", [generator, async_generator, functools.partial(generator), Calls()]
)
def test_a_generator_function_is_refused(declaring: Callable[..., Flask], function: Any) -> None:
    """A call of it runs nothing."""
    for declare in (
        lambda tasks: tasks.worker("/w", endpoint="e")(function),
        lambda tasks: tasks.task(name="f")(function),
    ):
        with pytest.raises(TypeError, match=r"generator function.* collect what it makes"):
            declaring(declare)


@pytest.mark.parametrize("thing", [5, dict], ids=str)
def test_what_is_no_function_is_refused(declaring: Callable[..., Flask], thing: Any) -> None:
    """A class too: an object of it answers nothing."""
    with pytest.raises(TypeError, match="not a function"):
        declaring(lambda tasks: tasks.worker("/w", endpoint="e")(thing))


def test_a_queue_that_came_before_its_database_is_refused(make: Callable[..., Flask]) -> None:
    """Its tables would be in a file of their own: at the first request, at the first use,
    before a dispatcher works.
    """
    uri = {"SQLALCHEMY_DATABASE_URI": "sqlite://"}
    app = make(**uri)
    tasks = TaskQueue(app)
    handler = tasks.worker("/w")(anything)
    SQLAlchemy(app)
    for use in (handler.add, tasks.drain, tasks.find, lambda: app.test_client().get("/")):
        with pytest.raises(
            ConfigurationError, match=r"set up before SQLAlchemy.* TaskQueue\(app, db\)"
        ):
            use()

    app = make(**uri)
    db = SQLAlchemy()
    tasks = TaskQueue(app, db)
    handler = tasks.worker("/w")(anything)
    db.init_app(app)
    assert handler.add().state is State.SCHEDULED
    app = make(**uri, TASKQUEUE_DATABASE_URI="sqlite://")
    tasks = TaskQueue(app)
    SQLAlchemy(app)
    assert tasks.worker("/w")(anything).add().state is State.SCHEDULED


def test_another_extension_called_sqlalchemy_is_refused_by_name(make: Callable[..., Flask]) -> None:
    """As Flask-SQLAlchemy-Lite; with a database of its own the queue works beside it."""

    class Lite:
        @property
        def session(self) -> Any:
            raise RuntimeError("outside of an application context")

    app = make()
    app.extensions["sqlalchemy"] = Lite()
    with pytest.raises(
        ConfigurationError, match=r"Lite, and .*Flask-SQLAlchemy 3: set TASKQUEUE_DATABASE_URI"
    ):
        TaskQueue(app)
    with pytest.raises(ConfigurationError, match="Lite"):
        TaskQueue(make(), Lite())
    app = make(TASKQUEUE_DATABASE_URI="sqlite://")
    app.extensions["sqlalchemy"] = Lite()
    assert TaskQueue(app).worker("/w")(anything).add().state is State.SCHEDULED


def test_an_app_that_is_not_flasks_is_refused_by_name() -> None:
    """A blueprint for example, which looks much the same. Quart's apps: tests/matrix."""
    with pytest.raises(ConfigurationError, match=r"needs a Flask application, .*\.Blueprint"):
        TaskQueue(Blueprint("mine", __name__))  # type: ignore[arg-type]


def test_an_app_has_one_queue(make: Callable[..., Flask]) -> None:
    """A second one would take its place with some of the workers only."""
    app = make()
    tasks = TaskQueue(app)
    for again in (lambda: TaskQueue(app), lambda: tasks.init_app(app)):
        with pytest.raises(ConfigurationError, match="has a TaskQueue already"):
            again()


def test_an_app_that_matches_hosts_is_refused(make: Callable[..., Flask]) -> None:
    """None of its requests would reach a worker; also if it begins to match them later."""
    app = Flask("hosts", host_matching=True, static_host="www.example.test")
    with pytest.raises(ConfigurationError, match=r"'hosts' has host_matching=True.*subdomain"):
        TaskQueue(app)
    app = make()
    tasks = TaskQueue(app)
    app.url_map.host_matching = True
    with pytest.raises(ConfigurationError, match="host_matching=True"):
        tasks.drain()


@pytest.fixture
def on_subdomains(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Applications that match subdomains of example.test."""
    apps = ExitStack()
    number = count()

    def make_app(**config: Any) -> Flask:
        app = Flask(
            "subdomains", subdomain_matching=True, instance_path=str(tmp_path / str(next(number)))
        )
        app.config.update(SECRET_KEY="a secret for tests", SERVER_NAME="example.test", **config)
        apps.enter_context(closing(app))
        return app

    with apps:
        yield make_app


@pytest.mark.parametrize("early", [True, False])
def test_a_worker_that_tasks_do_not_reach_is_refused(
    on_subdomains: Callable[..., Flask], early: bool
) -> None:
    """A worker of the domain itself with the same path would run for it."""
    blueprint, app, tasks = (
        Blueprint("a", __name__, subdomain="admin"),
        on_subdomains(),
        TaskQueue(),
    )
    tasks.worker("/w", blueprint=blueprint)(anything)
    tasks.worker("/w", endpoint="other")(anything)
    words = r"'a\.anything' is on subdomain 'admin'.*the domain itself"
    if early:
        app.register_blueprint(blueprint)
        with pytest.raises(ConfigurationError, match=words):
            tasks.init_app(app)
    else:
        tasks.init_app(app)
        with pytest.raises(ConfigurationError, match=words):
            app.register_blueprint(blueprint)
    app, tasks = on_subdomains(TASKQUEUE_BASE_URL="https://admin.example.test:443"), TaskQueue()
    tasks.init_app(app)
    with pytest.raises(ConfigurationError, match=r"the domain itself.*subdomain 'admin' \(https"):
        tasks.task(anything)


def test_workers_run_on_the_subdomain_of_the_base_url(
    on_subdomains: Callable[..., Flask],
) -> None:
    """Though the domain itself has a view with the same path."""
    seen: list[str] = []
    app = on_subdomains(TASKQUEUE_BASE_URL="http://Admin.example.test")
    tasks = TaskQueue(app)
    blueprint = Blueprint("a", __name__, subdomain="admin")
    worker = tasks.worker("/w/<int:number>", blueprint=blueprint)(
        lambda number: seen.append(f"worker {number}")
    )
    app.register_blueprint(blueprint)
    page = functools.partial(seen.append, "page")
    app.add_url_rule("/w/<int:number>", "page", page, methods=["POST"])
    task = worker.add(5)
    tasks.drain()
    assert (tasks.get(task.id).state, seen) == (State.SUCCEEDED, ["worker 5"])
    handler = handler_of(app, task.url, "POST")
    assert handler is not None
    assert handler.name == f"{__name__}.<lambda>"
    with pytest.raises(InvalidUrlError, match="'page' is on a subdomain that tasks do not go to"):
        tasks.add("page", {"number": 5})
    with pytest.raises(ConfigurationError, match=r"sent to http://example\.test"):
        app.extensions["taskqueue"].routes("http://example.test", "http")


def test_an_endpoint_whose_url_leads_elsewhere_is_refused(
    on_subdomains: Callable[..., Flask],
) -> None:
    """To another subdomain, to another view, to a part of a path that HTTP takes away."""
    app = on_subdomains()
    tasks = TaskQueue(app)
    blueprint = Blueprint("admin", __name__, subdomain="admin")
    blueprint.add_url_rule("/report", "report", anything, methods=["POST"])
    app.register_blueprint(blueprint)
    for endpoint, rule in (("report", "/report"), ("second", "/report"), ("page", "/page/<name>")):
        app.add_url_rule(rule, endpoint, lambda **_: "", methods=["POST"])
    assert tasks.add("report").url == "/report"
    for endpoint, params, words in (
        ("admin.report", {}, "'admin.report' is on a subdomain"),
        ("second", {}, "answered by endpoint 'report', not by 'second'"),
        ("page", {"name": ".."}, "has a part"),
    ):
        with pytest.raises(InvalidUrlError, match=words):
            tasks.add(endpoint, params)


def unnamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator without functools.wraps."""

    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def charge() -> str:
    """One function to wrap."""
    return "charge"


def refund() -> str:
    """Another."""
    return "refund"


@pytest.mark.parametrize("decorators", [1, 2])
@pytest.mark.parametrize("how", ["task", "cron"])
def test_two_wrappers_of_one_name_are_refused(
    declaring: Callable[..., Flask], how: str, decorators: int
) -> None:
    """The second would run for both; by the functions that they hold they are told apart."""

    def declare(tasks: TaskQueue) -> None:
        for function in (charge, refund):
            wrapped: Callable[..., Any] = function
            for _ in range(decorators):
                wrapped = unnamed(wrapped)
            (tasks.task if how == "task" else tasks.cron("every 5 minutes"))(wrapped)

    with pytest.raises(
        ConfigurationError, match=r"wrapper around .*charge and around .*refund.*functools\.wraps"
    ):
        declaring(declare)


def test_a_factory_may_declare_other_functions(make: Callable[..., Flask]) -> None:
    """Nothing of an earlier application is in the way; in one, the same may be declared again."""
    tasks = TaskQueue()
    for function in (charge, refund):
        app = make()
        tasks.init_app(app)
        tasks.task(unnamed(function))
        wrapped = tasks.task(unnamed(function))
        with app.app_context():
            task = wrapped.options(keep_result=True).enqueue()
            tasks.drain()
            result = tasks.get(task.id).result
            assert result is not None
            assert result.json == function()


def test_a_function_that_has_lost_its_route_says_why(make: Callable[..., Flask]) -> None:
    """Another was declared in its place, or its view was replaced; a wrapped view is found."""
    app = make()
    tasks = TaskQueue(app)
    first, second = (tasks.task(name="same")(lambda text=text: text) for text in ("a", "b"))
    views, endpoint = app.view_functions, "taskqueue.task-same"
    with pytest.raises(InvalidUrlError, match="a function declared later is"):
        first.enqueue()
    view = views[endpoint]
    views[endpoint] = unnamed(view)
    with pytest.raises(InvalidUrlError, match=r"was replaced: wrap .* functools\.wraps"):
        second.enqueue()
    views[endpoint] = functools.wraps(view)(unnamed(view))
    task = second.enqueue()
    tasks.drain()
    assert tasks.get(task.id).state is State.SUCCEEDED


class Adder:
    """An object that is called, and has a method."""

    def __call__(self, number: int) -> int:
        return number + 1


@pytest.mark.parametrize("function", [functools.partial(add, 1), Adder()])
def test_what_has_no_name_needs_one(make: Callable[..., Flask], function: Any) -> None:
    """With a name it is a task function like any other."""
    tasks = TaskQueue(make())
    with pytest.raises(ConfigurationError, match=r"no name of its own.*tasks\.task\(name="):
        tasks.task(function)
    task = tasks.task(name="named", keep_result=True)(function).enqueue(5)
    tasks.drain()
    result = tasks.get(task.id).result
    assert result is not None
    assert result.json == 6


def test_a_method_is_refused_in_the_body_of_its_class(declaring: Callable[..., Flask]) -> None:
    """There is no object to call it on; a bound method has one, a static method needs none."""

    class Shop:
        """Its methods."""

        def send(self, number: int) -> None: ...

        @staticmethod
        def count(number: int) -> None: ...

    for declare in (
        lambda tasks: tasks.worker("/w")(Shop.send),
        lambda tasks: tasks.task(Shop.send),
    ):
        with pytest.raises(TypeError, match=r"Shop\.send is a method.*@staticmethod"):
            declaring(declare)
    declaring(lambda tasks: [tasks.task(Shop().send), tasks.task(Shop.count)])


def test_a_setting_that_comes_too_late_is_named(
    make: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    """Once; those that were there in time are not."""
    app = make(TASKQUEUE_CONCURRENCY=2)
    TaskQueue(app)
    app.config["TASKQUEUE_API"] = True
    for _ in range(2):
        app.test_client().get("/")
    said = [
        record.getMessage() for record in caplog.records if "has no effect" in record.getMessage()
    ]
    assert len(said) == 1
    assert said[0].startswith("TASKQUEUE_API changed after TaskQueue was set up")
