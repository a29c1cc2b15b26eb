"""Saved filters: named lists in a cookie of the browser."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.dashboard.conftest import Open

SAVE, FORGET = "/taskqueue/tasks/filters", "/taskqueue/tasks/filters/forget"
OTHER_SITE = {"Sec-Fetch-Site": "cross-site"}


def names(client: FlaskClient, query: str = "") -> list[str]:
    """The saved filters that the list shows, as links or as the one that is shown."""
    page = client.get(f"/taskqueue/tasks{query}").text
    (part,) = re.findall(r'aria-label="Saved filters">(.*?)</div>', page, re.DOTALL) or [""]
    return re.findall(r'class="badge[^>]*>([^<]*)<', part)


def save(client: FlaskClient, name: str, **filters: str) -> TestResponse:
    """Save a filter."""
    return client.post(SAVE, data={"name": name, **filters})


def test_a_filter_is_saved_shown_and_forgotten(on_file: Open) -> None:
    """Its link leads to the list that it was saved from; a second one of its name replaces it."""
    one = on_file()
    client = one.app.test_client()
    assert names(client) == []
    reply = save(client, "Bad mail", state="dead", queue="mail", q="50 %")
    assert reply.headers["Location"].startswith("/taskqueue/tasks?state=dead&queue=mail&q=50+%25")
    page = client.get(reply.headers["Location"]).text
    assert "Saved the filter in this browser." in page
    assert "Forget the filter Bad mail" in page
    assert "Save this filter" not in page
    assert 'href="/taskqueue/tasks?state=dead&amp;queue=mail&amp;q=50+%25">Bad mail</a>' in (
        client.get("/taskqueue/tasks").text
    )
    save(client, "Late", state="retrying", attempts="3")
    save(client, "Bad mail", state="dead")
    assert sorted(names(client)) == ["Bad mail", "Late"]
    assert "Save this filter" in client.get("/taskqueue/tasks?state=dead&queue=mail").text
    reply = client.post(FORGET, data={"name": "Bad mail"}, follow_redirects=True)
    assert "Forgot the filter." in reply.text
    assert names(client) == ["Late"]
    assert names(one.app.test_client()) == []


def test_the_cookie_goes_to_the_dashboard_only(on_file: Open) -> None:
    """No script reads it, no other page of the app gets it, and over TLS it stays there."""
    reply = (
        on_file()
        .app.test_client()
        .post(SAVE, data={"name": "Dead", "state": "dead"}, base_url="https://localhost/mounted")
    )
    cookie = reply.headers["Set-Cookie"]
    assert "Path=/mounted/taskqueue;" in cookie
    for part in ("Secure", "HttpOnly", "SameSite=Lax"):
        assert part in cookie


def test_whoever_may_look_may_save(on_file: Open) -> None:
    """It changes nothing on the server, and the audit log has no entry; nobody else may."""
    one = on_file(TASKQUEUE_DASHBOARD_READ_ONLY=True)
    client = one.app.test_client()
    assert save(client, "Dead", state="dead").status_code == 303
    assert client.get("/taskqueue/system.json").get_json()["audit"] == []
    assert client.post(SAVE, data={"name": "x", "state": "dead"}, headers=OTHER_SITE).status_code
    forged = client.post(FORGET, data={"name": "Dead"}, headers=OTHER_SITE)
    assert forged.status_code == 403
    assert names(client) == ["Dead"]


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"name": "  ", "state": "dead"}, "Give the filter a name."),
        ({"name": "All"}, "There is no filter to save"),
        ({"name": "All", "state": "all", "after": "1.x"}, "There is no filter to save"),
        ({"name": "Dead", "state": "dead", "q": "\0"}, "holds a NUL"),
    ],
)
def test_what_cannot_be_saved_is_refused(
    on_file: Open, form: dict[str, str], sentence: str
) -> None:
    """With a sentence, and without a cookie."""
    reply = on_file().app.test_client().post(SAVE, data=form)
    assert (reply.status_code, reply.headers.get("Set-Cookie")) == (400, None)
    assert sentence in reply.text


def test_there_are_only_so_many(on_file: Open) -> None:
    """In number and in length, because a cookie has little room; those that are there stay."""
    client = on_file().app.test_client()
    for number in range(12):
        save(client, f"Filter {number}", attempts=str(number + 1))
    refused = save(client, "One more", state="dead")
    assert (refused.status_code, "12 filters are saved" in refused.text) == (400, True)
    assert save(client, "Filter 3", state="dead").status_code == 303
    long = save(client, "Filter 4", q="\N{SNOWMAN}" * 490)
    assert (long.status_code, "too long together" in long.text) == (400, True)
    assert len(names(client)) == 12


@pytest.mark.parametrize(
    "document",
    [
        b"\xff",
        b"{",
        b"[1]",
        b'{"a": 5, "b": {"state": 7, "queue": ["x"]}}',
        json.dumps({"<script>": {"q": "<script>", "state": "none"}}).encode(),
        b"[" * 1500,
        json.dumps({f"n{number}": {"q": "x" * 600} for number in range(99)}).encode()[:2900],
    ],
)
def test_a_cookie_that_somebody_has_changed_does_no_harm(on_file: Open, document: bytes) -> None:
    """The list is shown, without what is no filter."""
    client = on_file().app.test_client()
    client.set_cookie(
        "taskqueue_filters", base64.urlsafe_b64encode(document).decode(), path="/taskqueue"
    )
    reply: Any = client.get("/taskqueue/tasks")
    assert reply.status_code == 200
    assert "<script>" not in reply.text
    assert client.get("/taskqueue/tasks?state=dead").status_code == 200
