"""Threats: somebody who is no dispatcher of the application calls a worker route."""

from __future__ import annotations

import ast
import hmac
import inspect
import io
import itertools
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Blueprint, Flask, request
from flask_sqlalchemy import SQLAlchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.serving import make_server
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_taskqueue import TaskQueue
from flask_taskqueue.core.delivery import signatures
from flask_taskqueue.core.delivery.signatures import (
    attempt_keys,
    route_keys,
    sign,
    verify,
    webhook_keys,
)
from flask_taskqueue.core.names import lease_id
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.web.worker import Worker
from tests.apps import Bench, bench, closing
from tests.databases import TestDatabase
from tests.readers import PLACES, READS, arrange, in_middleware

SECRET = "a secret for tests"
BODY = b"{}"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
CALLS: list[str] = []


@pytest.fixture
def guarded(on_sqlite: Bench) -> Bench:
    """An application with worker routes of every kind, which note their calls."""
    CALLS.clear()
    tasks = on_sqlite.tasks

    @tasks.worker("/a", methods=("POST", "GET"))
    def a() -> None:
        CALLS.append("a")

    @tasks.worker("/b")
    def b() -> None:
        CALLS.append("b")

    @tasks.worker("/variable/<int:number>")
    def variable(number: int, key: str = "") -> None:
        CALLS.append(f"variable {number}")

    @tasks.worker("/transactional", transactional=True)
    def transactional() -> None:
        CALLS.append("transactional")

    @tasks.task
    def function() -> None:
        CALLS.append("function")

    pages = Blueprint("pages", __name__, url_prefix="/pages")

    @tasks.worker("/on-a-blueprint", blueprint=pages)
    def on_a_blueprint() -> None:
        CALLS.append("on a blueprint")

    on_sqlite.app.register_blueprint(pages)
    return on_sqlite


PATHS = [
    "/a",
    "/b",
    "/variable/1",
    "/transactional",
    "/_taskqueue/task/function",
    "/pages/on-a-blueprint",
]


def claimed(queue: Bench, path: str = "/a") -> Record:
    """A task whose first attempt is under way."""
    queue.tasks.add(path, payload=BODY)
    store = queue.store

    def claim(connection: sa.Connection) -> Record:
        (lane,) = store.claims.lanes(connection).due()
        (record,) = store.claims.claim(
            connection, lane, 1, lease_id=lease_id(), held_by="elsewhere", lease=30
        )
        return record

    return store.transact(claim)


def signed(
    record: Record, *, late: float = 0, keys: list[bytes] | None = None, **other: Any
) -> dict[str, str]:
    """The headers of a genuine delivery over HTTP, or of one for something else, or by other
    keys.
    """
    stamp = int(time.time() + late)
    words = {
        "method": "POST",
        "path": f"{record.url}?",
        "queue": "default",
        "attempt": record.attempts,
    } | other
    return {
        "X-TaskQueue-QueueName": "default",
        "X-TaskQueue-TaskRetryCount": str(record.attempts - 1),
        "webhook-id": record.id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign(
            attempt_keys(keys or route_keys([SECRET]), **words), record.id, stamp, record.body
        ),
    }


FORGED: dict[str, dict[str, str]] = {
    "no header": {},
    "App Engine's": {"X-AppEngine-TaskName": "x", "X-AppEngine-QueueName": "default"},
    "Cloud Tasks'": {
        "X-CloudTasks-TaskName": "x",
        "X-CloudTasks-QueueName": "default",
        "Authorization": "Bearer x",
    },
    "our names": {
        "X-TaskQueue-TaskName": "x",
        "X-TaskQueue-QueueName": "default",
        "X-TaskQueue-TaskRetryCount": "0",
    },
    "underscores": {
        "X_TaskQueue_QueueName": "default",
        "X_TaskQueue_TaskRetryCount": "0",
        "webhook_id": "x",
        "webhook_signature": "v1,AAAA",
    },
    "the environ key": {"Flask-Taskqueue.Delivery": "x", "flask_taskqueue.delivery": "x"},
    "a loopback address": {
        "X-Forwarded-For": "127.0.0.1",
        "Forwarded": "for=127.0.0.1",
        "X-Real-Ip": "127.0.0.1",
        "Host": "localhost",
    },
    "a bad signature": {
        "webhook-id": "x",
        "webhook-timestamp": "{now}",
        "webhook-signature": "v1,AAAA",
        "X-TaskQueue-TaskRetryCount": "0",
    },
    "nonsense": {
        "webhook-id": "é" * 9,
        "webhook-timestamp": "x",
        "webhook-signature": "\xff",
        "X-TaskQueue-TaskRetryCount": "-1",
    },
}
OTHER_KEYS = {
    "an old key": route_keys(["an old secret of this application"]),
    "the secret itself": [SECRET.encode()],
    "the key for other hosts": webhook_keys([SECRET]),
    "an empty key": [b""],
}


