"""CloudEvents as tasks: sent to others, and handled here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent as Theirs
from flask import Response
from standardwebhooks import Webhook

from flask_taskqueue import CloudEvent, InvalidTaskError, State, TaskSpec
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.receivers import Receiver, receiver

EVENT = {"type": "com.example.order.placed", "source": "/shop"}
SECRET = "whsec_YSBzZWNyZXQgb2YgMjQgYnl0ZXMgb3I="


@pytest.fixture
def host() -> Iterator[Receiver]:
    """Somebody who receives events."""
    with receiver() as one:
        yield one


@pytest.fixture
def shop(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application whose tasks may go there."""
    with bench(sqlite_database.url, TASKQUEUE_ALLOWED_HOSTS=["127.0.0.1"]) as one:
        yield one


def read(got: tuple[dict[str, str], bytes]) -> Any:
    """What the official SDK makes of a request."""
    return http.from_http_event(http.HTTPMessage(*got))


def test_a_task_can_be_an_event(shop: Bench, host: Receiver) -> None:
    """In binary mode: the id is the task's and stays when it is attempted again, the time is when
    it was added; and it is signed like any webhook.
    """
    replies = [Response(status=500), Response(status=204)]
    host.answer = lambda: replies.pop(0)
    task = shop.tasks.add(
        f"{host.url}/hook",
        json={"order": 7},
        event={**EVENT, "subject": "é", "shop": 3},
        retry={"min_backoff_seconds": 0, "max_backoff_seconds": 0},
    )
    shop.tasks.drain()
    first, second = map(read, host.got)
    for event in (first, second):
        assert event.get_id() == task.id
        assert event.get_type() == EVENT["type"]
        assert event.get_source() == "/shop"
        assert event.get_subject() == "é"
        assert event.get_extension("shop") == "3"
        assert event.get_data() == {"order": 7}
        assert event.get_time() == task.created_at
    headers, body = host.latest
    assert Webhook(shop.tasks.webhook_secret(host.host)).verify(body, headers) == {"order": 7}


def test_each_task_of_a_list_or_a_schedule_has_an_id_of_its_own(
    shop: Bench, host: Receiver
) -> None:
    """And so has a task that follows another."""
    spec = TaskSpec(f"{host.url}/hook", json={}, event=EVENT)
    shop.tasks.schedule("hourly", f"{host.url}/hook", "every 1 hours", json={}, event=EVENT)
    shop.tasks.queue("default").add([spec, spec])
    shop.tasks.add(f"{host.url}/hook", then=spec)
    shop.tasks.drain()
    shop.tasks.get_schedule("hourly").run_now()
    shop.tasks.drain()
    events = [read(got) for got in host.got if "ce-id" in got[0]]
    assert len({event.get_id() for event in events}) == len(events) == 4
    assert {event.get_id() for event in events} <= {task.id for task in shop.tasks.find()}


def test_a_handler_gets_the_event(shop: Bench) -> None:
    """Of a task of ours, and in structured mode; with the variables of its URL."""
    seen: list[Any] = []

    @shop.tasks.worker("/events/<int:number>")
    def handle(event: CloudEvent, number: int) -> None:
        seen.append((number, event))

    at = datetime(2026, 11, 30, tzinfo=UTC)
    task = shop.tasks.add(handle, {"number": 1}, event={**EVENT, "time": at}, json={"order": 7})
    shop.tasks.drain()
    theirs = Theirs({**EVENT, "id": "a", "color": "red"}, {"order": 8})
    message = http.to_structured_event(theirs)
    shop.tasks.add("/events/2", payload=message.body, headers=message.headers)
    shop.tasks.drain()
    (one, first), (two, second) = seen
    assert (one, two) == (1, 2)
    assert first == CloudEvent(
        id=task.id,
        source="/shop",
        type="com.example.order.placed",
        time=at,
        datacontenttype="application/json",
        data={"order": 7},
    )
    assert (second.id, second.data, second.extensions) == ("a", {"order": 8}, {"color": "red"})


@pytest.mark.parametrize("structured", [False, True])
def test_a_webhook_brings_an_event(shop: Bench, structured: bool) -> None:
    """In either mode, verified, with the sender's id."""
    seen: list[CloudEvent] = []

    @shop.tasks.webhook("/hooks/events", secret=SECRET)
    def handle(event: CloudEvent) -> None:
        seen.append(event)

    theirs = Theirs({**EVENT, "id": "theirs", "datacontenttype": "application/json"}, {"n": 1})
    make = http.to_structured_event if structured else http.to_binary_event
    message, now = make(theirs), datetime.now(UTC)
    signed = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, message.body.decode()),
    }
    reply = shop.app.test_client().post(
        "/hooks/events", data=message.body, headers={**message.headers, **signed}
    )
    assert reply.status_code == 202
    shop.tasks.drain()
    assert [(event.id, event.data, event.time) for event in seen] == [
        ("theirs", {"n": 1}, theirs.get_time())
    ]


def test_a_task_that_is_no_event_does_not_fit(shop: Bench) -> None:
    """As with a missing parameter: another release may know what to do with it."""

    @shop.tasks.worker("/events")
    def handle(event: CloudEvent) -> None: ...

    with TaskQueueTester(shop.app) as taskqueue:
        task = shop.tasks.add("/events", json={"order": 7})
        taskqueue.run(task)
        found = shop.tasks.get(task.id)
        assert (found.state, found.last_status) == (State.SCHEDULED, 422)
        assert "'id' is missing" in str(found.last_error)


def test_what_an_event_cannot_be_is_refused(shop: Bench) -> None:
    """When the handler is declared, and when the task is added."""
    with pytest.raises(TypeError, match=r"event\.data"):

        @shop.tasks.worker("/both")
        def both(event: CloudEvent, order: int) -> None: ...

    @shop.tasks.worker("/events")
    def handle(event: CloudEvent) -> None: ...

    shop.app.add_url_rule("/", "home", lambda: "")
    mine = CloudEvent(id="1", source="/s", type="t")
    for add in (handle.add, handle.options(countdown=1).add):
        with pytest.raises(InvalidTaskError, match=r"tasks\.add\("):
            add(mine)
    with pytest.raises(InvalidTaskError, match="needs 'source'"):
        shop.tasks.add("/events", json={}, event={"type": "t"})
    with pytest.raises(InvalidTaskError, match="has no body"):
        shop.tasks.add("/", event=EVENT, method="GET")
    assert shop.tasks.find() == []
