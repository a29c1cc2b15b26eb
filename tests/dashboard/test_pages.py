"""Queues, errors, schedules, the machinery; and that nothing stored is ever markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import pytest

from flask_taskqueue import RetryOptions, State
from flask_taskqueue.dashboard.blueprint import PAGES
from tests.apps import Bench, bench
from tests.dashboard.conftest import Open
from tests.dashboard.payloads import MARK, PAYLOADS, poison
from tests.databases import TestDatabase

LISTS = [rule for rule, *_ in PAGES if "<" not in rule]


def twin(one: Bench, page: str) -> Any:
    """A page as JSON."""
    return one.app.test_client().get(f"/taskqueue/{page}.json").get_json()


def test_a_queue_is_changed(on_file: Open) -> None:
    """Limits as its configuration has them, an empty field for no limit; what cannot be used is
    told and changes nothing.
    """
    one = on_file()
    client = one.app.test_client()
    client.post(
        "/taskqueue/queues/default/configure",
        data={"rate": "30/m", "bucket_size": "7", "max_concurrent": "3"},
    )
    found = one.tasks.queue("default").statistics()
    assert (found.rate, found.bucket_size, found.max_concurrent) == (0.5, 7, 3)
    client.post("/taskqueue/queues/default/configure", data={"rate": "", "max_concurrent": " "})
    found = one.tasks.queue("default").statistics()
    assert (found.rate, found.bucket_size, found.max_concurrent) == (None, 7, None)
    client.post(
        "/taskqueue/queues/default/configure",
        data={"rate_per_key": "10/m", "bucket_size_per_key": "2"},
    )
    found = one.tasks.queue("default").statistics()
    assert (found.rate_per_key, found.bucket_size_per_key) == (10 / 60, 2)
    for wrong in (
        {"rate": "fast"},
        {"rate_per_key": "fast"},
        {"bucket_size_per_key": ""},
        {"bucket_size": ""},
        {"bucket_size": "-1"},
        {"max_concurrent": "1e3"},
    ):
        assert client.post("/taskqueue/queues/default/configure", data=wrong).status_code == 409, (
            wrong
        )
    assert client.post("/taskqueue/queues/none/purge").status_code == 404
    assert 'value="7"' in client.get("/taskqueue/queues").text


def test_a_queue_is_purged_and_its_dead_requeued(on_file: Open) -> None:
    """The other queues keep theirs."""
    one = on_file()
    dead = one.tasks.add("/hopeless", queue="mail")
    one.tasks.drain()
    kept = one.tasks.add("/fine")
    client = one.app.test_client()
    assert (
        "Requeued 1 task."
        in client.post("/taskqueue/queues/mail/requeue", follow_redirects=True).text
    )
    assert (
        "Cancelled 1 task."
        in client.post("/taskqueue/queues/mail/purge", follow_redirects=True).text
    )
    assert one.tasks.get(dead.id).state == State.CANCELLED
    assert one.tasks.get(kept.id).state == State.SCHEDULED


def test_a_group_of_errors_is_tried_again(opened: Open) -> None:
    """The dead of the group are scheduled, those that wait are due; other groups are left alone."""
    one = opened()
    dead = [one.tasks.add("/hopeless", {"why": f"no user {number}"}) for number in range(3)]
    other = one.tasks.add("/hopeless", {"why": "disk full"})
    waiting = one.tasks.add("/broken", retry=RetryOptions(min_backoff_seconds=900))
    one.tasks.drain()
    groups = {group["error"][:7]: group for group in twin(one, "errors")["groups"]}
    assert len(groups) == 3
    client = one.app.test_client()
    reply = client.post(
        f"/taskqueue/errors/{groups['no user']['id']}/requeue", data={"back": "/taskqueue/errors"}
    )
    assert reply.headers["Location"] == "/taskqueue/errors?did=requeue&count=3"
    assert {one.tasks.get(task.id).state for task in dead} == {State.SCHEDULED}
    assert one.tasks.get(other.id).state == State.DEAD
    group = next(group for group in groups.values() if group["retrying"])
    client.post(f"/taskqueue/errors/{group['id']}/run")
    before = waiting.due_at
    assert before is not None
    after = one.tasks.get(waiting.id).due_at
    assert after is not None
    assert (after - before).total_seconds() < 60
    assert client.post("/taskqueue/errors/unknown/requeue").status_code == 404


def test_schedules_are_shown_paused_and_run(on_file: Open) -> None:
    """With the next five runs and what became of the last task."""
    one = on_file()
    one.tasks.schedule("nightly", "/fine", "every day 03:00", description="Figures")
    client = one.app.test_client()
    (line,) = twin(one, "cron")["schedules"]
    assert (line["name"], len(line["next_runs"])) == ("nightly", 5)
    client.post("/taskqueue/cron/run", data={"name": "nightly"})
    one.tasks.drain()
    assert twin(one, "cron")["schedules"][0]["last_state"] == "succeeded"
    client.post("/taskqueue/cron/pause", data={"name": "nightly"})
    assert one.tasks.get_schedule("nightly").is_paused
    assert "Resume nightly" in client.get("/taskqueue/cron").text
    client.post("/taskqueue/cron/resume", data={"name": "nightly"})
    assert not one.tasks.get_schedule("nightly").is_paused
    assert client.post("/taskqueue/cron/run", data={"name": "none"}).status_code == 404


@pytest.mark.parametrize("name", ["/fine", "a/../fine", "a//b", "..", "?a#b%2f"])
def test_a_button_acts_on_the_schedule_beside_it(on_file: Open, name: str) -> None:
    """Whatever its name: those of cron.yaml are URLs, and servers and browsers rewrite paths."""
    one = on_file()
    for each in (name, "fine", "a/b"):
        one.tasks.schedule(each, "/fine", "every day 03:00")
    client = one.app.test_client()
    button = f'aria-label="Pause {name}"'
    before = client.get("/taskqueue/cron").text.partition(button)[0]
    form = before.rpartition("<form")[2]
    path = re.search(r'action="([^"]*)"', form)
    assert path is not None
    assert urljoin("http://localhost/taskqueue/cron", path[1]) == f"http://localhost{path[1]}"
    data = dict(re.findall(r'name="([^"]*)" value="([^"]*)"', form))
    assert client.post(path[1], data=data).status_code == 303
    paused = [line["name"] for line in twin(one, "cron")["schedules"] if line["paused_at"]]
    assert paused == [name]


def test_schedules_are_added_changed_and_deleted(on_file: Open) -> None:
    """Beside those that code declares, which are left alone; a mistake changes nothing."""
    one = on_file()
    one.tasks.schedule("nightly", "/fine", "every day 03:00")
    client = one.app.test_client()
    assert "Delete nightly" not in client.get("/taskqueue/cron").text
    form = {"name": "hot", "schedule": "every 10 seconds", "url": "/fine", "json": '{"a": 1}'}
    assert client.post("/taskqueue/cron/add", data=form).status_code == 303
    assert "Delete hot" in client.get("/taskqueue/cron").text
    when = {"schedule": "0 4 * * *", "timezone": "Europe/Berlin"}
    client.post("/taskqueue/cron/change", data={"name": "hot", **when})
    hot = one.tasks.get_schedule("hot")
    assert (hot.text, hot.timezone, hot.added_at is None) == (*when.values(), False)
    for path, data, words in (
        ("add", form, "there is a schedule named"),
        ("add", form | {"name": "nightly"}, "is declared in the code"),
        ("add", form | {"name": "cold", "json": "{"}, "the JSON body cannot be read"),
        ("add", form | {"name": "cold", "url": " "}, "the schedule has no URL"),
        ("add", form | {"name": "cold", "schedule": "at times"}, "at times"),
        ("change", when | {"name": "nightly"}, "is declared in the code"),
        ("delete", {"name": "nightly"}, "is declared in the code"),
    ):
        refused = client.post(f"/taskqueue/cron/{path}", data=data)
        assert (400 <= refused.status_code < 500, words in refused.text) == (True, True), path
    client.post("/taskqueue/cron/delete", data={"name": "hot"})
    assert [line["name"] for line in twin(one, "cron")["schedules"]] == ["nightly"]
    done = [entry["action"] for entry in twin(one, "system")["audit"]]
    assert done == ["delete-cron", "change-cron", "add-cron"]


def test_queues_are_added_changed_and_deleted(on_file: Open) -> None:
    """Beside the configured ones, which are left alone; a mistake changes nothing."""
    one = on_file()
    client = one.app.test_client()
    assert "Delete default" not in client.get("/taskqueue/queues").text
    form = {"name": "tours", "rate": "5/s", "retry": '{"task_retry_limit": 3}', "deadline": ""}
    assert client.post("/taskqueue/queues/add", data=form).status_code == 303
    assert "Delete tours" in client.get("/taskqueue/queues").text
    change = {"priority": "2", "deadline": "5m", "retry": "", "target": ""}
    assert client.post("/taskqueue/queues/tours/change", data=change).status_code == 303
    tours = one.tasks.queue("tours").settings
    assert (tours.rate, tours.priority, tours.deadline, tours.retry) == (5.0, 2, 300.0, None)
    for path, data, words in (
        ("add", form, "there is a queue &#39;tours&#39; already"),
        ("add", form | {"name": "default"}, "which is configured"),
        ("add", form | {"name": "cold", "retry": "{"}, "retry cannot be read as JSON"),
        ("add", form | {"name": "cold", "rate": "many"}, "many"),
        ("default/change", change, "is configured"),
        ("default/delete", {}, "is configured"),
    ):
        refused = client.post(f"/taskqueue/queues/{path}", data=data)
        assert (400 <= refused.status_code < 500, words in refused.text) == (True, True), path
    assert client.post("/taskqueue/queues/tours/delete").status_code == 303
    assert list(twin(one, "queues")["added"]) == []
    done = [entry["action"] for entry in twin(one, "system")["audit"]]
    assert done == ["delete-queue", "change-queue", "add-queue"]


def test_the_doctor_looks_when_asked(on_file: Open) -> None:
    """Not at every refresh, for it calls the worker routes."""
    one = on_file()
    assert twin(one, "system")["findings"] is None
    found = one.app.test_client().get("/taskqueue/system.json?doctor=1").get_json()["findings"]
    assert {"level", "text", "remedy"} <= set(found[0])
    assert found[0]["text"] in one.app.test_client().get("/taskqueue/system?doctor=1").text.replace(
        "&#39;", "'"
    ).replace("&#34;", '"')


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, attrs))


def check(page: str) -> None:
    """Nothing of a payload is an element, an attribute or a link that runs."""
    parser = Elements()
    parser.feed(page)
    allowed = {tag for tag, _ in parser.seen}
    assert not allowed & {
        "img",
        "iframe",
        "style",
        "video",
        "audio",
        "object",
        "embed",
        "base",
        "marquee",
        "math",
        "template",
        "animate",
    }
    scripts = [
        dict(attributes).get("src") or "" for tag, attributes in parser.seen if tag == "script"
    ]
    assert [script.partition("?")[0] for script in scripts] == ["/taskqueue/static/dashboard.js"]
    for tag, attributes in parser.seen:
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            assert name not in ("href", "src", "action", "formaction") or (value or "").startswith(
                ("/taskqueue/", "#")
            ), (tag, name, value)


@pytest.fixture
def poisoned(on_file: Open) -> tuple[Bench, list[str]]:
    """An application every field of whose tables is a payload."""
    one = on_file()
    one.tasks.add("/fine")
    return one, poison(one.store)


def test_nothing_stored_is_markup(poisoned: tuple[Bench, list[str]]) -> None:
    """Forty payloads in every field of every table, on every page."""
    one, ids = poisoned
    assert len(set(PAYLOADS)) == len(ids) == 40
    client = one.app.test_client()
    paths = [f"/taskqueue{rule}" for rule in LISTS] + [
        f"/taskqueue/tasks/{one_id}" for one_id in ids
    ]
    for path in [*paths, "/taskqueue/tasks?state=dead"]:
        reply = client.get(path)
        assert reply.status_code == 200, (path, reply.text)
        check(reply.text)
    assert MARK in client.get("/taskqueue/tasks").text


@pytest.mark.slow
def test_nothing_asked_is_markup(on_file: Open) -> None:
    """Forty payloads in every argument at once, and in the path of an action."""
    client = on_file().app.test_client()
    fields = (
        "state",
        "queue",
        "url",
        "status",
        "attempts",
        "since",
        "q",
        "after",
        "did",
        "count",
        "doctor",
        "scope",
    )
    for payload in PAYLOADS:
        check(client.get("/taskqueue/tasks", query_string=dict.fromkeys(fields, payload)).text)
    refused = client.post("/taskqueue/queues/%3Cscript%3E/pause")
    assert "<script>" not in refused.text


@pytest.mark.parametrize(
    "path",
    ["", "queues", "tasks?state=dead&queue=mail", f"tasks/{26 * '0'}", "errors", "cron", "system"],
)
def test_without_its_database_every_page_says_so(sqlite_database: TestDatabase, path: str) -> None:
    """In words, with a link to try again; 503 for programs too, and nothing of hosts or users."""
    away = "postgresql+psycopg://somebody@127.0.0.1:1/none"
    config: dict[str, Any] = {
        "TASKQUEUE_DATABASE_URI": away,
        "TASKQUEUE_DASHBOARD": True,
        "TASKQUEUE_DASHBOARD_ACCESS": lambda: True,
    }
    with bench(sqlite_database.url, **config) as one:
        client = one.app.test_client()
        reply = client.get(f"/taskqueue/{path}", base_url="http://localhost/mounted")
        assert reply.status_code == 503
        assert "the database cannot be reached: OperationalError." in reply.text
        assert f'href="/mounted/taskqueue/{path.replace("&", "&amp;")}">Try again</a>' in reply.text
        assert "somebody" not in reply.text
        twin = client.get(f"/taskqueue/{path}", headers={"Accept": "application/json"})
        assert (twin.status_code, sorted(twin.get_json())) == (503, ["error", "name"])
        assert client.post("/taskqueue/queues/default/pause").status_code == 503


def test_a_form_leads_back_where_the_application_is_mounted(opened: Open) -> None:
    """Below a prefix too, which a server or a proxy names."""
    client = opened().app.test_client()
    page = client.get("/taskqueue/queues", base_url="http://localhost/mounted").text
    assert 'name="back" value="/mounted/taskqueue/queues"' in page
    data = {"back": "/mounted/taskqueue/queues"}
    reply = client.post(
        "/taskqueue/queues/default/pause", base_url="http://localhost/mounted", data=data
    )
    assert reply.headers["Location"] == "/mounted/taskqueue/queues?did=pause&count=1"