def now(headers: dict[str, str]) -> dict[str, str]:
    """The headers, of this moment."""
    return {name: value.replace("{now}", str(int(time.time()))) for name, value in headers.items()}


class TestAnOutsiderCallsAWorkerRoute:
    """Whatever is claimed: 403 (405 for a method the route has not), an empty answer, the
    handler not called.
    """

    def test_every_kind_of_route_is_among_those_tried(self, guarded: Bench) -> None:
        """Those below are all the worker routes of the application."""
        rules = {
            rule.rule
            for rule in guarded.app.url_map.iter_rules()
            if isinstance(_owner(guarded, rule.endpoint), Worker)
        }
        assert rules == {path.replace("/1", "/<int:number>") for path in PATHS}

    @pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
    def test_with_forged_headers(self, guarded: Bench, headers: dict[str, str]) -> None:
        """At every route, by every method, from this machine too."""
        client = guarded.app.test_client()
        for path, method in itertools.product(PATHS, METHODS):
            reply = client.open(
                path,
                method=method,
                headers=now(headers),
                data={"key": "x"},
                environ_base={"REMOTE_ADDR": "127.0.0.1"},
            )
            allowed = method == "POST" or (path == "/a" and method in ("GET", "HEAD"))
            assert reply.status_code == (403 if allowed else 405), (path, method)
            assert reply.data == b"" or not allowed, (path, method)
        assert CALLS == []

    @pytest.mark.parametrize("keys", OTHER_KEYS.values(), ids=OTHER_KEYS)
    def test_with_a_signature_by_another_key(self, guarded: Bench, keys: list[bytes]) -> None:
        """At every route, for a task that exists and an attempt that is under way."""
        for path in PATHS:
            reply = guarded.app.test_client().post(
                path, headers=signed(claimed(guarded, path), keys=keys), data=BODY
            )
            assert (reply.status_code, reply.data, CALLS) == (403, b"", []), path

    def test_a_genuine_delivery_is_let_in(self, guarded: Bench) -> None:
        """At every route: what the others lack is the right signature, and nothing else."""
        for number, path in enumerate(PATHS, 1):
            headers = signed(claimed(guarded, path)) | {"Content-Type": "application/json"}
            assert (
                guarded.app.test_client().post(path, headers=headers, data=BODY).status_code == 204
            ), path
            assert len(CALLS) == number

    def test_the_body_of_a_stranger_is_not_read(self, guarded: Bench) -> None:
        """It is refused by its headers."""

        class Unreadable:
            def read(self, *_: object) -> bytes:
                raise AssertionError("the body was read")

            readline = readlines = __iter__ = read

        environ = {"wsgi.input": Unreadable(), "CONTENT_LENGTH": "5"}
        assert guarded.app.test_client().post("/a", environ_overrides=environ).status_code == 403

    @pytest.mark.parametrize(
        "environ",
        [{"CONTENT_LENGTH": str(10**9)}, {"HTTP_TRANSFER_ENCODING": "chunked"}, {}],
        ids=["long", "chunked", "of unknown length"],
    )
    def test_no_more_of_a_body_is_read_than_a_task_can_have(
        self, guarded: Bench, environ: dict[str, str]
    ) -> None:
        """Well-formed signature headers do not make the application read on and on."""
        taken: list[int] = []

        class Endless:
            def read(self, size: int = -1) -> bytes:
                taken.append(size)
                assert 0 <= size
                assert sum(taken) < 200_000
                return b"x" * size

        builder = EnvironBuilder("/a", method="POST", headers=signed(claimed(guarded)))
        whole = builder.get_environ() | {"wsgi.input": Endless(), "wsgi.input_terminated": True}
        assert run_wsgi_app(guarded.app, whole | environ)[1] == "403 FORBIDDEN"
        assert CALLS == []

    def test_a_string_under_the_environ_key_proves_nothing(self, guarded: Bench) -> None:
        """Only the dispatcher's own object does; a server that lets clients set environ keys
        gives them text at most.
        """
        for value in ("x", b"x", {"record": "x"}, True):
            reply = guarded.app.test_client().post(
                "/a", environ_overrides={"flask_taskqueue.delivery": value}
            )
            assert (reply.status_code, CALLS) == (403, [])

    def test_is_task_request_is_proven_not_claimed(self, guarded: Bench) -> None:
        """A login hook that lets tasks pass lets nobody else pass."""
        answers = []
        guarded.app.before_request(lambda: answers.append(guarded.tasks.is_task_request()))
        client = guarded.app.test_client()
        for headers in FORGED.values():
            client.post("/a", headers=now(headers))
        assert not any(answers)
        guarded.tasks.add("/b")
        guarded.tasks.drain()
        assert answers[-1]
        assert not guarded.tasks.is_task_request()


