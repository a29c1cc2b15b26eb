"""Done means that the task's own view ran and returned, and that what it returned went out: in
process and over HTTP.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_taskqueue import InvalidUrlError, PermanentFailure, Retry, State, Task
from flask_taskqueue.core.delivery import signatures
from flask_taskqueue.core.delivery import verdict as verdicts
from flask_taskqueue.core.delivery.verdict import Verdict
from flask_taskqueue.process.signal_handlers import is_of_signal
from tests.apps import Bench, served

ONCE = {"task_retry_limit": 0}


@pytest.fixture(params=["wsgi", "http"])
def deliver(request: pytest.FixtureRequest, on_sqlite: Bench) -> Callable[[Task], Task]:
    """What attempts a task by one transport or the other, and gives it as it is then."""
    on_sqlite.app.config["PROPAGATE_EXCEPTIONS"] = False

    def run(task: Task) -> Task:
        if request.param == "wsgi":
            return on_sqlite.run(task)
        with served(on_sqlite.app) as url:
            on_sqlite.runtime.drain(transport="http", base_url=url)
        return on_sqlite.tasks.get(task.id)

    return run


Arrange = Callable[[Flask], object]


def answer(status: int = 200) -> Callable[..., Response]:
    """A function that answers in the place of whatever was to answer."""
    return lambda *_: Response("all is well", status)


def a_broken_hook(app: Flask) -> None:
    """A hook that raises, and an error handler that forgets the status."""

    @app.before_request
    def user() -> None:
        raise ConnectionError("the user database is away")

    app.register_error_handler(Exception, answer())


def a_redirecting_hook(app: Flask) -> None:
    """A login."""
    app.before_request(answer(302))


NEVER_RAN: dict[str, Arrange] = {
    "a hook that answers": lambda app: app.before_request(answer()),
    "a hook of the blueprint that answers": lambda app: [
        app.before_request_funcs.setdefault(name, []).append(answer())
        for name in ("taskqueue", "pages")
    ],
    "a broken hook": a_broken_hook,
    "a redirecting hook": a_redirecting_hook,
    "middleware that answers": lambda app: setattr(app, "wsgi_app", Response("closed")),
}


@pytest.mark.parametrize("arrange", NEVER_RAN.values(), ids=NEVER_RAN)
@pytest.mark.parametrize("path", ["/w", "/plain"])
def test_a_view_that_never_ran_has_not_succeeded(
    on_sqlite: Bench, deliver: Callable[[Task], Task], arrange: Arrange, path: str
) -> None:
    """Whoever answers 200 in its place, be it a worker or a plain view of the app."""
    ran: list[int] = []
    on_sqlite.tasks.worker("/w")(lambda: ran.append(1))
    pages = Blueprint("pages", __name__)
    pages.post("/plain")(lambda: ran.append(1) or "done")  # type: ignore[func-returns-value]
    on_sqlite.app.register_blueprint(pages)
    arrange(on_sqlite.app)
    task = deliver(on_sqlite.tasks.add(path, retry=ONCE))
    assert (task.state, ran) == (State.DEAD, [])
    assert "tasks.is_task_request()" in str(task.last_error)


def fails() -> None:
    """A handler that raises."""
    raise ValueError("no such row")


def asks() -> None:
    """A handler that asks for another attempt."""
    raise Retry("not yet", after=3000)


def refuses() -> None:
    """A handler that gives up."""
    raise PermanentFailure("no such user")


def aborts() -> None:
    """A handler that aborts."""
    abort(503)


def streams() -> Response:
    """A handler whose body fails half way."""

    def body() -> Iterator[str]:
        yield "one"
        raise ValueError("half way")

    return Response(body())


HANDLERS: dict[str, tuple[Callable[[], Any], State, str]] = {
    "raises": (fails, State.SCHEDULED, "ValueError: no such row"),
    "asks for a retry": (asks, State.SCHEDULED, "not yet"),
    "refuses": (refuses, State.DEAD, "no such user"),
    "aborts": (aborts, State.SCHEDULED, "503 Service Unavailable"),
    "answers an error": (lambda: ("no", 500), State.SCHEDULED, "the reply was 500"),
    "streams": (streams, State.SCHEDULED, "half way"),
}

COVERS: dict[str, Arrange] = {
    "an error handler": lambda app: (
        app.register_error_handler(Exception, answer()),
        app.register_error_handler(HTTPException, answer()),
    ),
    "after_request": lambda app: app.after_request(answer()),
    "both": lambda app: (
        app.register_error_handler(Exception, answer()),
        app.after_request(answer()),
    ),
}


@pytest.mark.parametrize("path", ["/w", "/plain"])
def test_what_a_hook_raises_is_the_error_of_the_task(
    on_sqlite: Bench, deliver: Callable[[Task], Task], path: str
) -> None:
    """Before the view, where nothing ran, and after it, where what it returned did not go out."""
    on_sqlite.tasks.worker("/w")(lambda: "done")
    on_sqlite.app.post("/plain")(lambda: "done")
    fails_in: list[str] = []

    @on_sqlite.app.before_request
    def before() -> None:
        if "before" in fails_in:
            raise RuntimeError("no user")

    @on_sqlite.app.after_request
    def after(response: Response) -> Response:
        if "after" in fails_in:
            raise RuntimeError("no session")
        return response

    said = {"before": "RuntimeError: no user", "after": "failed: RuntimeError: no session"}
    for place, words in said.items():
        fails_in[:] = [place]
        task = deliver(on_sqlite.tasks.add(path, retry=ONCE))
        assert (task.state, task.last_status) == (State.DEAD, 500)
        assert words in (task.last_error or "")


@pytest.mark.slow
def test_only_a_view_answers_for_itself(
    on_sqlite: Bench, deliver: Callable[[Task], Task], tmp_path: Path
) -> None:
    """Flask answers OPTIONS and other methods in the view's place, and a rule's other spelling
    with a redirect; HEAD runs the view, and a static file is one.
    """
    app, ran = on_sqlite.app, list[str]()
    app.testing = False
    (tmp_path / "file").write_text("a file")
    app.static_folder = str(tmp_path)

    def view() -> str:
        ran.append(request.method)
        return "done"

    app.add_url_rule("/plain", "plain", view, methods=["GET", "POST"])
    app.add_url_rule("/other", "other", view, methods=["PUT"])
    app.add_url_rule("/own", "own", view, methods=["OPTIONS"])
    worker = on_sqlite.tasks.worker("/w")(view)
    found = {
        (url, method): deliver(on_sqlite.tasks.add(url, method=method, retry=ONCE))
        for url, method in [
            ("/plain", "OPTIONS"),
            ("/plain", "PUT"),
            ("/plain", "HEAD"),
            ("/own", "OPTIONS"),
            ("/static/file", "GET"),
            ("/static/file", "OPTIONS"),
            ("/static/none", "GET"),
        ]
    }
    done = [place for place, task in found.items() if task.state is State.SUCCEEDED]
    assert done == [("/plain", "HEAD"), ("/own", "OPTIONS"), ("/static/file", "GET")]
    assert ran == ["HEAD", "OPTIONS"]
    automatic = found["/plain", "OPTIONS"]
    assert (automatic.state, automatic.last_status) == (State.SCHEDULED, 200)
    assert "no route for the task" in (automatic.last_error or "")
    app.testing = True
    with pytest.raises(InvalidUrlError, match="OPTIONS /other; it answers PUT"):
        on_sqlite.tasks.add("/other", method="OPTIONS")
    with pytest.raises(InvalidUrlError, match=r"methods \['POST'\]"):
        worker.options(method="OPTIONS").add()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    "raised",
    [
        SystemExit(3),
        SystemExit("no more"),
        asyncio.CancelledError("stopped"),
        GeneratorExit("no more"),
        KeyboardInterrupt("no more"),
    ],
    ids=repr,
)
def test_an_exit_in_a_handler_ends_the_attempt_and_nothing_else(
    on_sqlite: Bench, deliver: Callable[[Task], Task], raised: BaseException, plain: bool
) -> None:
    """A server that runs it goes on; gunicorn, for one, would end with it. So for a worker and
    for a plain view.
    """

    def exits() -> None:
        # Another each time, because its traceback keeps the app alive as long as it lives itself.
        raise type(raised)(*raised.args)

    if plain:
        on_sqlite.app.add_url_rule("/exits", "exits", exits, methods=["POST"])
    else:
        on_sqlite.tasks.worker("/exits")(exits)

    on_sqlite.tasks.worker("/w")(lambda: "done")
    task = deliver(on_sqlite.tasks.add("/exits", retry=ONCE))
    assert task.state is State.DEAD
    assert f"{type(raised).__name__}: {raised}" in (task.last_error or "")
    assert deliver(on_sqlite.tasks.add("/w")).state is State.SUCCEEDED


def test_the_end_of_a_server_is_told_from_an_exit() -> None:
    """A server's own signal handler exits in the middle of a request, and the server must end."""

    class Server:
        def handle(self, *_: object) -> None:
            raise SystemExit(1)

    def exits() -> None:
        raise SystemExit(1)

    before = signal.signal(signal.SIGUSR1, Server().handle)
    try:
        with pytest.raises(SystemExit) as of_signal:
            signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(SystemExit) as of_handler:
            exits()
        assert is_of_signal(of_signal.value)
        assert not is_of_signal(of_handler.value)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_ctrl_c_is_told_from_a_handler_that_interrupts() -> None:
    """By where it can arrive: in the main thread, and as long as Python's own handler is there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as pressed:
            signal.raise_signal(signal.SIGINT)
        assert is_of_signal(pressed.value)
        with ThreadPoolExecutor() as pool:
            assert not pool.submit(is_of_signal, KeyboardInterrupt()).result()
        signal.signal(signal.SIGINT, lambda *_: None)
        assert not is_of_signal(KeyboardInterrupt())
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("cover", COVERS.values(), ids=COVERS)
@pytest.mark.parametrize(("handler", "state", "error"), HANDLERS.values(), ids=HANDLERS)
def test_a_failure_stays_one_whatever_goes_out(
    on_sqlite: Bench,
    deliver: Callable[[Task], Task],
    cover: Arrange,
    handler: Callable[[], Any],
    state: State,
    error: str,
) -> None:
    """What the handler said does not travel where the app can drop or change it."""
    on_sqlite.tasks.worker("/w", retry={"min_backoff_seconds": 60})(handler)
    cover(on_sqlite.app)
    task = deliver(on_sqlite.tasks.add("/w"))
    assert task.state is state
    assert error in str(task.last_error)
    if handler is asks:
        assert task.due_at is not None
        assert (task.due_at - task.created_at).total_seconds() > 2900


def test_what_is_returned_must_go_out(on_sqlite: Bench, deliver: Callable[[Task], Task]) -> None:
    """A failure between the handler and the reply is one of the attempt, which says where."""
    on_sqlite.tasks.worker("/w", retry=ONCE)(lambda: None)

    @on_sqlite.app.after_request
    def measure(response: Response) -> Response:
        if request.path == "/w":
            raise ConnectionError("the statistics server is away")
        return response

    task = deliver(on_sqlite.tasks.add("/w"))
    assert task.state is State.DEAD
    assert "the handler returned 204, but what came after it" in str(task.last_error)


def test_what_the_app_does_to_a_reply_is_its_own_affair(
    on_sqlite: Bench, deliver: Callable[[Task], Task]
) -> None:
    """A new response with a status of success is still the success of the handler."""
    on_sqlite.tasks.worker("/w", retry=ONCE)(lambda: None)
    on_sqlite.app.after_request(answer(201))
    assert deliver(on_sqlite.tasks.add("/w")).state is State.SUCCEEDED


def test_a_route_that_is_not_there_is_tried_until_it_is(
    on_sqlite: Bench, deliver: Callable[[Task], Task]
) -> None:
    """A page for what is not found may answer 200; a release that has the route comes later."""
    on_sqlite.app.config["TESTING"] = on_sqlite.app.testing = False
    on_sqlite.app.register_error_handler(404, answer())
    task = deliver(on_sqlite.tasks.add("/of-the-next-release", retry={"min_backoff_seconds": 60}))
    assert task.state is State.SCHEDULED
    assert "this release of the app has no route for the task" in str(task.last_error)
    on_sqlite.app._got_first_request = False
    on_sqlite.app.post("/of-the-next-release")(lambda: "here it is")
    task.run_now()
    assert deliver(task).state is State.SUCCEEDED


@pytest.mark.slow
@pytest.mark.parametrize("forge", ["drop", "change"])
def test_middleware_cannot_turn_a_failure_into_a_success(on_sqlite: Bench, forge: str) -> None:
    """Over HTTP the verdict is signed for this very request: without it, or with another, there
    is no success.
    """
    on_sqlite.tasks.worker("/w", retry=ONCE)(fails)
    inner = on_sqlite.app.wsgi_app

    def outside(environ: Any, start_response: Any) -> Any:
        def start(_status: str, headers: list[tuple[str, str]], *_error: Any) -> Any:
            kept = [header for header in headers if header[0] != verdicts.HEADER]
            if forge == "change":
                kept.append(
                    (
                        verdicts.HEADER,
                        verdicts.sign(
                            Verdict("returned", 200), [b"k" * 32], environ["HTTP_WEBHOOK_SIGNATURE"]
                        ),
                    )
                )
            return start_response("200 OK", kept)

        return inner(environ, start)

    on_sqlite.app.config["PROPAGATE_EXCEPTIONS"] = False
    task = on_sqlite.tasks.add("/w")
    with served(outside) as url:
        on_sqlite.runtime.drain(transport="http", base_url=url)
    task = on_sqlite.tasks.get(task.id)
    assert task.state is State.DEAD
    assert "did not run" in str(task.last_error)


def test_an_app_within_an_app_has_a_verdict_of_its_own(on_sqlite: Bench) -> None:
    """Mounted below a prefix, by another app that has a queue too."""
    ran: list[int] = []
    on_sqlite.tasks.worker("/w", retry=ONCE)(lambda: ran.append(1))
    outer = Flask("outer")
    outer.config.update(SECRET_KEY="another secret", TASKQUEUE_DISPATCHER="off")
    type(on_sqlite.tasks)(outer)
    task = on_sqlite.tasks.add("/w")
    with served(DispatcherMiddleware(outer, {"/inner": on_sqlite.app})) as url:
        on_sqlite.runtime.drain(transport="http", base_url=f"{url}/inner")
    assert (on_sqlite.tasks.get(task.id).state, ran) == (State.SUCCEEDED, [1])


def test_another_extension_may_call_the_views_itself(
    on_sqlite: Bench, deliver: Callable[[Task], Task]
) -> None:
    """A debug toolbar, say, that puts its own dispatch_request in place, after ours and at any
    time.
    """
    on_sqlite.app.post("/plain")(lambda: "done")
    calls: list[int] = []
    before = on_sqlite.app.dispatch_request

    def dispatch_request(*context: Any) -> Any:
        calls.append(1)
        return before(*context)

    on_sqlite.app.dispatch_request = dispatch_request  # type: ignore[method-assign]
    assert deliver(on_sqlite.tasks.add("/plain")).state is State.SUCCEEDED
    assert calls == [1]


def a_login_page(call: Callable[..., Any], *context: Any) -> Any:
    """It answers in the view's place."""
    return call(*context) if "user" in request.form else "please log in"


