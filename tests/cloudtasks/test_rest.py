"""The REST routes: who may use them, and requests as other clients send them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import abort, redirect, session
from flask_wtf import CSRFProtect
from werkzeug.test import TestResponse

from flask_taskqueue import ConfigurationError, TaskQueue
from flask_taskqueue.appengine import taskqueue
from flask_taskqueue.core.settings.app import Settings
from tests.apps import Bench, bench
from tests.cloudtasks.doors import BASE, PARENT, QUEUE, SETTINGS, TOKEN
from tests.databases import TestDatabase
from tests.pages import ROOT

API = "/taskqueue/api/v2"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def served(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An app with the API and a worker."""
    with bench(sqlite_database.url, **SETTINGS) as one:
        one.tasks.worker("/worker", methods=["POST", "GET"])(lambda: None)
        yield one


def ask(one: Bench, verb: str, path: str, body: Any = None, **options: Any) -> TestResponse:
    """A request with the token."""
    given: dict[str, Any] = {"headers": BEARER, **options}
    if body is not None:
        given["json"] = body
    return one.app.test_client().open(API + path, method=verb, **given)


def test_only_those_with_the_token_are_answered(served: Bench) -> None:
    """As a bearer or an API key; and never with 401, at which clients look for Google's own."""
    client = served.app.test_client()
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"X-Goog-Api-Key": "é"},
    ):
        reply = client.get(
            f"{API}/{QUEUE}", headers=headers, environ_base={"REMOTE_ADDR": "127.0.0.1"}
        )
        assert reply.status_code == 403
        assert reply.json == {
            "error": {
                "code": 403,
                "message": "the token is missing or wrong; it is TASKQUEUE_API_TOKEN",
                "status": "PERMISSION_DENIED",
            }
        }
    for headers in (BEARER, {"Authorization": f"bearer {TOKEN}"}, {"X-Goog-Api-Key": TOKEN}):
        reply = client.get(f"{API}/{QUEUE}", headers=headers)
        assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "no-store")
    assert client.get(f"{API}/{QUEUE}?key={TOKEN}").status_code == 403
    assert TOKEN not in repr(served.runtime.settings)


def test_without_a_token_nobody_is_answered(sqlite_database: TestDatabase) -> None:
    """Wherever a request comes from; a function can say otherwise. By default there is no API."""
    with bench(sqlite_database.url, TASKQUEUE_API=True) as one:
        reply = one.app.test_client().get(f"{API}/{QUEUE}")
        assert reply.status_code == 403
        assert "TASKQUEUE_API_TOKEN" in reply.text
    for answer, status in ((True, 200), ("yes", 403), (None, 403)):
        with bench(
            sqlite_database.url, TASKQUEUE_API=True, TASKQUEUE_API_ACCESS=lambda a=answer: a
        ) as one:
            assert one.app.test_client().get(f"{API}/{QUEUE}").status_code == status
    with bench(sqlite_database.url) as one:
        assert one.app.test_client().get(f"{API}/{QUEUE}", headers=BEARER).status_code == 404


def test_a_function_that_aborts_refuses_as_any_other(sqlite_database: TestDatabase) -> None:
    """With 403 and JSON, as a 401 would have Google's clients look for another token."""
    for how in (401, redirect("/login")):
        settings = {"TASKQUEUE_API": True, "TASKQUEUE_API_ACCESS": lambda how=how: abort(how)}
        with bench(sqlite_database.url, **settings) as one:
            for path in (f"{API}/{QUEUE}", f"{API}/openapi.json"):
                reply = one.app.test_client().get(path)
                assert (reply.status_code, reply.mimetype) == (403, "application/json")


def test_a_page_of_another_site_is_not_let_in_by_a_function(
    sqlite_database: TestDatabase,
) -> None:
    """A browser would send its request from wherever the function lets its user in."""
    settings = {**SETTINGS, "TASKQUEUE_API_ACCESS": lambda: True}
    with bench(sqlite_database.url, **settings) as one:
        client, path = one.app.test_client(), f"{API}/{QUEUE}:pause"
        for foreign in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example.com"}):
            assert client.post(path, data="{}", headers=foreign).status_code == 403
            assert client.post(path, json={}, headers={**foreign, **BEARER}).status_code == 200
        assert client.post(path, json={}).status_code == 200


