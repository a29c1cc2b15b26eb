"""Webhooks: what is taken in, once each, and what is refused."""

from __future__ import annotations

import base64
import hmac
import io
import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Blueprint, Flask, request
from flask_wtf import CSRFProtect
from standardwebhooks import Webhook

from flask_taskqueue import (
    BadTransactionStateError,
    ConfigurationError,
    State,
    TaskQueue,
    UnknownQueueError,
    current_task,
)
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench, closing, served
from tests.databases import TestDatabase
from tests.outages import switched

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes or").decode()
OTHER = "whsec_" + base64.b64encode(b"another one, as long as").decode()
BODY = '{"type": "order.placed", "data": {"order": 7}}'


def signed(
    body: str = BODY, *, id: str = "msg_1", secret: str = SECRET, late: float = 0
) -> dict[str, str]:
    """The headers of a webhook by Standard Webhooks, made by the official package."""
    at = datetime.fromtimestamp(int(time.time() + late), UTC)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(id, at, body),
        "Content-Type": "application/json",
    }


def send(shop: Bench, path: str = "/hooks/shop", body: str = BODY, **how: Any) -> Any:
    """The reply to a webhook."""
    return shop.app.test_client().post(path, data=body, headers=signed(body, **how))


def take_in(shop: Bench, seen: list[Any], **options: Any) -> Any:
    """A webhook that notes what its handler gets."""

    @shop.tasks.webhook("/hooks/shop", **({"secret": SECRET} | options))
    def orders(type: str, data: dict[str, int]) -> None:
        seen.append((type, data, request.get_data(as_text=True), request.headers["X-Webhook-Id"]))

    return orders


def test_a_webhook_becomes_a_task_of_its_handler(database: TestDatabase) -> None:
    """With the body as it was sent, the parameters in it and the sender's id; once, however often
    it is sent: before its task has run, and after.
    """
    seen: list[Any] = []
    with bench(database.url) as shop:
        orders = take_in(shop, seen)
        for _ in range(2):
            for _ in range(2):
                reply = send(shop)
                assert (reply.status_code, reply.data) == (202, b"")
            shop.tasks.drain()
        assert seen == [("order.placed", {"order": 7}, BODY, "msg_1")]
        (task,) = shop.tasks.find()
        assert task.state is State.SUCCEEDED
        assert task.name.startswith("webhook-")
        assert orders.worker.route.rule == task.url
        assert send(shop, id="msg_2").status_code == 202
        shop.tasks.drain()
        assert [task[-1] for task in seen] == ["msg_1", "msg_2"]


def test_sent_many_times_at_once_it_is_one_task(
    database: TestDatabase, patient: dict[str, Any]
) -> None:
    """Every one of them is answered with 202."""
    with bench(database.url, **(patient if database.name == "sqlite" else {})) as shop:
        take_in(shop, [])
        replies: list[int] = []
        ready = threading.Barrier(8)

        def work() -> None:
            ready.wait(60)
            replies.append(send(shop).status_code)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert replies == [202] * 8
        assert len(shop.tasks.find(limit=100)) == 1


def test_a_task_that_was_pruned_is_remembered_for_a_week(database: TestDatabase) -> None:
    """As TASKQUEUE_WEBHOOK_TTL says, however briefly other tasks are kept; then the same webhook
    is a new one.
    """
    with bench(database.url, TASKQUEUE_KEEP_SUCCEEDED=3600) as shop:
        seen: list[Any] = []
        take_in(shop, seen)
        with TaskQueueTester(shop.app) as taskqueue:
            send(shop)
            taskqueue.run_all()
            taskqueue.advance("6d")
            assert sum(shop.runtime.prune()) == 0
            assert send(shop).status_code == 202
            taskqueue.run_all()
            assert len(seen) == 1
            taskqueue.advance("2d")
            assert sum(shop.runtime.prune()) == 1
            send(shop)
            taskqueue.run_all()
        assert len(seen) == 2