def an_error_page(call: Callable[..., Any], *context: Any) -> Any:
    """It answers after a view that raised."""
    try:
        return call(*context)
    except ValueError:
        return "sorry"


@pytest.mark.parametrize("method", [a_login_page, an_error_page])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_an_app_dispatches_in_its_own_way_tells_nothing_of_the_view(
    on_sqlite: Bench, deliver: Callable[[Task], Task], method: Callable[..., Any], is_async: bool
) -> None:
    """Only the view does: one that never ran, or raised, is a failure whatever was made of it."""
    app = on_sqlite.app

    def view() -> str:
        if "good" not in request.form:
            raise ValueError("no such order")
        return "done"

    async def coroutine() -> str:
        return view()

    app.post("/plain")(coroutine if is_async else view)
    before = Flask.dispatch_request.__get__(app)
    app.dispatch_request = lambda *context: method(before, *context)  # type: ignore[method-assign]
    assert deliver(on_sqlite.tasks.add("/plain", retry=ONCE)).state is State.DEAD
    good = on_sqlite.tasks.add("/plain", {"good": 1, "user": "ana"}, retry=ONCE)
    assert deliver(good).state is State.SUCCEEDED


def within(app: Flask, path: str) -> int:
    """Dispatch a request within another, as a view for batches of requests does."""
    with app.test_request_context(path):
        try:
            return app.make_response(app.preprocess_request() or app.dispatch_request()).status_code
        except HTTPException as error:
            return app.make_response(app.handle_user_exception(error)).status_code


