"""Groups of errors with their tasks, and what became of tasks whose process died, on each
database.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import RetryOptions, State, Task
from flask_taskqueue.core.failures import Failure, Signature, group
from flask_taskqueue.engine.maintenance import carry_on
from flask_taskqueue.store import Store
from tests.apps import Bench
from tests.dashboard.conftest import Open


def get(one: Bench, page: str, **arguments: Any) -> Any:
    """The JSON twin of a page."""
    return one.app.test_client().get(f"/taskqueue/{page}.json", query_string=arguments).json


def store_of(one: Bench) -> Store:
    """The store of an application."""
    return one.store


def test_a_task_is_in_the_group_of_its_last_error(opened: Open) -> None:
    """Its attempts count where each belongs, the task itself once: what is dead is the sum of
    the groups, and requeued by one of them.
    """
    one = opened()
    lacking = ["no paper", "no ink"]

    @one.tasks.worker("/prints", retry=RetryOptions(min_backoff_seconds=500, task_retry_limit=1))
    def prints() -> None:
        raise ValueError(lacking.pop(0))

    task = prints.add()
    one.tasks.drain()
    task.run_now()
    assert one.run(task).state == State.DEAD
    groups = {each["error"].rpartition(" ")[2]: each for each in get(one, "errors")["groups"]}
    assert [
        (groups[name]["count"], groups[name]["tasks"], groups[name]["dead"])
        for name in ("paper", "ink")
    ] == [(1, 0, 0), (1, 1, 1)]
    assert groups["paper"]["last_task"] == task.id
    client = one.app.test_client()
    assert (
        client.post(f"/taskqueue/errors/{groups['paper']['id']}/requeue")
        .headers["Location"]
        .endswith("did=requeue&count=0")
    )
    assert one.tasks.get(task.id).state == State.DEAD
    assert (
        client.post(f"/taskqueue/errors/{groups['ink']['id']}/requeue")
        .headers["Location"]
        .endswith("did=requeue&count=1")
    )
    assert one.tasks.get(task.id).state == State.SCHEDULED


@pytest.mark.parametrize("number", [4, 110])
def test_a_group_is_a_list_of_its_tasks(opened: Open, number: int) -> None:
    """Filtered further, page by page, and changed as a whole, in the background too."""
    one = opened(TASKQUEUE_DASHBOARD_PAGE_SIZE=50)
    one.tasks.add_many(
        {"url": "/hopeless", "params": {"why": f"no user {each}"}} for each in range(number)
    )
    other = one.tasks.add("/hopeless", {"why": "disk full"})
    while one.tasks.drain():
        pass
    name = next(each["id"] for each in get(one, "errors")["groups"] if each["dead"] == number)
    page = get(one, "tasks", group=name)
    found = [each["id"] for each in page["tasks"]]
    while page["next"]:
        page = get(one, "tasks", group=name, after=page["next"])
        found += [each["id"] for each in page["tasks"]]
    assert len(found) == len(set(found)) == number
    assert other.id not in found
    assert get(one, "tasks", group=name, state="succeeded")["tasks"] == []
    assert get(one, "tasks", group=name, state="dead", q=found[0])["tasks"][0]["id"] == found[0]
    assert f"group={name}" in one.app.test_client().get("/taskqueue/errors").text
    one.app.test_client().post(
        "/taskqueue/tasks/requeue", data={"scope": "all", "state": "dead", "group": name}
    )
    while carry_on(store_of(one)):
        pass
    assert {one.tasks.get(each).state for each in found} == {State.SCHEDULED}
    assert one.tasks.get(other.id).state == State.DEAD


def test_the_most_frequent_groups_are_shown(opened: Open) -> None:
    """At most 100, with the number of the others, however many there are and however long the
    errors.
    """
    one = opened()
    rare = [
        {
            "url": "/hopeless",
            "params": {"why": f"{chr(97 + number % 26)}{'x' * (number // 26)} " + "word " * 500},
        }
        for number in range(101)
    ]
    one.tasks.add_many([{"url": "/hopeless", "params": {"why": "disk full"}}] * 2)
    one.tasks.drain()
    one.tasks.add_many(rare)
    while one.tasks.drain():
        pass
    page = get(one, "errors")
    assert (len(page["groups"]), page["more"], page["looked_at"]) == (100, 2, 103)
    assert (page["groups"][0]["count"], page["groups"][0]["error"]) == (2, "disk full")
    assert max(len(each["error"]) for each in page["groups"]) <= 1000
    assert "And 2 more causes" in one.app.test_client().get("/taskqueue/errors").text


def test_a_group_that_is_gone_matches_nothing(opened: Open) -> None:
    """The page says so, and nothing is changed."""
    one = opened()
    task = one.tasks.add("/fine", countdown=900)
    page = get(one, "tasks", group="0" * 16)
    assert (page["tasks"], page["problems"]) == ([], ["There is no such group of errors any more."])
    one.app.test_client().post("/taskqueue/tasks/delete", data={"scope": "all", "group": "0" * 16})
    assert one.tasks.get(task.id).state == State.SCHEDULED


def test_hosts_part_groups_and_are_shown() -> None:
    """What varies in a path is masked, the host is not, whether the URL or the target names it;
    user information is left out.
    """
    common = {
        "task_id": "a",
        "number": 1,
        "reason": "connection",
        "status": None,
        "error": "refused",
        "finished_at": 5,
        "queue": "default",
    }
    places = {
        ("http://u:p@10.0.0.7:8080/user/7?x=1", None): "http://10.0.0.7:8080/user/*",
        ("http://10.0.0.8:8080/user/7", None): "http://10.0.0.8:8080/user/*",
        ("/user/7", "https://api2.example.com"): "https://api2.example.com/user/*",
        ("/user/7", None): "/user/*",
    }
    failures = [
        Failure(**{**common, "state": "dead", "url": url, "target": target})
        for url, target in places
    ]
    assert [Signature.of(failure).path for failure in failures] == list(places.values())
    assert len(group(failures)) == len(places)


def test_hosts_that_errors_name_part_groups() -> None:
    """In URLs, as addresses, as libraries tell them; ports that change, paths and all else that
    varies do not.
    """
    common = {
        "task_id": "a",
        "number": 1,
        "reason": "failure",
        "status": 500,
        "finished_at": 5,
        "queue": "default",
        "url": "/w",
        "state": "dead",
    }

    def groups(*errors: str) -> int:
        return len(group(Failure(**{**common, "error": error}) for error in errors))

    for text in (
        "GET 'http://{}/user/{}' failed",
        "HTTPSConnectionPool(host='{}', port={}): refused",
        "no route to ({}, {})",
    ):
        assert groups(text.format("10.0.0.7", 7), text.format("10.0.0.7", 8)) == 1, text
        assert groups(text.format("10.0.0.7", 7), text.format("10.0.0.8", 7)) == 2, text
    assert group([Failure(**{**common, "error": "at https://u:p@api.example.com:8080/x"})])[
        0
    ].signature.hosts == ("api.example.com:8080",)
    assert groups("lost 10.0.0.7:50123", "lost 10.0.0.7:50999") == 1


def leased(one: Bench, since: float) -> Task:
    """A task that a process took, whose lease ran out so many seconds ago."""
    task = one.tasks.add("/fine")
    table, now = store_of(one).database.tables.task, time.time_ns() // 1000
    held = {
        "state": "leased",
        "lease_id": "a" * 32,
        "held_by": "gone",
        "attempts": 1,
        "started_at": now - 90_000_000,
    }
    with store_of(one).database.engine.begin() as connection:
        connection.execute(
            sa.update(table)
            .where(table.c.id == task.id)
            .values(**held, due_at=now - int(since * 1_000_000))
        )
    return task


def test_what_a_dead_process_held_is_lost_and_not_running(opened: Open) -> None:
    """In the list, on its page, in the counts; one whose lease is prolonged beside its row runs."""
    one = opened()
    lost, running, renewed = leased(one, 60), leased(one, -600), leased(one, 60)
    renewals = store_of(one).leases.renewals
    store_of(one).transact(
        lambda connection: renewals.note(connection, [(renewed.id, "a" * 32)], 600)
    )
    assert [each["id"] for each in get(one, "tasks", state="lost")["tasks"]] == [lost.id]
    assert {each["id"] for each in get(one, "tasks", state="running")["tasks"]} == {
        running.id,
        renewed.id,
    }
    assert {each["id"] for each in get(one, "tasks")["tasks"] if each["is_lost"]} == {lost.id}
    assert [get(one, "tasks")["counts"][name] for name in ("running", "lost")] == [2, 1]
    totals = get(one, "overview")["totals"]
    assert (totals["running"], totals["lost"]) == (2, 1)
    client = one.app.test_client()
    assert "its lease ran out" in client.get(f"/taskqueue/tasks/{lost.id}").text
    assert ">lost</span>" in client.get(f"/taskqueue/tasks/{lost.id}").text
    for task in (running, renewed):
        assert ">running</span>" in client.get(f"/taskqueue/tasks/{task.id}").text
    assert ">lost</span>" in client.get("/taskqueue/tasks").text
    assert ">lost<" in client.get("/taskqueue/").text


def test_a_crash_is_told_in_words(opened: Open) -> None:
    """The attempt says that its process died, on the page of the task and on that of errors."""
    one = opened()
    task = leased(one, 60)
    one.tasks.drain()
    assert one.tasks.get(task.id).state == State.SUCCEEDED
    for page in (f"tasks/{task.id}", "errors"):
        text = one.app.test_client().get(f"/taskqueue/{page}").text
        assert "process died" in text
        assert "its lease ran out" in text or "the lease ran out" in text