def test_it_can_be_at_the_root(sqlite_database: TestDatabase) -> None:
    """Where clients look that know no path."""
    with bench(sqlite_database.url, **{**SETTINGS, "TASKQUEUE_API_URL_PREFIX": ""}) as one:
        reply = one.app.test_client().get(f"/v2/{QUEUE}", headers=BEARER)
        assert reply.json is not None
        assert reply.json["name"] == QUEUE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TASKQUEUE_API_TOKEN", "short"),
        ("TASKQUEUE_API_URL_PREFIX", "api"),
        ("TASKQUEUE_API_PARENT", "guests"),
        ("TASKQUEUE_API_ACCESS", True),
    ],
)
def test_settings_that_cannot_work_are_refused(key: str, value: Any) -> None:
    """By name."""
    with pytest.raises(ConfigurationError, match=key):
        Settings.of({key: value})


def test_one_location_can_be_the_only_one(sqlite_database: TestDatabase) -> None:
    """Any other is not found."""
    with bench(sqlite_database.url, **SETTINGS, TASKQUEUE_API_PARENT=PARENT) as one:
        assert ask(one, "GET", f"/{QUEUE}").status_code == 200
        found = ask(one, "GET", "/projects/guests/locations").json
        assert found == {"locations": [{"name": PARENT, "locationId": "here"}]}
        assert ask(one, "GET", "/projects/other/locations").json == {}
        for path in ("/projects/other/locations/here", "/projects/guests/locations/there/queues"):
            reply = ask(one, "GET", path)
            assert reply.status_code == 404
            assert "TASKQUEUE_API_PARENT" in reply.text


def test_a_request_needs_no_csrf_token(sqlite_database: TestDatabase) -> None:
    """It has a token of its own; cookies count for nothing."""
    with bench(sqlite_database.url, **SETTINGS) as one:
        CSRFProtect(one.app)
        one.app.add_url_rule(
            "/login", "login", lambda: session.setdefault("user", "me"), methods=["GET"]
        )
        one.tasks.worker("/worker")(lambda: None)
        client = one.app.test_client()
        client.get("/login")
        task = {"task": {"httpRequest": {"url": f"{BASE}/worker"}}}
        path = f"{API}/{QUEUE}/tasks"
        assert client.post(path, json=task).status_code == 403
        assert client.post(path, json=task, headers=BEARER).status_code == 200


def test_names_and_numbers_of_enums_are_read(served: Bench) -> None:
    """As discovery's client and gcloud send the ones, Python's and Node's the others."""
    for method, view in (("GET", "FULL"), (2, 2), ("2", "FULL")):
        url = f"{BASE}/worker?a=1"
        reply = ask(
            served,
            "POST",
            f"/{QUEUE}/tasks",
            {"task": {"httpRequest": {"url": url, "httpMethod": method}}, "responseView": view},
        ).json
        assert reply is not None
        assert reply["httpRequest"] == {"url": url, "httpMethod": "GET"}
        assert reply["view"] == "FULL"


def test_both_spellings_of_a_field_are_read(served: Bench) -> None:
    """And null is nothing, as in protobuf's JSON."""
    reply = ask(
        served,
        "POST",
        f"/{QUEUE}/tasks",
        {
            "task": {
                "http_request": {"url": f"{BASE}/worker", "http_method": None, "headers": {}},
                "appEngineHttpRequest": None,
                "schedule_time": "2026-01-01T00:00:00.123456789+02:00",
                "dispatch_deadline": "30.5s",
                "create_time": "ignored",
            },
            "response_view": "FULL",
        },
    )
    assert reply.status_code == 200, reply.text
    assert reply.json is not None
    assert reply.json["dispatchDeadline"] == "30.500s"