def test_what_becomes_of_a_request_within_a_view_is_not_the_views(
    on_sqlite: Bench, deliver: Callable[[Task], Task]
) -> None:
    """Neither a missing page, which the view copes with, nor a good one, after which it raises."""
    app, ran = on_sqlite.app, []
    app.get("/price")(lambda: "10")
    app.register_error_handler(ValueError, answer())

    @app.post("/batch")
    def batch() -> str:
        ran.append([within(app, "/price"), within(app, "/gone")])
        if "bad" in request.form:
            raise ValueError("half way")
        return "done"

    assert deliver(on_sqlite.tasks.add("/batch", retry=ONCE)).state is State.SUCCEEDED
    assert deliver(on_sqlite.tasks.add("/batch", {"bad": 1}, retry=ONCE)).state is State.DEAD
    assert ran == [[200, 404]] * 2


def test_what_becomes_of_a_request_within_a_hook_is_not_the_views(
    on_sqlite: Bench, deliver: Callable[[Task], Task]
) -> None:
    """A page in the view's place may show what another view returns."""
    app = on_sqlite.app
    app.get("/price", endpoint="price")(lambda: "10")
    app.post("/plain")(lambda: "done")

    @app.before_request
    def maintenance() -> str | None:
        if request.path == "/plain":
            return f"down for maintenance; the price is {within(app, '/price')}"
        return None

    assert deliver(on_sqlite.tasks.add("/plain", retry=ONCE)).state is State.DEAD