def test_answered_with_2xx_only_once_the_task_is_committed(database: TestDatabase) -> None:
    """While the database is away the answer is 503, so that the sender sends it again."""
    with switched(database) as (url, switch), bench(url) as shop:
        take_in(shop, [])
        shop.runtime.store.ensure_queues()
        shop.db.session.rollback()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flask_taskqueue.store.database.transaction._PATIENCE", 0.1)
            switch(False)
            reply = send(shop)
            assert reply.status_code == 503
            assert "later" in reply.text
            switch(True)
        assert send(shop).status_code == 202
        assert len(shop.tasks.find()) == 1


def test_it_is_committed_whatever_becomes_of_the_session(database: TestDatabase) -> None:
    """A hook that fails afterwards takes nothing back that was answered."""
    with bench(database.url) as shop:
        take_in(shop, [])

        @shop.app.after_request
        def after(response: Any) -> Any:
            shop.db.session.rollback()
            return response

        assert send(shop).status_code == 202
        assert len(shop.tasks.find()) == 1


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"secret": OTHER}, "no signature"),
        ({"late": -301}, "300 seconds"),
        ({"late": 302}, "300 seconds"),
    ],
)
def test_what_is_not_signed_is_refused(on_sqlite: Bench, how: dict[str, Any], told: str) -> None:
    """With a sentence that tells no secret, and without a task."""
    take_in(on_sqlite, [])
    reply = send(on_sqlite, **how)
    assert reply.status_code == 401
    assert told in reply.text
    assert reply.mimetype == "text/plain"
    assert SECRET not in reply.text
    bare = on_sqlite.app.test_client().post("/hooks/shop", data=BODY)
    assert (bare.status_code, "webhook-id is missing" in bare.text) == (401, True)
    assert on_sqlite.tasks.find() == []


def test_other_methods_are_refused(on_sqlite: Bench) -> None:
    """A webhook is a POST."""
    take_in(on_sqlite, [])
    client = on_sqlite.app.test_client()
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert client.open("/hooks/shop", method=method, headers=signed()).status_code == 405


def test_a_body_that_no_task_may_have_is_refused(sqlite_database: TestDatabase) -> None:
    """Before it is read, or as soon as it has more bytes than a task may have."""
    with bench(sqlite_database.url, TASKQUEUE_MAX_BODY=2000) as shop:
        take_in(shop, [])
        huge = json.dumps({"type": "x" * 3000, "data": {}})
        reply = send(shop, body=huge)
        assert (reply.status_code, "TASKQUEUE_MAX_BODY" in reply.text) == (413, True)
        nearly = json.dumps({"type": "x" * 1900, "data": {}})
        assert send(shop, body=nearly).status_code == 413

        class Endless:
            """A body without an end; reading it to the end never returns."""

            given = 0

            def read(self, size: int = -1) -> bytes:
                assert size > 0
                self.given += size
                assert self.given < 1_000_000
                return b"x" * size

        reply = shop.app.test_client().post(
            "/hooks/shop",
            headers=signed(),
            environ_overrides={"wsgi.input": Endless(), "wsgi.input_terminated": True},
        )
        assert reply.status_code == 413
        assert shop.tasks.find() == []


def test_a_webhook_has_as_many_bytes_as_a_task_may_have(sqlite_database: TestDatabase) -> None:
    """With the method, the URL and the headers of its task; one byte more is too many."""
    body = json.dumps({"type": "x" * 1900, "data": {}})
    with bench(sqlite_database.url) as shop:
        take_in(shop, [])
        assert send(shop, body=body).status_code == 202
        with shop.store.reading() as reader:
            (stored,) = shop.store.tasks.get_all(reader, [shop.tasks.find()[0].id])
    request = TaskRequest(stored.method, stored.url, json.loads(stored.headers), stored.body)
    for most, status in ((request.size - 1, 413), (len(body), 413), (request.size, 202)):
        with bench(sqlite_database.url, TASKQUEUE_MAX_BODY=most) as shop:
            take_in(shop, [])
            assert send(shop, body=body, id="msg_2").status_code == status


