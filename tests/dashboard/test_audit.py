"""An action and its entry in the audit log are one transaction, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Response

from flask_taskqueue import RetryOptions, State
from flask_taskqueue.core.signals import task_deleted
from flask_taskqueue.dashboard.blueprint import ACTIONS
from tests.apps import Bench
from tests.circuits import open_circuit
from tests.dashboard.conftest import Open

SLOW = RetryOptions(min_backoff_seconds=500)
KEPT = {"PROPAGATE_EXCEPTIONS": False, "TASKQUEUE_CREATE_TABLES": False}
"""An error is a reply, and what is missing of the tables stays missing."""


@contextmanager
def unwritable(one: Bench) -> Iterator[None]:
    """An audit log that nothing can be written to."""
    table = one.store.database.tables.audit.name
    with one.db.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME COLUMN who TO whom")
    yield
    with one.db.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME COLUMN whom TO who")


def rows(one: Bench) -> list[list[Any]]:
    """All that actions change."""
    tables = one.store.database.tables
    with one.db.engine.connect() as connection:
        return [
            sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in (
                tables.task,
                tables.queue,
                tables.schedule,
                tables.bulk,
                tables.slowdown,
            )
        ]


def logged(one: Bench) -> list[tuple[str | None, str, str, int]]:
    """Who did what to what, and how much it changed, the first in front."""
    store = one.store
    with store.reading() as connection:
        return [
            (row.who, row.action, row.subject, row.changed)
            for row in reversed(store.audit.latest(connection, 100))
        ]


def shop(one: Bench) -> dict[str, Any]:
    """Something that each action can change: its values and its form."""
    one.tasks.schedule("nightly", "/fine", "every day 03:00")
    dead = [one.tasks.add("/hopeless", {"why": why}).id for why in ("no ink", "no hope", "no time")]
    one.tasks.add("/hopeless", {"why": "no stamp"}, queue="mail")
    one.tasks.add("/broken", retry=SLOW)
    one.tasks.drain()
    later = [one.tasks.add("/fine", countdown=900).id for _ in range(5)]
    one.tasks.add("/fine", countdown=900, queue="mail")
    groups = one.app.test_client().get("/taskqueue/errors.json").json["groups"]
    group = {each["error"]: each["id"] for each in groups}
    one.app.test_client().get("/taskqueue/cron")
    one.tasks.add_queue("tours")
    one.tasks.add("/fine", countdown=900, queue="tours")
    open_circuit(one.store, "a.example:443")
    return {
        "close_circuit": ({"target": "a.example:443"}, {}),
        "add_queue": ({}, {"name": "trips", "rate": "5/s"}),
        "change_queue": ({"queue": "tours"}, {"deadline": "2m"}),
        "delete_queue": ({"queue": "tours"}, {}),
        "requeue_dead": ({"queue": "mail"}, {}),
        "purge_queue": ({"queue": "mail"}, {}),
        "configure_queue": ({"queue": "mail"}, {"rate": "7/m"}),
        "requeue_group": ({"group": group["no ink"]}, {}),
        "run_group": ({"group": next(each["id"] for each in groups if each["retrying"])}, {}),
        "requeue_tasks": ({}, {"id": [dead[1]]}),
        "run_tasks": ({}, {"id": later[:1]}),
        "delete_tasks": ({}, {"id": later[1:2]}),
        "requeue_task": ({"task_id": dead[2]}, {}),
        "run_task": ({"task_id": later[2]}, {}),
        "delete_task": ({"task_id": later[3]}, {}),
        "copy_task": ({"task_id": later[4]}, {"countdown": "10m"}),
        "add_cron": ({}, {"name": "hot", "schedule": "@daily", "url": "/fine"}),
        "change_cron": ({}, {"name": "hot", "schedule": "@weekly"}),
        "delete_cron": ({}, {"name": "hot"}),
    }


@pytest.mark.slow
def test_no_action_without_its_entry(opened: Open) -> None:
    """Where the audit log cannot be written nothing is changed; where it can be, each action is
    there once, with its user.
    """
    one = opened(TASKQUEUE_DASHBOARD_USER=lambda: "ana", **KEPT)
    client, forms = one.app.test_client(), shop(one)
    for number, (_, endpoint, _, _) in enumerate(ACTIONS):
        given, form = forms.get(
            endpoint,
            ({"queue": "default"}, {}) if "queue" in endpoint else ({}, {"name": "nightly"}),
        )
        with one.app.test_request_context():
            place = one.app.url_for(f"taskqueue_dashboard.{endpoint}", **given)
        before = rows(one)
        with unwritable(one):
            assert client.post(place, data=form).status_code >= 500, endpoint
            assert rows(one) == before, endpoint
        assert client.post(place, data=form).status_code == 303, endpoint
        assert rows(one) != before, endpoint
        who, _, _, changed = logged(one)[-1]
        assert (len(logged(one)), who, changed) == (number + 1, "ana", 1), endpoint


def test_what_a_dispatcher_carries_out_is_ordered_with_its_entry(opened: Open) -> None:
    """The order and its entry commit together; without the entry nothing is ordered."""
    one = opened(**KEPT)
    one.tasks.add_many({"url": "/fine", "countdown": 900} for _ in range(101))
    client, form = one.app.test_client(), {"scope": "all", "state": "scheduled"}
    before = rows(one)
    with unwritable(one):
        assert client.post("/taskqueue/tasks/delete", data=form).status_code >= 500
        assert rows(one) == before
    client.post("/taskqueue/tasks/delete", data=form)
    assert [len(some) for some in rows(one)][3] == 1
    assert logged(one) == [(None, "bulk-delete", "scheduled tasks", 0)]


def test_an_action_in_several_transactions_is_one_entry(opened: Open) -> None:
    """It says how much was changed in all."""
    one = opened()
    one.tasks.add_many({"url": "/fine", "countdown": 900} for _ in range(1001))
    one.app.test_client().post("/taskqueue/queues/default/purge")
    assert logged(one) == [(None, "purge", "default", 1001)]


def test_what_changes_nothing_is_logged_too(opened: Open) -> None:
    """A selection of nothing, a filter that cannot be used, a queue that is open already."""
    one = opened()
    client = one.app.test_client()
    client.post("/taskqueue/tasks/delete", data={})
    client.post("/taskqueue/tasks/delete", data={"scope": "all", "status": "9xx"})
    client.post("/taskqueue/queues/default/resume")
    assert [(action, changed) for _, action, _, changed in logged(one)] == [
        ("delete", 0),
        ("delete", 0),
        ("resume", 0),
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_an_action_that_joins_the_session_shares_its_end(opened: Open, fails: bool) -> None:
    """Where a hook of the app has changes of its own, action and entry are committed with them,
    or none of all three.
    """
    one = opened(**KEPT)
    task = one.tasks.add("/fine", countdown=900)

    @one.app.before_request
    def count() -> None:
        one.db.session.get(one.Counter, 1).count += 1

    @one.app.after_request
    def commit(response: Response) -> Response:
        one.db.session.commit()
        return response

    def act() -> int:
        return one.app.test_client().post(f"/taskqueue/tasks/{task.id}/delete").status_code

    if fails:
        with unwritable(one):
            assert act() >= 500
    else:
        assert act() == 303
    one.db.session.rollback()
    assert one.tasks.get(task.id).state == (State.SCHEDULED if fails else State.CANCELLED)
    assert (one.count(), len(logged(one))) == ((0, 0) if fails else (1, 1))


def test_what_a_receiver_changes_is_not_counted(opened: Open) -> None:
    """A task that a signal's receiver adds is no part of the action."""
    one = opened()
    task = one.tasks.add("/fine", countdown=900)

    def again(app: Any, **_: Any) -> None:
        one.tasks.add("/fine", countdown=900)

    with task_deleted.connected_to(again):
        one.app.test_client().post(f"/taskqueue/tasks/{task.id}/delete")
    assert logged(one) == [(None, "delete", task.id, 1)]


def test_any_user_and_any_address_can_be_logged(opened: Open) -> None:
    """What a database would refuse in a text is replaced, so that nobody is kept from acting,
    or acts unseen.
    """
    one = opened(TASKQUEUE_DASHBOARD_USER=lambda: "ana\0\ud800\x1b" + "z" * 200)
    for address in ("\x00", "\xe9" * 99, "unix:"):
        reply = one.app.test_client().post(
            "/taskqueue/queues/default/pause", environ_base={"REMOTE_ADDR": address}
        )
        assert reply.status_code == 303
    assert {who for who, *_ in logged(one)} == {"ana???" + "z" * 94}
    assert one.tasks.queue("default").statistics().paused_by == "ana???" + "z" * 94