@pytest.mark.parametrize("answers", ["a hook", "the view"])
def test_a_request_within_a_delivery_is_not_the_delivery(
    on_sqlite: Bench, deliver: Callable[[Task], Task], answers: str
) -> None:
    """Though it takes the environ along, as a batch endpoint may: neither does it count, nor
    does a guard let it pass.
    """
    app, seen = on_sqlite.app, []
    app.post("/good")(lambda: "good")
    on_sqlite.tasks.worker("/other")(lambda: seen.append("other"))

    def within(path: str) -> Response:
        return Response.from_app(app.wsgi_app, {**request.environ, "PATH_INFO": path})

    @app.before_request
    def hook() -> Response | None:
        return within("/good") if answers == "a hook" and request.path == "/outer" else None

    @app.post("/outer")
    def outer() -> Response:
        seen.append(str(within("/other").status_code))
        within("/good")
        raise ValueError("after all")

    app.register_error_handler(Exception, answer())
    task = deliver(on_sqlite.tasks.add("/outer", retry=ONCE))
    assert task.state is State.DEAD
    assert seen == ([] if answers == "a hook" else ["403"])


def test_strangers_learn_nothing(on_sqlite: Bench) -> None:
    """Requests that are no deliveries have no verdict on their replies, whatever they claim."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    on_sqlite.app.get("/")(lambda: "hello")
    client = on_sqlite.app.test_client()
    assert verdicts.HEADER not in client.get("/").headers
    refused = client.post("/w", headers=forged())
    assert refused.status_code == 403
    assert verdicts.HEADER not in refused.headers


def forged() -> dict[str, str]:
    """All headers of a delivery, fresh and well formed, but signed with another secret."""
    now = int(time.time())
    return {
        "webhook-id": "message",
        "webhook-timestamp": str(now),
        "webhook-signature": signatures.sign([b"another secret"], "message", now, b""),
        "X-TaskQueue-TaskRetryCount": "0",
    }


@pytest.mark.parametrize("place", ["/view", "/hook"])
def test_strangers_do_not_learn_what_was_raised(on_sqlite: Bench, place: str) -> None:
    """Neither in the view nor in a hook, whatever the request claims to be."""
    on_sqlite.app.config["PROPAGATE_EXCEPTIONS"] = False

    @on_sqlite.app.before_request
    def hook() -> None:
        if request.path == "/hook":
            raise RuntimeError("the password is 1234")

    @on_sqlite.app.post("/view")
    def view() -> None:
        raise RuntimeError("the password is 1234")

    reply = on_sqlite.app.test_client().post(place, headers=forged())
    assert reply.status_code == 500
    assert "1234" not in f"{reply.headers}{reply.text}"
    assert verdicts.HEADER not in reply.headers


def test_an_exception_of_a_strangers_webhook_is_the_apps_affair(on_sqlite: Bench) -> None:
    """It passes, as without this extension, if the app propagates exceptions."""

    @on_sqlite.app.post("/view")
    def view() -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        on_sqlite.app.test_client().post("/view", headers=forged())


@pytest.mark.parametrize("error", ["x" * 5000, "ü" * 5000, "a\r\nSet-Cookie: b", "\ud800", "\x00"])
def test_any_error_fits_into_a_header(error: str) -> None:
    """In one line of ASCII, cut; what is signed for one request is nothing for another."""
    keys = [b"a" * 32, b"b" * 32]
    header = verdicts.sign(verdicts.raised(ValueError(error)), keys, "v1,c2ln")
    assert header.isascii()
    assert header.isprintable()
    assert len(header) < 1500
    opened = verdicts.verify(header, keys[1:], "v1,c2ln")
    assert opened is not None
    assert (opened.kind, opened.committed) == ("raised", False)
    assert str(opened.error).startswith(f"ValueError: {error[:10]}")
    assert verdicts.verify(header, keys, "v1,b3RoZXI=") is None
    assert verdicts.verify(header[:-2] + "}}", keys, "v1,c2ln") is None
