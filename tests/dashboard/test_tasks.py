"""The list of tasks and the page of one, on each database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import RetryOptions, State, Task
from flask_taskqueue.api.bulk import change_matching
from flask_taskqueue.engine.maintenance import carry_on
from flask_taskqueue.store import Action, Filter, ListKind
from flask_taskqueue.store.tasks import listings
from tests.apps import Bench
from tests.dashboard.conftest import Open

SLOW = RetryOptions(min_backoff_seconds=500)


def listed(one: Bench, **arguments: Any) -> Any:
    """The JSON twin of the list."""
    reply = one.app.test_client().get("/taskqueue/tasks.json", query_string=arguments)
    assert reply.status_code == 200
    return reply.get_json()


def ids(one: Bench, **arguments: Any) -> list[str]:
    """The ids that are listed."""
    return [task["id"] for task in listed(one, **arguments)["tasks"]]


def walk(one: Bench, **arguments: Any) -> Iterator[str]:
    """All ids, page after page."""
    after: str | None = ""
    while after is not None:
        found = listed(one, **arguments, **({"after": after} if after else {}))
        yield from (task["id"] for task in found["tasks"])
        after = found["next"]


@pytest.fixture
def shop(opened: Open) -> dict[str, Any]:
    """One task on each list, some in another queue."""
    one = opened(TASKQUEUE_DASHBOARD_PAGE_SIZE=2)
    found = {
        "succeeded": one.tasks.add("/fine"),
        "retrying": one.tasks.add("/broken", retry=SLOW),
        "dead": one.tasks.add(
            "/hopeless", {"why": "no <b>paper</b>"}, queue="mail", name="letter-7"
        ),
        "cancelled": one.tasks.add("/fine", countdown=60),
    }
    one.tasks.drain()
    found["cancelled"].delete()
    found["due"] = one.tasks.add("/fine", priority=2)
    found["scheduled"] = one.tasks.add("/fine", countdown=600)
    return {"bench": one, **found}


def test_each_list_has_its_tasks(shop: dict[str, Any]) -> None:
    """Each kind is a list of its own, with its count; the recent ones are all, the newest first."""
    one = shop["bench"]
    for kind in ("succeeded", "retrying", "dead", "cancelled", "due"):
        assert ids(one, state=kind) == [shop[kind].id], kind
    assert shop["scheduled"].id in ids(one, state="scheduled")
    counts = listed(one)["counts"]
    assert [
        counts[kind] for kind in ("due", "retrying", "dead", "succeeded", "cancelled", "running")
    ] == [1, 1, 1, 1, 1, 0]
    every = list(walk(one))
    assert every == sorted(every, reverse=True)
    assert len(every) == 6


def test_what_waits_for_a_key_is_a_list(opened: Open) -> None:
    """Tasks behind the first of their serial key are neither due nor scheduled."""
    one = opened()
    one.tasks.add("/broken", serial_key="k", retry=SLOW)
    behind = [one.tasks.add("/fine", serial_key="k").id for _ in range(2)]
    one.tasks.drain()
    assert ids(one, state="waiting") == behind
    assert ids(one, state="waiting", url="/fine") == behind
    counts = listed(one)["counts"]
    assert (counts["waiting"], counts["retrying"], counts["due"]) == (2, 1, 0)


def test_filters_combine(shop: dict[str, Any]) -> None:
    """Queue, URL, status, attempts, age and search, all at once or one by one."""
    one, dead, retrying = shop["bench"], shop["dead"].id, shop["retrying"].id
    assert ids(one, queue="mail") == [dead]
    assert ids(one, url="/hopeless") == [dead]
    assert set(ids(one, status="5xx")) == {retrying}
    assert set(walk(one, attempts="1")) == {dead, retrying, shop["succeeded"].id}
    assert ids(one, q="letter") == [dead]
    assert ids(one, q="PAPER") == [dead]
    assert ids(one, q=dead[:25]) == [dead]
    assert ids(
        one, state="dead", queue="mail", url="/hopeless", attempts="1", since="1h", q="paper"
    ) == [dead]
    assert ids(one, state="dead", queue="default") == []
    assert ids(one, since="1h", state="succeeded") == [shop["succeeded"].id]
    assert ids(one, state="due", q="/fine", queue="default") == [shop["due"].id]


@pytest.mark.parametrize(
    "arguments",
    [
        {"state": "x"},
        {"status": "9xx"},
        {"attempts": "-1"},
        {"attempts": "9" * 30},
        {"since": "yesterday"},
        {"after": "1.x y"},
        {"after": "é"},
    ],
)
def test_what_cannot_be_used_is_told(on_file: Open, arguments: dict[str, str]) -> None:
    """Any argument gives a page; a filter that is none is left out, and the page says so."""
    one = on_file()
    found = listed(one, **arguments)
    assert found["problems"] or "after" in arguments
    assert one.app.test_client().get("/taskqueue/tasks", query_string=arguments).status_code == 200


@pytest.mark.parametrize("state", ["all", "scheduled", "succeeded"])
def test_pages_follow_each_other(opened: Open, state: str) -> None:
    """Each task is on one page, in the order of the list, over queues and priorities."""
    one = opened(TASKQUEUE_DASHBOARD_PAGE_SIZE=3)
    later = {"countdown": 600} if state == "scheduled" else {}
    for number in range(11):
        one.tasks.add(
            "/fine",
            {"n": number},
            queue=("default", "mail")[number % 2],
            priority=number % 3,
            **later,
        )
    if state == "succeeded":
        one.tasks.drain()
    found = list(walk(one, state=state))
    assert len(found) == len(set(found)) == 11
    assert list(walk(one, state=state, q="/fine")) == found


def test_a_filter_looks_so_far_and_goes_on(on_file: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What matches behind many that do not is found, look by look."""
    monkeypatch.setattr(listings, "LOOKED_AT", 4)
    one = on_file()
    first = one.tasks.add("/hopeless", name="first")
    for _ in range(10):
        one.tasks.add("/fine")
    found = listed(one, url="/hopeless")
    assert (found["tasks"], found["is_partial"]) == ([], True)
    assert "Search further" in one.app.test_client().get("/taskqueue/tasks?url=/hopeless").text
    assert list(walk(one, url="/hopeless")) == [first.id]
    assert list(walk(one, state="due", url="/hopeless")) == [first.id]


