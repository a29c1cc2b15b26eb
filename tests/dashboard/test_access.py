"""Who may see and do what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from flask import Flask, abort, redirect
from flask_wtf import CSRFProtect

from flask_taskqueue import ConfigurationError, TaskQueue, __version__
from flask_taskqueue.dashboard.access import PERMISSIONS
from flask_taskqueue.dashboard.blueprint import ACTIONS, CHOICES
from flask_taskqueue.web.access import is_forged, link_keys
from tests.apps import Bench, served
from tests.dashboard.conftest import Open
from tests.waiting import wait_until

LOCAL = {"REMOTE_ADDR": "127.0.0.1"}
VALUES = {
    "task_id": "0" * 26,
    "queue": "default",
    "name": "nightly",
    "filename": "dashboard.css",
    "target": "a.example:443",
    "group": "0" * 16,
}


CHOSEN = {f"taskqueue_dashboard.{endpoint}" for _, endpoint, _ in CHOICES}
"""What changes nothing but a cookie of the browser."""


def rules(app: Flask) -> Iterator[tuple[str, str, str]]:
    """Method, path and endpoint of each rule of the dashboard."""
    adapter = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("taskqueue_dashboard."):
            values = {name: VALUES[name] for name in rule.arguments}
            for method in (rule.methods or set()) & {"GET", "POST"}:
                path = rule.build(values, append_unknown=False)
                assert path is not None
                assert adapter.match(path[1], method=method)[0] == rule.endpoint
                yield method, path[1], rule.endpoint


def raising() -> bool:
    """An access function with a bug."""
    raise LookupError("who is this?")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: None,
        lambda: False,
        lambda: (),
        lambda: "write",
        lambda: {"views"},
        lambda: 1.5,
        lambda: [["view"]],
        raising,
    ],
)
def test_whoever_is_given_nothing_gets_nothing(on_file: Open, answer: Any) -> None:
    """Every rule answers 403, the stylesheet's too; an error in the function, or an answer that
    is none, opens nothing.
    """
    one = on_file(TASKQUEUE_DASHBOARD_ACCESS=answer)
    client = one.app.test_client()
    found = list(rules(one.app))
    assert len(found) >= 5
    for method, path, _ in found:
        assert client.open(path, method=method).status_code == 403, path


def test_a_name_that_cannot_be_told_is_nobodys(on_file: Open) -> None:
    """An error in the function that names the user, or in the name, closes nothing."""

    class Detached:
        def __str__(self) -> str:
            raise LookupError("the session of this user is over")

    client = on_file(TASKQUEUE_DASHBOARD_USER=Detached).app.test_client()
    assert client.get("/taskqueue/").status_code == 200
    assert client.post("/taskqueue/queues/default/pause").status_code == 303
    assert client.get("/taskqueue/system.json").get_json()["audit"][0]["who"] is None


def test_what_the_application_adds_to_urls_does_no_harm(on_file: Open) -> None:
    """Its ``url_defaults`` add a query; an action leads back, and cookies reach the dashboard."""
    app = on_file(TASKQUEUE_DASHBOARD_ACCESS=None, DEBUG=True).app
    app.url_defaults(lambda _, values: values.setdefault("language", "de"))
    client = app.test_client()
    key = link_keys(app.extensions["taskqueue"])[0]
    opened = client.get("/taskqueue/", query_string={"key": key})
    assert "Path=/taskqueue;" in opened.headers["Set-Cookie"]
    done = client.post("/taskqueue/queues/default/pause", data={"back": "/taskqueue/queues"})
    assert done.location == "/taskqueue/queues?did=pause&count=1"
    saved = client.post("/taskqueue/tasks/filters", data={"name": "dead", "state": "dead"})
    assert "Path=/taskqueue;" in saved.headers["Set-Cookie"]


def test_without_settings_it_is_closed(on_file: Open) -> None:
    """Nothing opens it by default, not even a request from this machine."""
    client = on_file(TASKQUEUE_DASHBOARD_ACCESS=None).app.test_client()
    assert client.get("/taskqueue/", environ_base=LOCAL).status_code == 403


def test_without_the_setting_it_is_not_there(on_file: Open) -> None:
    """An application that does not ask for a dashboard has none."""
    app = Flask("plain")
    app.config.update(SECRET_KEY="a secret for tests", TASKQUEUE_DATABASE_URI="sqlite://")
    TaskQueue(app)
    assert not [rule for rule in app.url_map.iter_rules() if "dashboard" in rule.endpoint]


@pytest.fixture
def in_debug(on_file: Open) -> Bench:
    """An application in debug, in which nothing says who may enter."""
    one = on_file(TASKQUEUE_DASHBOARD_ACCESS=None)
    one.app.debug = True
    return one


def key_of(one: Bench) -> str:
    """What the link of an application holds."""
    return link_keys(one.runtime)[0]


def test_in_debug_the_link_opens_it_and_nothing_else_does(in_debug: Bench) -> None:
    """Neither an address nor a name of this machine, nor another key. The link leaves a cookie,
    and no key in the address.
    """
    client = in_debug.app.test_client()
    for wrong in ("", "?key=", "?key=none", f"?key={key_of(in_debug)}x", "?key=%E2%82%AC"):
        refused = client.get(f"/taskqueue/{wrong}", environ_base=LOCAL)
        assert refused.status_code == 403
        assert "the link that flask run prints" in refused.text
    client.set_cookie("taskqueue_dashboard", "none", path="/taskqueue")
    assert client.get("/taskqueue/").status_code == 403
    entered = client.get(
        f"/taskqueue/?key={key_of(in_debug)}", environ_base={"REMOTE_ADDR": "192.0.2.7"}
    )
    assert (entered.status_code, entered.headers["Location"]) == (303, "/taskqueue/")
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/taskqueue" in cookie
    assert client.get("/taskqueue/").status_code == 200
    assert client.post("/taskqueue/queues/default/pause").status_code == 303


def test_the_link_opens_nothing_outside_of_debug_or_beside_another_door(
    on_file: Open, in_debug: Bench
) -> None:
    """Also what its cookie has opened is closed then."""
    client = in_debug.app.test_client()
    client.get(f"/taskqueue/?key={key_of(in_debug)}")
    in_debug.app.debug = False
    assert client.get("/taskqueue/").status_code == 403
    assert client.get(f"/taskqueue/?key={key_of(in_debug)}").status_code == 403
    guarded = on_file(TASKQUEUE_DASHBOARD_ACCESS=lambda: None)
    guarded.app.debug = True
    assert guarded.app.test_client().get(f"/taskqueue/?key={key_of(guarded)}").status_code == 403


def test_the_link_outlives_a_change_of_the_secret(on_file: Open) -> None:
    """For as long as the old one is kept."""
    one = on_file(TASKQUEUE_DASHBOARD_ACCESS=None)
    one.app.debug = True
    old = key_of(one)
    one.app.config.update(
        SECRET_KEY="another secret for tests", SECRET_KEY_FALLBACKS=["a secret for tests"]
    )
    assert key_of(one) != old
    assert one.app.test_client().get(f"/taskqueue/?key={old}").status_code == 303


def test_the_development_server_prints_the_link(
    in_debug: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """When it begins to serve; and it opens the dashboard there."""
    with served(in_debug.app) as url:
        wait_until(lambda: requests.get(url, timeout=10).status_code == 404, what="it serves")
        (line,) = [
            one
            for one in capfd.readouterr().err.splitlines()
            if "Dashboard of the task queue" in one
        ]
        link = line.partition(": ")[2]
        assert link.startswith(f"{url}/taskqueue/?key=")
        assert requests.get(link, timeout=10).status_code == 200
        assert requests.get(f"{url}/taskqueue/", timeout=10).status_code == 403


def test_by_a_proxy_that_adds_nothing_a_stranger_is_a_stranger(on_file: Open) -> None:
    """It asks from this machine, by its name, with no header of a proxy's: the dashboard, the
    metrics and what health knows stay closed.
    """
    one = on_file(TASKQUEUE_DASHBOARD_ACCESS=None, TASKQUEUE_METRICS=True)
    one.app.debug = True
    with served(one.app) as url, served(forwarding(url)) as proxy:
        for path, status in (("/", 403), ("/tasks.json", 403), ("/metrics", 403)):
            assert (
                requests.get(
                    f"{proxy}/taskqueue{path}", headers={"Host": "www.example.com"}, timeout=10
                ).status_code
                == status
            )
        assert requests.get(f"{proxy}/taskqueue/health/ready", timeout=10).status_code == 200


def forwarding(url: str) -> Callable[..., list[bytes]]:
    """A reverse proxy as bare as they come, to this URL."""

    def forward(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        reply = requests.get(f"{url}{environ['PATH_INFO']}", timeout=10)
        start_response(
            f"{reply.status_code} {reply.reason}", [("Content-Type", reply.headers["Content-Type"])]
        )
        return [reply.content]

    return forward


def test_a_user_and_a_password_open_it(on_file: Open) -> None:
    """Both must be right; a browser is asked for them."""
    one = on_file(
        TASKQUEUE_DASHBOARD_ACCESS=None,
        TASKQUEUE_DASHBOARD_USERNAME="ana",
        TASKQUEUE_DASHBOARD_PASSWORD="correct horse",
    )
    client = one.app.test_client()
    refused = client.get("/taskqueue/")
    assert refused.status_code == 401
    assert "Basic" in refused.headers["WWW-Authenticate"]
    assert client.get("/taskqueue/", auth=("ana", "wrong horse")).status_code == 401
    assert client.get("/taskqueue/", auth=("ann", "correct horse")).status_code == 401
    assert (
        client.get("/taskqueue/", headers={"Authorization": "Bearer correct horse"}).status_code
        == 401
    )
    assert client.get("/taskqueue/", auth=("ana", "correct horse")).status_code == 200
    assert "correct horse" not in repr(one.runtime.settings)


@pytest.mark.parametrize("answer", ["read", {"view", "view_payload"}])
def test_who_may_only_look_can_do_nothing(on_file: Open, answer: Any) -> None:
    """The server refuses each action, whatever the page shows."""
    one = on_file(TASKQUEUE_DASHBOARD_ACCESS=lambda: answer)
    client = one.app.test_client()
    posts = [
        path for method, path, name in rules(one.app) if method == "POST" and name not in CHOSEN
    ]
    assert len(posts) == len(ACTIONS)
    for path in posts:
        assert client.post(path).status_code == 403
    page = client.get("/taskqueue/").text
    assert "read only" in page
    assert '<form method="post"' not in page


def test_read_only_holds_for_everybody(on_file: Open) -> None:
    """TASKQUEUE_DASHBOARD_READ_ONLY takes away what any access grants."""
    client = on_file(TASKQUEUE_DASHBOARD_READ_ONLY=True).app.test_client()
    assert client.get("/taskqueue/").status_code == 200
    assert client.post("/taskqueue/queues/default/pause").status_code == 403


def test_each_permission_opens_its_actions_and_no_other(on_file: Open) -> None:
    """An action takes the permission it names."""
    granted: set[str] = set()
    one = on_file(TASKQUEUE_DASHBOARD_ACCESS=lambda: granted)
    client = one.app.test_client()
    needed = {
        f"taskqueue_dashboard.{endpoint}": permission for _, endpoint, permission, _ in ACTIONS
    }
    assert set(needed.values()) <= PERMISSIONS
    for permission in sorted(set(needed.values())):
        granted.clear()
        granted.update({"view", "view_payload", permission})
        for method, path, endpoint in rules(one.app):
            if method == "POST" and endpoint not in CHOSEN:
                allowed = client.post(path).status_code != 403
                assert allowed == (needed[endpoint] == permission), (endpoint, permission)


def test_a_function_may_send_to_a_login(on_file: Open) -> None:
    """What it aborts with is what the browser gets."""
    client = on_file(TASKQUEUE_DASHBOARD_ACCESS=lambda: abort(redirect("/login"))).app.test_client()
    assert client.get("/taskqueue/").headers["Location"] == "/login"


@pytest.mark.parametrize(
    ("method", "fetch_site", "origin", "forged"),
    [
        ("GET", "cross-site", "https://evil.example", False),
        ("POST", "same-origin", None, False),
        ("POST", "none", None, False),
        ("POST", "same-site", "https://app.example", True),
        ("POST", "cross-site", "https://app.example", True),
        ("POST", "strange", None, True),
        ("POST", None, "http://app.example", False),
        ("POST", None, "http://APP.example", False),
        ("POST", None, "http://evil.example", True),
        ("POST", None, "http://app.example.evil.example", True),
        ("POST", None, "http://app.example:81", True),
        ("POST", None, "null", True),
        ("POST", None, "", True),
        ("POST", None, None, False),
        ("DELETE", None, "http://evil.example", True),
        ("POST", "cross-site", "https://admin.example", False),
    ],
)
def test_what_counts_as_forged(
    method: str, fetch_site: str | None, origin: str | None, forged: bool
) -> None:
    """Sec-Fetch-Site decides where there is one, else Origin; a trusted origin passes."""
    assert (
        is_forged(
            method,
            host="app.example",
            fetch_site=fetch_site,
            origin=origin,
            trusted=("https://admin.example",),
        )
        == forged
    )


def test_a_forged_action_changes_nothing(on_file: Open) -> None:
    """Another site cannot make a browser act, whoever sits before it; and a GET acts never."""
    one = on_file()
    client = one.app.test_client()
    for method, path, endpoint in rules(one.app):
        if method == "POST":
            assert client.post(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403, (
                endpoint
            )
            assert (
                client.post(path, headers={"Origin": "http://evil.example"}).status_code == 403
            ), endpoint
            assert client.get(path).status_code in (404, 405), endpoint
    assert not one.tasks.queue("default").statistics().is_paused


def test_every_response_is_hardened(on_file: Open) -> None:
    """Pages, assets, refusals and errors: no script but ours, no frame, no cache for pages."""
    client = on_file().app.test_client()
    asset = f"/taskqueue/static/dashboard.css?v={__version__}"
    for path, status in (("/taskqueue/", 200), (asset, 200), ("/taskqueue/static/none", 404)):
        with client.get(path) as reply:
            assert reply.status_code == status
        policy = reply.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert ("immutable" if path == asset else "no-store") in reply.headers["Cache-Control"]
    assert "no-store" in client.post("/taskqueue/queues/none/pause").headers["Cache-Control"]


def test_pages_hold_nothing_inline(on_file: Open) -> None:
    """No style attribute, no handler, no script or style in the page: the policy would refuse
    them.
    """
    page = on_file().app.test_client().get("/taskqueue/").text
    assert " style=" not in page
    assert "<style" not in page
    assert " on" not in "".join(
        part.split(">")[0] for part in page.split("<") if "onclick" in part or "onload" in part
    )


def test_flask_wtf_leaves_it_alone(on_file: Open) -> None:
    """An application with CSRFProtect need not exempt the dashboard: it has a check of its own."""
    one = on_file()
    CSRFProtect(one.app)
    one.app.config["WTF_CSRF_ENABLED"] = True
    assert one.app.test_client().post("/taskqueue/queues/default/pause").status_code == 303


def test_an_action_never_sends_to_another_site(on_file: Open) -> None:
    """The page to return to is one of the dashboard's."""
    client = on_file().app.test_client()
    for place in (
        "https://evil.example/",
        "//evil.example/taskqueue/",
        "/elsewhere",
        "/taskqueue/\\evil",
        "javascript:alert(1)",
        "",
    ):
        reply = client.post("/taskqueue/queues/default/pause", data={"back": place})
        assert reply.status_code == 303
        assert reply.headers["Location"].startswith("/taskqueue/?did=pause"), place
    reply = client.post(
        "/taskqueue/queues/default/resume", data={"back": "/taskqueue/?queue=mail&did=x"}
    )
    assert reply.headers["Location"] == "/taskqueue/?queue=mail&did=resume&count=1"