def test_a_body_that_breaks_off_is_refused(served: Bench) -> None:
    """As by a server that is sent chunks which are none."""

    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("invalid chunk size")

    reply = served.app.test_client().post(
        f"{API}/{QUEUE}/tasks",
        headers=BEARER,
        input_stream=Broken(),
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert reply.status_code == 400
    assert "the body cannot be read: invalid chunk size" in reply.text


def test_own_urls_are_told_by_what_they_lead_to(sqlite_database: TestDatabase) -> None:
    """Whatever dots and escapes they hold; what leads elsewhere is not the app's own."""
    settings = {**SETTINGS, "TASKQUEUE_BASE_URL": "https://shop.example.com/guests"}
    with bench(sqlite_database.url, **settings) as one:
        for path in ("/guests/worker", "/other/../guests/./worker", "/%67uests/worker"):
            task = {"httpRequest": {"url": f"https://shop.example.com{path}"}}
            reply = ask(one, "POST", f"/{QUEUE}/tasks", {"task": task}).json
            assert reply is not None
            assert reply["httpRequest"]["url"] == "https://shop.example.com/guests/worker"
            assert one.tasks.find()[0].url == "/worker"
        for path in ("/guests/../other", "/guests/%2E./other", "/guestsx/worker"):
            task = {"httpRequest": {"url": f"https://shop.example.com{path}"}}
            reply = ask(one, "POST", f"/{QUEUE}/tasks", {"task": task})
            assert "TASKQUEUE_ALLOWED_HOSTS" in reply.text


@pytest.mark.parametrize(
    "mask",
    [
        "rateLimits.maxDispatchesPerSecond",
        "rate_limits.max_dispatches_per_second",
        "rateLimits",
        "rateLimits.maxDispatchesPerSecond,retryConfig",
    ],
)
def test_masks_are_read_in_both_spellings(served: Bench, mask: str) -> None:
    """The name may be in the body or not, and what a mask does not name is left alone."""
    shown = ask(served, "GET", f"/{PARENT}/queues/mail").json or {}
    for name in ({"name": f"{PARENT}/queues/mail"}, {}):
        reply = ask(
            served,
            "PATCH",
            f"/{PARENT}/queues/mail?updateMask={mask}&$alt=json",
            {
                **name,
                "rateLimits": {"maxDispatchesPerSecond": 5, "maxConcurrentDispatches": 3},
                "retryConfig": shown["retryConfig"],
            },
        )
        assert reply.json is not None
        assert reply.json["rateLimits"]["maxDispatchesPerSecond"] == 5
    alone = ask(
        served,
        "PATCH",
        f"/{PARENT}/queues/mail?updateMask=rateLimits.maxConcurrentDispatches",
        {"rateLimits": {"maxDispatchesPerSecond": 9, "maxConcurrentDispatches": 7}},
    ).json
    assert alone is not None
    assert alone["rateLimits"]["maxDispatchesPerSecond"] == 5
    assert alone["rateLimits"]["maxConcurrentDispatches"] == 7


def test_what_every_api_of_googles_takes_is_ignored(served: Bench) -> None:
    """And a type of the content where there is none; an unknown parameter is not."""
    query = "alt=json&$alt=json;enum-encoding=int&prettyPrint=false&fields=name&key=x"
    headers = {**BEARER, "Content-Type": "application/json"}
    assert ask(served, "GET", f"/{QUEUE}?{query}", headers=headers).status_code == 200
    reply = ask(served, "GET", f"/{QUEUE}/tasks?pagesize=5")
    assert reply.status_code == 400
    assert "pagesize" in reply.text


def test_the_beta_shows_statistics_on_request(served: Bench) -> None:
    """And the type of a queue."""
    served.tasks.add("/worker")
    path = f"/../v2beta3/{QUEUE}".replace("/..", "")
    client = served.app.test_client()
    plain = client.get(f"/taskqueue/api{path}", headers=BEARER).json
    assert plain is not None
    assert plain["type"] == "PUSH"
    assert "stats" not in plain
    found = client.get(f"/taskqueue/api{path}?readMask=stats,name", headers=BEARER).json
    assert found is not None
    assert found["stats"]["tasksCount"] == "1"
    assert found["stats"]["concurrentDispatchesCount"] == "0"
    assert "type" not in (ask(served, "GET", f"/{QUEUE}").json or {})


def test_a_row_that_was_written_by_hand_is_shown_as_far_as_it_can_be(served: Bench) -> None:
    """And the others of the list with it."""
    served.tasks.add("/worker", {"a": "1"})
    table = served.store.database.tables.task
    for column, text in (("surface", "{"), ("retry", "[]"), ("headers", "[1]"), ("method", "X")):
        task = served.tasks.add("/worker")
        served.store.transact(
            lambda connection, column=column, text=text, task=task: connection.execute(
                table.update().where(table.c.id == task.id).values({column: text})
            )
        )
    reply = ask(served, "GET", f"/{QUEUE}/tasks?responseView=FULL")
    assert reply.status_code == 200
    assert reply.json is not None
    assert len(reply.json["tasks"]) == 5
    assert all("appEngineHttpRequest" in task for task in reply.json["tasks"])


def test_a_page_with_bodies_is_shorter(served: Bench) -> None:
    """So that no page is too large for those who ask."""
    served.tasks.add_many([("/worker", None)] * 120)
    reply = ask(served, "GET", f"/{QUEUE}/tasks?responseView=FULL").json or {}
    assert len(reply["tasks"]) == 100
    rest = ask(
        served, "GET", f"/{QUEUE}/tasks?responseView=FULL&pageToken={reply['nextPageToken']}"
    )
    assert len((rest.json or {})["tasks"]) == 20
    assert len((ask(served, "GET", f"/{QUEUE}/tasks").json or {})["tasks"]) == 120


def test_a_pull_queue_is_shown_and_takes_no_task(sqlite_database: TestDatabase) -> None:
    """Its tasks are not sent, so they have no request."""
    queues = {"pulled": {"mode": "pull"}}
    name = f"{PARENT}/queues/pulled"
    with bench(sqlite_database.url, **{**SETTINGS, "TASKQUEUE_QUEUES": queues}) as one:
        taskqueue.Queue("pulled").add(taskqueue.Task(payload="x", method="PULL", name="one"))
        client = one.app.test_client()
        shown = client.get(f"/taskqueue/api/v2beta3/{name}", headers=BEARER).json or {}
        assert shown["type"] == "PULL"
        listed = ask(one, "GET", f"/{name}/tasks?responseView=FULL").json or {}
        assert listed["tasks"][0]["name"] == f"{name}/tasks/one"
        assert not {"httpRequest", "appEngineHttpRequest"} & listed["tasks"][0].keys()
        task = {"task": {"httpRequest": {"url": f"{BASE}/worker"}}}
        assert ask(one, "POST", f"/{name}/tasks", task).status_code == 400


def test_tasks_of_the_app_are_shown_too(served: Bench) -> None:
    """By the kind that their URL is."""
    served.tasks.add("/worker", {"a": "1"})
    served.tasks.add("https://api.example.com/hook", payload=b"x", method="PUT")
    reply = ask(served, "GET", f"/{QUEUE}/tasks?responseView=FULL").json
    assert reply is not None
    own, foreign = reply["tasks"]
    assert own["appEngineHttpRequest"]["relativeUri"] == "/worker"
    assert base64.b64decode(own["appEngineHttpRequest"]["body"]) == b"a=1"
    assert foreign["httpRequest"]["url"] == "https://api.example.com/hook"
    assert foreign["httpRequest"]["httpMethod"] == "PUT"


def test_a_body_is_limited_before_it_is_read(served: Bench) -> None:
    """By its length if that is said, and otherwise by what is read."""
    path, limit = f"{API}/{QUEUE}/tasks", 2 * 102_400 + 65_536
    client = served.app.test_client()
    reply = client.post(path, headers=BEARER, data=b" " * (limit + 1))
    assert (reply.status_code, "TASKQUEUE_MAX_BODY" in reply.text) == (400, True)
    for said in ({"CONTENT_LENGTH": str(2**40)}, {"wsgi.input_terminated": True}):
        environ = {"wsgi.input": Endless(), **said}
        reply = client.post(path, headers=BEARER, environ_overrides=environ)
        assert (reply.status_code, "TASKQUEUE_MAX_BODY" in reply.text) == (400, True)
        assert client.post(path, environ_overrides=environ).status_code == 403


class Endless:
    """A body that has no end, of which only a little may be read."""

    def __init__(self) -> None:
        self.left = 1_000_000

    def read(self, size: int = -1) -> bytes:
        """More of it."""
        assert 0 < size <= self.left, "the whole body is read"
        self.left -= size
        return b" " * size


@pytest.mark.parametrize("path", ["", "projects", "nothing/here", f"{QUEUE}:steal", "\x00"])
@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "DELETE"])
def test_an_unknown_path_is_not_found(served: Bench, verb: str, path: str) -> None:
    """In the form in which clients read errors."""
    reply = ask(served, verb, f"/{path}")
    if path == "" or (path == f"{QUEUE}:steal" and verb in ("GET", "DELETE")):
        assert reply.status_code in (400, 404)
        return
    assert reply.status_code == 404
    assert reply.json is not None
    assert reply.json["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"7",
        b'"x"',
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"task": ' * 50_000,
        b'{"task": {"httpRequest": {"url": 1e999}}}',
        b'{"task": {"scheduleTime": ' + b"9" * 5000 + b"}}",
        b'{"task": NaN}',
        b'{"task": {"httpRequest": {"url": "\\ud800", "headers": {"\\ud800": "\\udfff"}}}}',
    ],
)
def test_no_body_is_an_error_of_the_server(served: Bench, body: bytes) -> None:
    """Whatever its bytes are."""
    reply = ask(served, "POST", f"/{QUEUE}/tasks", data=body)
    assert reply.status_code == 400
    assert json.loads(reply.data)["error"]["status"] == "INVALID_ARGUMENT"