def test_a_selection_is_changed(shop: dict[str, Any]) -> None:
    """Only those whose state allows it; the page that follows tells how many, and is the one
    before.
    """
    one = shop["bench"]
    client = one.app.test_client()
    every = {"id": [shop["dead"].id, shop["scheduled"].id], "back": "/taskqueue/tasks?state=dead"}
    reply = client.post("/taskqueue/tasks/requeue", data=every)
    assert reply.headers["Location"] == "/taskqueue/tasks?state=dead&did=requeue&count=1"
    assert "Requeued 1 task." in client.get(reply.headers["Location"]).text
    assert one.tasks.get(shop["dead"].id).state == State.SCHEDULED
    client.post("/taskqueue/tasks/run", data=every)
    assert one.tasks.get(shop["scheduled"].id).due_at < shop["scheduled"].due_at
    client.post("/taskqueue/tasks/delete", data=every)
    assert one.tasks.get(shop["dead"].id).state == State.CANCELLED
    assert (
        "Cancelled 0 tasks."
        in client.post("/taskqueue/tasks/delete", data={}, follow_redirects=True).text
    )


def test_everything_that_matches_is_changed(opened: Open) -> None:
    """Few at once, many in the background, some at a time, and nothing that does not match; the
    system page tells.
    """
    one = opened()
    one.tasks.add_many({"url": "/fine", "countdown": 900} for _ in range(130))
    one.tasks.add_many({"url": "/hopeless", "countdown": 900} for _ in range(20))
    client = one.app.test_client()
    client.post(
        "/taskqueue/tasks/delete", data={"scope": "all", "state": "scheduled", "url": "/hopeless"}
    )
    assert listed(one)["counts"]["cancelled"] == 20
    reply = client.post("/taskqueue/tasks/delete", data={"scope": "all", "state": "scheduled"})
    assert reply.headers["Location"].startswith("/taskqueue/system?did=bulk-delete")
    assert "scheduled tasks" in client.get("/taskqueue/system").text
    store = one.store
    one.tasks.add("/fine", queue="mail")
    later = one.tasks.add("/fine", countdown=1800)  # than all that matched
    while carry_on(store):
        pass
    assert listed(one)["counts"]["cancelled"] == 150
    assert one.tasks.get(later.id).state == "scheduled"
    assert listed(one)["counts"]["due"] == 1
    (bulk,) = client.get("/taskqueue/system.json").get_json()["bulks"]
    assert (bulk["changed"], bulk["looked_at"], bulk["total"]) == (130, 130, 130)
    assert bulk["finished_at"] is not None
    assert "wanted" not in bulk