@pytest.mark.parametrize(
    "config",
    [
        {"TASKQUEUE_DASHBOARD_USERNAME": "ana"},
        {"TASKQUEUE_DASHBOARD_USERNAME": "ana", "TASKQUEUE_DASHBOARD_PASSWORD": "short"},
        {
            "TASKQUEUE_DASHBOARD_USERNAME": "ana",
            "TASKQUEUE_DASHBOARD_PASSWORD": "long enough",
            "TASKQUEUE_DASHBOARD_ACCESS": lambda: True,
        },
        {"TASKQUEUE_DASHBOARD_ACCESS": "read"},
        {"TASKQUEUE_DASHBOARD_URL_PREFIX": "taskqueue"},
        {"TASKQUEUE_DASHBOARD_TRUSTED_ORIGINS": ["admin.example"]},
    ],
)
def test_settings_that_contradict_are_errors(config: dict[str, Any]) -> None:
    """At the start, not at the first request."""
    app = Flask("wrong")
    app.config.update(
        SECRET_KEY="a secret for tests",
        TASKQUEUE_DATABASE_URI="sqlite://",
        TASKQUEUE_DASHBOARD=True,
        **config,
    )
    with pytest.raises(ConfigurationError, match="TASKQUEUE_DASHBOARD"):
        TaskQueue(app)


def test_what_was_done_is_logged_with_who_did_it(on_file: Open) -> None:
    """The audit log has user, address, action, queue and how much was changed."""
    one: Bench = on_file(TASKQUEUE_DASHBOARD_USER=lambda: "ana")
    one.app.test_client().post("/taskqueue/queues/default/pause", environ_base=LOCAL)
    store = one.store
    with store.reading() as connection:
        (row,) = store.audit.latest(connection, 10)
    assert (row.who, row.address, row.action, row.subject, row.changed) == (
        "ana",
        "127.0.0.1",
        "pause",
        "default",
        1,
    )
    assert one.tasks.queue("default").statistics().paused_by == "ana"