def test_the_secret_may_come_from_the_configuration(on_sqlite: Bench) -> None:
    """A function is asked at each request, and may return several secrets."""
    on_sqlite.app.config["SHOP_SECRETS"] = [OTHER]
    take_in(on_sqlite, [], secret=lambda: on_sqlite.app.config["SHOP_SECRETS"])
    assert send(on_sqlite).status_code == 401
    on_sqlite.app.config["SHOP_SECRETS"] = [SECRET, OTHER]
    assert send(on_sqlite).status_code == 202
    on_sqlite.app.config["SHOP_SECRETS"] = None
    with pytest.raises(ConfigurationError, match="webhook 'orders' has a secret"):
        send(on_sqlite)


def test_csrf_protection_lets_it_pass(on_sqlite: Bench) -> None:
    """Whichever extension is initialised first; the other views stay protected."""
    CSRFProtect(on_sqlite.app)
    take_in(on_sqlite, [])
    on_sqlite.app.add_url_rule("/other", "other", lambda: "", methods=["POST"])
    assert send(on_sqlite).status_code == 202
    assert on_sqlite.app.test_client().post("/other").status_code == 400


def test_a_form_arrives_as_it_was_sent(on_sqlite: Bench) -> None:
    """As GitHub sends it on demand; the event is in a header."""
    seen: list[Any] = []

    @on_sqlite.tasks.webhook("/hooks/github", secret="a secret", scheme="github", queue="default")
    def pushed(payload: str) -> None:
        seen.append((json.loads(payload), dict(request.headers)))

    body = b"payload=%7B%22ref%22%3A+%22main%22%7D"
    reply = on_sqlite.app.test_client().post(
        "/hooks/github",
        data=body,
        headers={
            "X-GitHub-Delivery": "guid",
            "X-GitHub-Event": "push",
            "X-Hub-Signature-256": "sha256=" + hmac.new(b"a secret", body, "sha256").hexdigest(),
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": "session=somebody",
            "X-Other": "nobody signed it",
        },
    )
    assert reply.status_code == 202
    on_sqlite.tasks.drain()
    ((payload, headers),) = seen
    assert payload == {"ref": "main"}
    assert headers["X-Github-Event"] == "push"
    assert headers["X-Webhook-Id"] == headers["X-Github-Delivery"] == "guid"
    assert {"Cookie", "X-Hub-Signature-256", "X-Other"}.isdisjoint(headers)


def test_the_handshake_of_slack_is_answered(on_sqlite: Bench) -> None:
    """By the challenge, as plain text, and no task is stored."""

    @on_sqlite.tasks.webhook("/hooks/slack", secret="a secret", scheme="slack")
    def event(event: dict[str, Any]) -> None: ...

    def post(document: dict[str, Any], secret: bytes = b"a secret") -> Any:
        body, at = json.dumps(document).encode(), str(int(time.time()))
        mac = hmac.new(secret, b"v0:" + at.encode() + b":" + body, "sha256").hexdigest()
        return on_sqlite.app.test_client().post(
            "/hooks/slack",
            data=body,
            content_type="application/json",
            headers={"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={mac}"},
        )

    handshake = {"type": "url_verification", "challenge": "<b>3eZb"}
    reply = post(handshake)
    assert (reply.status_code, reply.text, reply.mimetype) == (200, "<b>3eZb", "text/plain")
    assert post(handshake, b"another").status_code == 401
    assert on_sqlite.tasks.find() == []
    for _ in range(2):
        sent = post({"type": "event_callback", "event_id": "Ev1", "event": {"text": "hi"}})
        assert sent.status_code == 202
    assert len(on_sqlite.tasks.find()) == 1