@pytest.mark.parametrize("in_background", [True, False])
def test_what_is_run_and_fails_is_not_run_again(
    opened: Open, monkeypatch: pytest.MonkeyPatch, in_background: bool
) -> None:
    """By the same change, however long that takes, and it ends."""
    one = opened()
    law = RetryOptions(min_backoff_seconds=900, max_backoff_seconds=900)
    found = [one.tasks.add("/broken", retry=law) for _ in range(4)]
    one.tasks.drain()
    store = one.store
    wait = sa.update(store.database.tables.task).values(due_at=store.database.dialect.now + 9**9)
    with store.database.engine.begin() as connection:
        connection.execute(wait)
    for module in ("background", "selection"):
        monkeypatch.setattr(f"flask_taskqueue.store.tasks.{module}.BATCH", 1)
    monkeypatch.setattr("flask_taskqueue.api.bulk.CHANGED_AT_ONCE", 1)

    def order(connection: sa.Connection) -> str:
        return store.bulk_changes.add(
            connection, Action.RUN_NOW, ListKind.RETRYING, Filter(), by=None, label="", total=None
        )

    if in_background:
        change = store.transact(order)
        for _ in range(5):
            store.transact(partial(store.bulk_changes.go_on, bulk_id=change))
            one.tasks.drain()
        assert store.read(store.bulk_changes.unfinished) == []
    else:
        steps = iter(range(5))

        def run(_: int) -> None:
            assert next(steps, None) is not None
            one.tasks.drain()

        change_matching(one.runtime, Action.RUN_NOW, Filter(), run)
    assert [one.tasks.get(task.id).attempts for task in found] == [2, 2, 2, 2]


def test_a_malformed_filter_matches_nothing(on_file: Open) -> None:
    """An action on all that match does not fall back to everything."""
    one = on_file()
    one.tasks.add("/fine")
    one.app.test_client().post(
        "/taskqueue/tasks/delete", data={"scope": "all", "state": "due", "status": "9xx"}
    )
    assert listed(one)["counts"]["due"] == 1


def test_the_page_of_a_task_tells_its_story(shop: dict[str, Any]) -> None:
    """Why it is where it is, its attempts with their replies, its request as curl."""
    client = shop["bench"].app.test_client()
    found = client.get(f"/taskqueue/tasks/{shop['dead'].id}.json").get_json()
    assert found["name"] == "letter-7"
    assert "no <b>paper</b>" in found["why"]
    assert [attempt["reason"] for attempt in found["tried"]] == ["permanent"]
    assert found["tried"][0]["reply_body"] == "no <b>paper</b>"
    assert found["body"] == "why=no+%3Cb%3Epaper%3C%2Fb%3E"
    assert found["curl"].startswith("curl -X POST http://localhost/hopeless")
    page = client.get(f"/taskqueue/tasks/{shop['dead'].id}").text
    assert "&lt;b&gt;paper" in page
    assert "<b>paper" not in page
    assert client.get("/taskqueue/tasks/" + "0" * 26).status_code == 404