class TestReplayOfACapturedDelivery:
    """A delivery that was listened to on its way fits nothing but the attempt it was made for."""

    @pytest.fixture
    def captured(
        self, sqlite_database: TestDatabase
    ) -> Iterator[tuple[Bench, dict[str, str], bytes]]:
        """A task that was delivered over HTTP, and succeeded; its headers and body as they came."""
        CALLS.clear()
        seen: list[tuple[dict[str, str], bytes]] = []
        with bench(sqlite_database.url) as queue:

            @queue.tasks.worker("/a")
            def a() -> None:
                CALLS.append("a")

            @queue.tasks.worker("/b")
            def b() -> None:
                CALLS.append("b")

            def listen(environ: dict[str, Any], start_response: Any) -> Any:
                body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                seen.append(
                    (
                        {
                            key[5:].replace("_", "-"): value
                            for key, value in environ.items()
                            if key.startswith("HTTP_")
                        },
                        body,
                    )
                )
                environ["wsgi.input"] = io.BytesIO(body)
                return queue.app.wsgi_app(environ, start_response)

            server = make_server("127.0.0.1", 0, listen)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            task = queue.tasks.add("/a", payload=BODY)
            queue.runtime.drain(transport="http", base_url=f"http://127.0.0.1:{server.port}")
            server.shutdown()
            thread.join()
            server.server_close()
            assert (queue.tasks.get(task.id).state, CALLS) == (State.SUCCEEDED, ["a"])
            yield queue, *seen[0]

    def test_after_its_end(self, captured: tuple[Bench, dict[str, str], bytes]) -> None:
        """409: it is genuine, and over."""
        queue, headers, body = captured
        for _ in range(3):
            assert queue.app.test_client().post("/a", headers=headers, data=body).status_code == 409
        assert CALLS == ["a"]

    def test_after_five_minutes(
        self, captured: tuple[Bench, dict[str, str], bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """403: it is not even looked for; the same for one from the future."""
        queue, headers, body = captured
        for seconds in (302, -302):
            at = time.time() + seconds
            monkeypatch.setattr(
                "flask_taskqueue.web.incoming.time",
                SimpleNamespace(time=lambda at=at: at, monotonic=time.monotonic),
            )
            assert queue.app.test_client().post("/a", headers=headers, data=body).status_code == 403
        assert CALLS == ["a"]

    def test_while_it_is_tried_again(self, captured: tuple[Bench, dict[str, str], bytes]) -> None:
        """The next attempt has another signature."""
        queue, headers, body = captured
        table = queue.store.database.tables.task
        with queue.store.database.engine.begin() as connection:
            connection.execute(
                sa.update(table).values(state="leased", attempts=2, lease_id="x" * 32)
            )
        assert queue.app.test_client().post("/a", headers=headers, data=body).status_code == 409
        assert (
            queue.app.test_client()
            .post("/a", headers=headers | {"X-TASKQUEUE-TASKRETRYCOUNT": "1"}, data=body)
            .status_code
            == 403
        )
        assert CALLS == ["a"]


class TestCrossRouteReplay:
    """A delivery for one route, method, queue, attempt and body is refused as any other, while
    its attempt is under way.
    """

    def test_at_every_other_route(self, guarded: Bench) -> None:
        """The signature covers the path."""
        headers = signed(claimed(guarded))
        for path in PATHS[1:]:
            assert (
                guarded.app.test_client().post(path, headers=headers, data=BODY).status_code == 403
            ), path
        assert CALLS == []

    def test_as_something_else(self, guarded: Bench) -> None:
        """Path, query, method, queue and attempt are bound."""
        record = claimed(guarded)
        for change in (
            {"path": "/b?"},
            {"path": "/a?x=1"},
            {"method": "GET"},
            {"queue": "mail"},
            {"attempt": 2},
        ):
            assert (
                guarded.app.test_client()
                .post("/a", headers=signed(record, **change), data=BODY)
                .status_code
                == 403
            ), change
        assert CALLS == []

    def test_with_another_query(self, guarded: Bench) -> None:
        """Parameters cannot be added on the way."""
        assert (
            guarded.app.test_client()
            .post("/a?admin=1", headers=signed(claimed(guarded)), data=BODY)
            .status_code
            == 403
        )

    def test_with_another_body(self, guarded: Bench) -> None:
        """The signature covers every byte."""
        headers = signed(claimed(guarded))
        for body in (b"[]", b"", b"{} ", b"{}\x00"):
            assert (
                guarded.app.test_client().post("/a", headers=headers, data=body).status_code == 403
            ), body
        assert CALLS == []


class TestRefusalsAsAHint:
    """Whoever develops the application reads why; everybody else reads nothing."""

    @pytest.mark.parametrize(
        ("change", "body", "why"),
        [
            (None, BODY, "has no signature of one. Add a task instead: flask taskqueue add /a"),
            (
                {"queue": "mail"},
                BODY,
                "SECRET_KEY, or TASKQUEUE_SECRET, must be the same where the dispatcher runs",
            ),
            (
                {},
                b"[]",
                "The signature is not of this method, path, query, queue, attempt and body",
            ),
            (
                {"webhook-timestamp": "1"},
                BODY,
                "webhook-timestamp is more than 300 seconds from this machine's clock",
            ),
            ({"webhook-id": ""}, BODY, "not all there"),
            ({}, b"x" * 200_000, "The body is longer than a task can have (TASKQUEUE_MAX_BODY)"),
        ],
    )
    def test_say_why(
        self, guarded: Bench, change: dict[str, str] | None, body: bytes, why: str
    ) -> None:
        """What is missing, and what to do."""
        record, client = claimed(guarded), guarded.app.test_client()
        named = (
            {}
            if change is None
            else {key: value for key, value in change.items() if not key.startswith("webhook")}
        )
        headers = (
            {}
            if change is None
            else signed(record, **named)
            | {key: value for key, value in change.items() if key not in named}
        )
        assert client.post("/a", headers=headers, data=body).data == b""
        guarded.app.debug = True
        reply = client.post("/a", headers=headers, data=body)
        assert reply.status_code == 403
        assert why in reply.text

    def test_say_that_an_attempt_is_over(self, guarded: Bench) -> None:
        """A genuine delivery that comes too late."""
        record = claimed(guarded)
        headers = signed(record)
        guarded.tasks.get(record.id).delete()
        guarded.app.debug = True
        reply = guarded.app.test_client().post("/a", headers=headers, data=BODY)
        assert (reply.status_code, reply.text) == (
            409,
            "This is a delivery of attempt 1, which is not under way (any more).\n",
        )


class TestWhatReadsTheBodyFirst:
    """Whoever reads of it before the guard, a signature is still of the bytes that came:
    nothing else passes, and nothing genuine fails.
    """

    @pytest.fixture
    def reading(self, guarded: Bench, request: pytest.FixtureRequest) -> Bench:
        """The application, something of which reads every body."""
        place, read = request.param
        arrange(guarded.app, place, READS[read])
        return guarded

    @pytest.mark.parametrize(
        "reading", [*itertools.product(PLACES, READS)], indirect=True, ids="-".join
    )
    def test_another_body_is_refused_and_the_genuine_one_is_not(self, reading: Bench) -> None:
        """As a form, and as anything else."""
        record = claimed(reading)
        client = reading.app.test_client()
        for kind in ("application/x-www-form-urlencoded", "application/json", "text/plain"):
            for body in (b"[]", b"", b"{} ", b"a=b", b"{}" * 9000):
                assert (
                    client.post(
                        "/a", headers=signed(record), data=body, content_type=kind
                    ).status_code
                    == 403
                ), (kind, body)
        assert CALLS == []
        assert (
            client.post(
                "/a", headers=signed(record), data=BODY, content_type="application/json"
            ).status_code
            == 204
        )
        assert CALLS == ["a"]

    @pytest.mark.parametrize("place", ["inside", "outside"])
    def test_middleware_that_puts_the_body_back(
        self, sqlite_database: TestDatabase, place: str
    ) -> None:
        """Set up before the queue or after it."""
        CALLS.clear()
        app = Flask(__name__)
        app.config.update(
            TESTING=True, SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=sqlite_database.url
        )
        db = SQLAlchemy(app)
        if place == "inside":
            app.wsgi_app = in_middleware(app.wsgi_app)  # type: ignore[method-assign]
        tasks = TaskQueue(app, db)
        tasks.worker("/a")(lambda: CALLS.append(request.get_data(as_text=True)))
        if place == "outside":
            app.wsgi_app = in_middleware(app.wsgi_app)  # type: ignore[method-assign]
        with app.app_context(), closing(app):
            db.create_all()
            headers = signed(claimed(Bench(app, db, tasks, None)))
            assert app.test_client().post("/a", headers=headers, data=b"[]").status_code == 403
            assert app.test_client().post("/a", headers=headers, data=BODY).status_code == 204
        assert CALLS == ["{}"]

    def test_what_looks_like_a_delivery_is_left_as_it_is(self, guarded: Bench) -> None:
        """A view of the application's own gets the whole body of a request with our headers,
        however long, and its errors.
        """
        got: list[Any] = []
        guarded.app.post("/upload")(lambda: got.append(request.stream.read()) or "")  # type: ignore[func-returns-value]
        headers = signed(claimed(guarded))
        for body in (b"", b"x", b"x" * 102_400, b"x" * 102_401, b"x" * 500_000):
            builder = EnvironBuilder("/upload", method="POST", headers=headers)
            for known in (
                {"CONTENT_LENGTH": str(len(body))},
                {"wsgi.input_terminated": True},
                {"HTTP_TRANSFER_ENCODING": "chunked"},
            ):
                terminated = (
                    {"wsgi.input_terminated": True} if "HTTP_TRANSFER_ENCODING" in known else {}
                )
                environ = builder.get_environ() | {"wsgi.input": io.BytesIO(body)}
                environ.pop("CONTENT_LENGTH", None)
                assert run_wsgi_app(guarded.app, environ | known | terminated)[1] == "200 OK"
                assert got.pop() == body
        cut = builder.get_environ() | {"wsgi.input": io.BytesIO(b"xx"), "CONTENT_LENGTH": "3"}
        assert run_wsgi_app(guarded.app, cut)[1] == "400 BAD REQUEST"

    def test_a_body_that_breaks_off_is_not_let_in(self, guarded: Bench) -> None:
        """Neither by an error of the server's nor short of its length."""

        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return super().read(size) or self.fail()

            def fail(self) -> bytes:
                raise OSError("error during read")

        for stream in (Broken(BODY), io.BytesIO(BODY)):
            builder = EnvironBuilder("/a", method="POST", headers=signed(claimed(guarded)))
            environ = builder.get_environ() | {"wsgi.input": stream, "CONTENT_LENGTH": "3"}
            assert run_wsgi_app(guarded.app, environ)[1] == "403 FORBIDDEN"
        assert CALLS == []

    def test_a_path_is_not_another_path_with_a_query(self, guarded: Bench) -> None:
        """Where a part of the path holds an escaped question mark."""
        guarded.tasks.worker("/<path:rest>", endpoint="rest")(lambda rest: CALLS.append(rest))
        headers = signed(claimed(guarded), path="/a%3Fb?")
        assert guarded.app.test_client().post("/a?b", headers=headers, data=BODY).status_code == 403
        assert (
            guarded.app.test_client().post("/a%3Fb", headers=headers, data=BODY).status_code == 204
        )
        assert CALLS == ["a?b"]


class TestSignatureOracle:
    """Neither the time it takes nor an error tells anything of a signature."""

    def test_signatures_are_compared_in_constant_time(self) -> None:
        """By compare_digest, and by nothing else: in the code that verifies, nothing that holds
        a signature stands beside == or in.
        """
        trees = [ast.parse(inspect.getsource(one)) for one in (verify, signatures.matches)]
        nodes = [node for tree in trees for node in ast.walk(tree)]
        calls = {
            node.func.attr
            for node in nodes
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        compared = [node for node in nodes if isinstance(node, ast.Compare)]
        assert "compare_digest" in calls
        assert [ast.unparse(node) for node in compared] == ["message_id is None"]

    def test_every_key_is_tried_with_every_signature(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first match does not end it."""
        compared = []
        real = hmac.compare_digest
        monkeypatch.setattr(
            signatures.hmac, "compare_digest", lambda *both: compared.append(1) or real(*both)
        )
        keys = [b"1" * 32, b"2" * 32, b"3" * 32]
        at = int(time.time())
        headers = {
            "webhook-id": "x",
            "webhook-timestamp": str(at),
            "webhook-signature": sign(keys, "x", at, b""),
        }
        assert verify(keys, headers, b"", at)
        assert len(compared) == 9

    @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.dictionaries(
            st.sampled_from(
                "HTTP_WEBHOOK_ID HTTP_WEBHOOK_TIMESTAMP HTTP_WEBHOOK_SIGNATURE "
                "HTTP_X_TASKQUEUE_TASKRETRYCOUNT HTTP_X_TASKQUEUE_QUEUENAME "
                "CONTENT_LENGTH CONTENT_TYPE HTTP_TRANSFER_ENCODING QUERY_STRING HTTP_HOST".split()
            ),
            st.one_of(
                st.text(st.characters(max_codepoint=255), max_size=40),
                st.sampled_from(
                    [
                        str(int(time.time())),
                        "x",
                        "0",
                        "v1,AAAA",
                        "v1," + "A" * 43 + "=",
                        "9" * 30,
                        "-1",
                        "localhost",
                    ]
                ),
            ),
        ),
        st.binary(max_size=20),
    )
    def test_no_headers_are_an_error(
        self, guarded: Bench, environ: dict[str, str], body: bytes
    ) -> None:
        """Any headers at all: a refusal, never an error of the server."""
        reply = guarded.app.test_client().post("/a", data=body, environ_overrides=environ)
        assert reply.status_code in (400, 403)
        assert CALLS == []


class TestKeyLeak:
    """A key can be replaced while deliveries are under way, and is shown nowhere."""

    def test_rotation(self, guarded: Bench) -> None:
        """Deliveries signed before SECRET_KEY changed arrive; when the old key is dropped they
        do not.
        """
        record = claimed(guarded)
        headers = signed(record)
        runtime = guarded.runtime
        for fallbacks, status in (([SECRET], 204), ([], 403)):
            guarded.app.config.update(SECRET_KEY="another secret", SECRET_KEY_FALLBACKS=fallbacks)
            runtime.__dict__.pop("keys", None)
            assert (
                guarded.app.test_client().post("/a", headers=headers, data=BODY).status_code
                == status
            )
            _ = runtime.keys

    def test_no_key_is_in_a_repr(self, sqlite_database: TestDatabase) -> None:
        """Of the settings, the keys, or the runtime: a repr ends up in logs and error reports."""
        config = {
            "TASKQUEUE_SECRET": "a secret of the queue",
            "TASKQUEUE_DATABASE_URI": "postgresql://user:a-password@h/d",
        }
        with bench(sqlite_database.url, TASKQUEUE_SECRET="a secret of the queue") as queue:
            runtime = queue.runtime
            shown = " ".join(
                map(
                    repr,
                    (runtime, runtime.settings, runtime.keys, type(runtime.settings).of(config)),
                )
            )
            for secret in (
                "a secret of",
                "a-password",
                repr(runtime.keys.route[0]),
                repr(runtime.keys.webhook[0]),
            ):
                assert secret not in shown


def _owner(queue: Bench, endpoint: str) -> Any:
    return getattr(queue.app.view_functions[endpoint], "__self__", None)
