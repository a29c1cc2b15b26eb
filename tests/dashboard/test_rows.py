"""A row of the list says which handler a task calls, and with what."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

from flask_taskqueue.core.security.redaction import HIDDEN, READ_FOR_LINE
from tests.apps import Bench, bench
from tests.dashboard.conftest import Open
from tests.databases import TestDatabase


def rows(one: Bench, **config: Any) -> list[dict[str, Any]]:
    """The rows of the list, the first that was added in front."""
    one.app.config.update(config)
    found = one.app.test_client().get("/taskqueue/tasks.json").get_json()["tasks"]
    return list(reversed(found))


def test_rows_tell_tasks_apart(opened: Open) -> None:
    """By the name of the handler, a task function's too, and by arguments of a form and of JSON."""
    one = opened(TASKQUEUE_ALLOWED_HOSTS=["example.com"])

    @one.tasks.task(name="shop-resize")
    def resize(picture: str, size: int) -> None:
        pass

    one.tasks.add("/hopeless", {"why": "no ink & paper"})
    resize.enqueue("a.png", size=240)
    one.tasks.add("/fine", payload="two\nlines \x1b[31m")
    one.tasks.add("/fine", payload=b"\xff\x00")
    one.tasks.add("https://example.com/hook", json={"order": {"id": 7}})
    found = rows(one)
    module = "tests.dashboard.conftest"
    assert [(row["handler"], row["arguments"]) for row in found] == [
        (f"{module}.hopeless", "why=no ink & paper"),
        ("shop-resize", 'picture="a.png", size=240'),
        (f"{module}.fine", "two lines [31m"),
        (f"{module}.fine", "2 bytes"),
        (None, 'order={"id":7}'),
    ]
    page = one.app.test_client().get("/taskqueue/tasks").text
    assert "picture=&#34;a.png&#34;, size=240" in page
    assert "/_taskqueue/task/shop-resize" not in page  # it would say the name twice
    assert ">https://example.com/hook</span>" in page
    task = one.app.test_client().get(f"/taskqueue/tasks/{found[0]['id']}").text
    assert f"<h1>{module}.hopeless" in task
    assert "POST /hopeless" in task


def test_arguments_are_short_and_redacted(on_file: Open) -> None:
    """Hidden values never appear, long texts end early, long bodies are told by their size."""
    one = on_file()
    one.tasks.add("/hopeless", {"why": "x" * 500, "api_token": "s3cret"})
    one.tasks.add("/hopeless", {"api_token": "s3cret", "why": "x"})
    one.tasks.add("/fine", json={"a": [{"password": "s3cret"}], "token": ["s3cret"]})
    one.tasks.add("/fine", payload="s" * (READ_FOR_LINE + 1))
    first, second, third, long = [row["arguments"] for row in rows(one)]
    assert (len(first), first[-1]) == (160, "…")
    assert second == f"api_token={HIDDEN}, why=x"
    assert third == f'a=[{{"password":"{HIDDEN}"}}], token={HIDDEN}'
    assert long == f"{READ_FOR_LINE + 1:,} bytes"
    assert "s3cret" not in one.app.test_client().get("/taskqueue/tasks").text


def test_arguments_require_the_permission_to_see_payloads(on_file: Open) -> None:
    """Without it a row names the handler, and nothing that the task holds."""
    one = on_file(TASKQUEUE_DASHBOARD_ACCESS=lambda: "read")
    one.tasks.add("/hopeless?user=ana", payload="private")
    (row,) = rows(one)
    assert (row["handler"][-8:], row["arguments"], row["url"]) == ("hopeless", None, "/hopeless")
    assert "private" not in one.app.test_client().get("/taskqueue/tasks").text


def test_a_body_that_cannot_be_decrypted_hides_nothing_else(
    sqlite_database: TestDatabase,
) -> None:
    """Its row says that the key is missing, and its page why it is dead; others are shown."""
    config: dict[str, Any] = {
        "TASKQUEUE_DASHBOARD": True,
        "TASKQUEUE_DASHBOARD_ACCESS": lambda: True,
    }
    keys = [Fernet.generate_key().decode() for _ in range(2)]
    for key in keys:
        with bench(sqlite_database.url, TASKQUEUE_ENCRYPTION_KEYS=[key], **config) as one:
            one.app.add_url_rule("/any", "any", lambda: "", methods=["POST"])
            one.tasks.add("/any", {"what": key[:3]})
            arguments = [row["arguments"] for row in rows(one)]
    assert arguments == ["encrypted with a key that is not here", f"what={keys[1][:3]}"]
    with bench(sqlite_database.url, TASKQUEUE_ENCRYPTION_KEYS=keys[1:], **config) as one:
        hidden = one.tasks.find()[-1]
        one.tasks.drain()
        page = one.app.test_client().get(f"/taskqueue/tasks/{hidden.id}")
    assert page.status_code == 200
    assert "It cannot be shown: it is encrypted by key" in page.text
    assert "the stored task cannot be read: it is encrypted by key" in page.text


@pytest.mark.parametrize("depth", [1000, 5000])
def test_json_that_is_too_deep_to_look_through_is_hidden(on_file: Open, depth: int) -> None:
    """On the list and on the task's page, where it may hold a hidden value."""
    one = on_file()
    body = '{"token":"s3cret","x":' + "[" * depth + "]" * depth + "}"
    task = one.tasks.add("/fine", payload=body, headers={"Content-Type": "application/json"})
    assert rows(one)[0]["arguments"] == HIDDEN
    client = one.app.test_client()
    page = client.get(f"/taskqueue/tasks/{task.id}")
    assert page.status_code == 200
    assert "s3cret" not in page.text
    reply = client.post(f"/taskqueue/tasks/{task.id}/copy", data={"body": HIDDEN})
    copy = reply.headers["Location"].rpartition("/")[2].partition("?")[0]
    store = one.store
    with store.reading() as connection:
        assert store.tasks.get(connection, copy).body == body.encode()