def test_a_task_is_run_requeued_and_deleted(shop: dict[str, Any]) -> None:
    """And what its state does not allow is a sentence, not an error of the server."""
    one = shop["bench"]
    client = one.app.test_client()
    place = f"/taskqueue/tasks/{shop['dead'].id}"
    refused = client.post(f"{place}/run")
    assert refused.status_code == 409
    assert "only a scheduled task can be run now" in refused.text
    client.post(f"{place}/requeue")
    assert one.tasks.get(shop["dead"].id).state == State.SCHEDULED
    client.post(f"{place}/run")
    client.post(f"{place}/delete")
    assert one.tasks.get(shop["dead"].id).state == State.CANCELLED


def test_a_task_of_a_paused_queue_is_forced(shop: dict[str, Any]) -> None:
    """The plain button does not pass the pause, the other one does; the log tells them apart."""
    one = shop["bench"]
    client = one.app.test_client()
    one.tasks.queue("default").pause()
    task = one.tasks.add("/fine")
    place = f"/taskqueue/tasks/{task.id}"
    assert "Run anyway" in client.get(place).text
    client.post(f"{place}/run")
    one.tasks.drain()
    assert one.tasks.get(task.id).state == State.SCHEDULED
    client.post(f"{place}/run", data={"force": "yes"})
    one.tasks.drain()
    assert one.tasks.get(task.id).state == State.SUCCEEDED
    entries = client.get("/taskqueue/system.json").get_json()["audit"]
    assert [entry["subject"] for entry in entries[:2]] == [f"{task.id}, forced", task.id]


def secretive(one: Bench) -> Task:
    """A task with secrets in each place."""
    headers = {"Authorization": "Bearer s3cret", "X-Plain": "shown"}
    return one.tasks.add("/fine", {"a": "1", "token": "s3cret"}, headers=headers)


def test_secrets_are_shown_to_nobody(on_file: Open) -> None:
    """Neither on the page nor in its twin, nor in the copy as curl."""
    one = on_file()
    task = secretive(one)
    for path in (
        f"/taskqueue/tasks/{task.id}",
        f"/taskqueue/tasks/{task.id}.json",
        "/taskqueue/tasks",
        "/taskqueue/tasks.json",
    ):
        text = one.app.test_client().get(path).text
        assert "s3cret" not in text
    assert "shown" in one.app.test_client().get(f"/taskqueue/tasks/{task.id}").text


def test_payloads_take_a_permission(on_file: Open) -> None:
    """Without view_payload there is no body, no header, no query and no reply."""
    one = on_file(TASKQUEUE_DASHBOARD_ACCESS=lambda: "read")
    task = one.tasks.add("/hopeless", {"why": "private"}, headers={"X-Private": "private"})
    one.app.add_url_rule("/seen", view_func=lambda: "")
    other = one.tasks.add("/seen", {"who": "private"}, method="GET")
    client = one.app.test_client()
    for path in (
        f"/taskqueue/tasks/{task.id}",
        f"/taskqueue/tasks/{task.id}.json",
        f"/taskqueue/tasks/{other.id}",
        "/taskqueue/tasks",
    ):
        assert "private" not in client.get(path).text, path


def test_a_copy_keeps_its_rate_key(on_file: Open) -> None:
    """Otherwise it would call what the key limits without a token; another queue has other keys."""
    one = on_file(TASKQUEUE_QUEUES={"api": {"rate_per_key": "10/m"}})
    task = one.tasks.add("/fine", queue="api", rate_key="ana")
    client = one.app.test_client()
    assert "<dt>Rate key</dt><dd>ana</dd>" in client.get(f"/taskqueue/tasks/{task.id}").text
    for queue, key in (("api", "ana"), ("default", None)):
        reply = client.post(f"/taskqueue/tasks/{task.id}/copy", data={"queue": queue})
        copy = re.search(r"/tasks/(\w{26})", reply.headers["Location"])
        assert copy is not None
        assert one.tasks.get(copy[1]).rate_key == key