def test_what_is_changed_is_in_the_audit_log(served: Bench) -> None:
    """With the API as who did it; adding tasks is not an action of an operator."""
    created = ask(
        served, "POST", f"/{QUEUE}/tasks", {"task": {"httpRequest": {"url": f"{BASE}/worker"}}}
    ).json
    assert created is not None
    name = created["name"]
    for path in (f"/{QUEUE}:pause", f"/{QUEUE}:resume", f"/{name}:run", f"/{QUEUE}:purge"):
        assert ask(served, "POST", path, {}).status_code == 200
    with served.store.reading() as connection:
        entries = [
            (row.who, row.action, row.subject) for row in served.store.audit.latest(connection, 10)
        ]
    task = f"task {name.rpartition('/')[2]}"
    assert [(action, subject) for _, action, subject in reversed(entries)] == [
        ("pause", "default"),
        ("resume", "default"),
        ("run now", task),
        ("purge", "default"),
    ]
    assert {who for who, _, _ in entries} == {"Cloud Tasks API"}


def test_an_app_without_a_session_is_answered(make: Any) -> None:
    """The API needs nothing of Flask-SQLAlchemy's."""
    app = make(TASKQUEUE_API=True, TASKQUEUE_API_TOKEN=TOKEN)
    TaskQueue(app)
    reply = app.test_client().get(f"{API}/{QUEUE}", headers=BEARER)
    assert reply.status_code == 200


WITHOUT_PACKAGES = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("google", "grpc", "cryptography", "jwt"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from flask import Flask
from flask_taskqueue import TaskQueue

app = Flask("guests", instance_path=sys.argv[1])
app.config.update(SECRET_KEY="a secret for tests", TESTING=True)
app.config.update(TASKQUEUE_API=True, TASKQUEUE_API_TOKEN=sys.argv[2])
tasks = TaskQueue(app)
reply = app.test_client().post(
    "/taskqueue/api/v2/projects/p/locations/l/queues/default/tasks",
    json={"task": {"appEngineHttpRequest": {"relativeUri": "/worker"}}},
    headers={"X-Goog-Api-Key": sys.argv[2]},
)
print(reply.status_code)
"""


@pytest.mark.slow
def test_the_routes_need_no_other_package(tmp_path: Path) -> None:
    """Neither Google's nor one for keys; gRPC and tokens do."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES, str(tmp_path), TOKEN],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("200\n", 0), done.stderr