@pytest.mark.parametrize("is_chunked", [False, True])
def test_what_a_hook_has_read_is_still_verified(on_sqlite: Bench, is_chunked: bool) -> None:
    """Or the hook is named: a webhook whose body is gone is not the sender's fault."""
    take_in(on_sqlite, [])
    reads: list[Any] = [lambda: request.get_json(silent=True)]
    on_sqlite.app.before_request(lambda: reads[0]() and None)
    deliver = send_chunked if is_chunked else send
    assert deliver(on_sqlite).status_code == 202
    reads[0] = lambda: request.get_data()
    assert deliver(on_sqlite, id="msg_2").status_code == 202
    reads[0] = lambda: request.stream.read()
    with pytest.raises(ConfigurationError, match=r"has read the body of /hooks/shop"):
        deliver(on_sqlite, id="msg_3")


def send_chunked(shop: Bench, id: str = "msg_1") -> Any:
    """The reply to a webhook whose length is not known before."""
    return shop.app.test_client().post(
        "/hooks/shop",
        headers=signed(id=id),
        environ_overrides={
            "wsgi.input": io.BytesIO(BODY.encode()),
            "wsgi.input_terminated": True,
        },
    )


class Malformed(io.BytesIO):
    """A body whose chunks are none, as servers tell of it."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError("invalid chunk size")


@pytest.mark.parametrize(
    ("given", "length"),
    [(io.BytesIO(BODY.encode()[:7]), {"CONTENT_LENGTH": str(len(BODY))}), (Malformed(), {})],
)
def test_a_body_that_breaks_off_is_the_senders_fault(
    on_sqlite: Bench, given: Any, length: dict[str, str]
) -> None:
    """Which is no error of the app, and needs no secret to say."""
    take_in(on_sqlite, [])
    terminated = {"wsgi.input": given, "wsgi.input_terminated": True, **length}
    reply = on_sqlite.app.test_client().post(
        "/hooks/shop", headers=signed(), environ_overrides=terminated
    )
    assert (reply.status_code, "the body" in reply.text) == (400, True)
    assert on_sqlite.tasks.find() == []


def test_a_hook_that_has_the_only_write_lock_is_named(on_sqlite: Bench) -> None:
    """On SQLite the webhook would wait for its own request."""
    take_in(on_sqlite, [])
    ends = [on_sqlite.db.session.flush, on_sqlite.db.session.commit]

    @on_sqlite.app.before_request
    def visit() -> None:
        on_sqlite.db.session.add(on_sqlite.Counter(count=1))
        ends.pop(0)()

    with pytest.raises(BadTransactionStateError, match=r"webhook 'orders'.*let the hook commit"):
        send(on_sqlite)
    assert send(on_sqlite).status_code == 202


def test_transactional_handlers_count_each_webhook_once(database: TestDatabase) -> None:
    """The handler's changes and the end of its task commit together."""
    with bench(database.url) as shop:

        @shop.tasks.webhook("/hooks/shop", secret=SECRET, transactional=True)
        def count() -> None:
            assert current_task.attempt == 1
            shop.db.session.get(shop.Counter, 1).count += 1

        for _ in range(3):
            send(shop)
        shop.tasks.drain()
        assert shop.count() == 1


def test_one_webhook_on_a_blueprint_serves_several_applications(make: Any) -> None:
    """Declared before the applications are set up, with the prefix of the blueprint."""
    tasks, pages = TaskQueue(), Blueprint("pages", __name__, url_prefix="/in")
    seen: list[str] = []

    @tasks.webhook("/shop", secret=SECRET, blueprint=pages)
    def orders() -> None:
        seen.append(request.path)

    for _ in range(2):
        app = make()
        tasks.init_app(app)
        app.register_blueprint(pages)
        with app.app_context():
            reply = app.test_client().post("/in/shop", data=BODY, headers=signed())
            assert reply.status_code == 202
            tasks.drain()
    assert seen == ["/_taskqueue/webhook/orders"] * 2
    assert orders.function is orders.__wrapped__