def test_a_copy_is_edited(on_file: Open) -> None:
    """What is hidden keeps its value, the original stays, and the rules of add() hold."""
    one = on_file()
    task = secretive(one)
    client = one.app.test_client()
    page = client.get(f"/taskqueue/tasks/{task.id}").text
    text = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    assert text is not None
    shown = text[1].replace("&amp;", "&").replace("a=1", "a=2")
    reply = client.post(
        f"/taskqueue/tasks/{task.id}/copy",
        data={"url": "/fine", "queue": "mail", "body": shown, "countdown": "10m"},
    )
    assert reply.status_code == 303
    new_id = re.search(r"/tasks/(\w{26})", reply.headers["Location"])
    assert new_id is not None
    store = one.store
    with store.reading() as connection:
        new, old = store.tasks.get(connection, new_id[1]), store.tasks.get(connection, task.id)
    assert bytes(new.body) == b"a=2&token=s3cret"
    assert (new.url, new.queue, new.headers, new.method) == ("/fine", "mail", old.headers, "POST")
    assert new.due_at > old.due_at
    assert (old.state, bytes(old.body)) == ("scheduled", b"a=1&token=s3cret")
    for wrong in (
        {"url": "http://169.254.169.254/"},
        {"queue": "none"},
        {"countdown": "soon"},
        {"url": "/nowhere"},
    ):
        refused = client.post(
            f"/taskqueue/tasks/{task.id}/copy", data={"url": "/fine", "body": shown, **wrong}
        )
        assert refused.status_code in (404, 409), wrong


def test_hidden_values_go_only_where_they_went(on_file: Open) -> None:
    """A copy with another URL or target needs them anew, however they are written; the refusal
    names the fields, and nothing is added.
    """
    one = on_file(
        TASKQUEUE_QUEUES={"mail": {}, "away": {"target": "https://other.example"}},
        TASKQUEUE_TARGETS="public",
    )
    secret = {"Authorization": "Bearer s3cret"}
    task = one.tasks.add("/fine", json={"a": 1, "token": "s3cret"}, headers=secret, countdown=900)
    binary = one.tasks.add("/fine", payload=b"s3cret\xff", countdown=900)
    client = one.app.test_client()
    hidden, given = '{"token":"\u2022\u2022\u2022"}', '{"token":"new"}'
    escaped = '{"token":"\\u2022\\u2022\\u2022"}'
    for target, form, named in (
        (task, {"url": "/broken"}, "the header Authorization, the body"),
        (task, {"url": "/fine?x=1", "header Authorization": "b"}, "the body"),
        (task, {"url": "/broken", "body": escaped, "header Authorization": "b"}, "the body"),
        (task, {"queue": "away", "body": hidden}, "the header Authorization, the body"),
        (task, {"url": "/broken", "body": given}, "the header Authorization"),
        (binary, {"url": "/broken"}, "the body"),
    ):
        reply = client.post(f"/taskqueue/tasks/{target.id}/copy", data=form)
        assert (reply.status_code, f"enter them in {named}" in reply.text) == (409, True), form
    assert len(client.get("/taskqueue/tasks.json").json["tasks"]) == 2
    reply = client.post(
        f"/taskqueue/tasks/{task.id}/copy",
        data={"url": "/broken", "body": given, "header Authorization": ""},
    )
    new_id = re.search(r"/tasks/(\w{26})", reply.headers["Location"])
    assert new_id is not None
    with one.store.reading() as connection:
        new = one.store.tasks.get(connection, new_id[1])
    assert (new.url, bytes(new.body)) == ("/broken", given.encode())
    assert "Authorization" not in (new.headers or "")