def test_only_the_dispatcher_calls_the_handler(on_sqlite: Bench) -> None:
    """The path behind the webhook is a worker route, whatever is signed."""
    take_in(on_sqlite, [])
    reply = send(on_sqlite, path="/_taskqueue/webhook/orders")
    assert reply.status_code == 403


def declare(tasks: TaskQueue, rule: Any = "/hooks/shop", **options: Any) -> None:
    """A webhook with these options."""

    @tasks.webhook(rule, **({"secret": SECRET} | options))
    def declared() -> None: ...


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"secret": None}, "secret that is of type NoneType"),
        ({"secret": ""}, "secret that is empty"),
        ({"secret": "a plain text!"}, "a secret of Standard Webhooks is 'whsec_'"),
        ({"scheme": "gitlab"}, "no webhook scheme 'gitlab'"),
        ({"rule": "hooks"}, "must be a path"),
        ({"rule": "/hooks/<sender>"}, "has a variable"),
        ({"rule": "/taken"}, "is the URL of"),
        ({"rule": "/worker"}, "is the URL of"),
        ({"unique_key": "one"}, "has unique_key="),
        ({"target": "https://example.com"}, "has target="),
        ({"blueprint": "pages"}, "must be a flask.Blueprint"),
    ],
)
def test_a_bad_declaration_is_an_error_at_the_decorator(
    on_sqlite: Bench, options: dict[str, Any], told: str
) -> None:
    """It says which, and what to do."""
    on_sqlite.app.add_url_rule("/taken", "taken", lambda: "", methods=["GET", "POST"])
    on_sqlite.tasks.worker("/worker")(lambda: None)
    with pytest.raises(ConfigurationError, match=told):
        declare(on_sqlite.tasks, **options)


def test_a_webhook_for_an_unknown_queue_or_without_its_arguments_is_an_error(
    on_sqlite: Bench,
) -> None:
    """As with a worker."""
    with pytest.raises(UnknownQueueError, match="webhook-declared"):
        declare(on_sqlite.tasks, queue="hooks")
    with pytest.raises(TypeError, match="secret"):
        on_sqlite.tasks.webhook("/hooks")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="needs the path"):
        on_sqlite.tasks.webhook(lambda: None, secret=SECRET)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no option 'colour'"):
        declare(on_sqlite.tasks, colour="red")


def test_a_view_that_takes_its_path_later_is_an_error_at_the_first_request(
    on_sqlite: Bench,
) -> None:
    """As with a worker: one of them would never be called."""
    take_in(on_sqlite, [])
    on_sqlite.app.add_url_rule("/hooks/shop", "later", lambda: "", methods=["POST"])
    with pytest.raises(ConfigurationError, match="is the URL of"):
        send(on_sqlite)


def test_our_own_webhooks_are_taken_in(make: Any, on_sqlite: Bench) -> None:
    """From one application to another, over HTTP: an outgoing task, signed for that host."""
    seen: list[Any] = []
    take_in(on_sqlite, seen, secret=lambda: on_sqlite.app.config["SHOP_SECRET"])
    with served(on_sqlite.app) as url:
        sender = make(TASKQUEUE_ALLOWED_HOSTS=[url.removeprefix("http://")])
        tasks = TaskQueue(sender)
        with sender.app_context():
            on_sqlite.app.config["SHOP_SECRET"] = tasks.webhook_secret(url)
            task = tasks.add(f"{url}/hooks/shop", json={"type": "ping", "data": {}})
            tasks.drain()
            assert tasks.get(task.id).last_status == 202
    on_sqlite.tasks.drain()
    assert [task[0] for task in seen] == ["ping"]
    assert seen[0][-1] == task.id


@pytest.mark.slow
def test_an_application_without_a_database_of_its_own_takes_them_in(make: Any) -> None:
    """The queue's own SQLite file is enough."""
    app: Flask = make()
    tasks = TaskQueue(app)
    declare(tasks)
    with closing(app), app.app_context():
        reply = app.test_client().post("/hooks/shop", data=BODY, headers=signed())
        assert reply.status_code == 202
        assert tasks.drain() == 1
