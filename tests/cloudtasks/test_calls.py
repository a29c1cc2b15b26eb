"""Every rpc that works here, by Google's own client, through each of the doors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.tasks_v2 import HttpMethod, Queue, Task
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from flask_taskqueue import State
from tests.cloudtasks.doors import BASE, MAIL, PARENT, QUEUE, Door

EVERY_BYTE = bytes(range(256))
FULL = Task.View.FULL


def at(instant: datetime) -> Timestamp:
    """An instant as protobuf has it."""
    found = Timestamp()
    found.FromDatetime(instant)
    return found


def test_a_task_is_created_as_it_is_described(google: Door) -> None:
    """And read back the same, its body in the full view only."""
    later = datetime.now(UTC).replace(microsecond=250_000) + timedelta(hours=5)
    created = google.client.create_task(
        parent=QUEUE,
        task=Task(
            name=f"{QUEUE}/tasks/one_-1",
            http_request={
                "url": f"{BASE}/worker?a=1&b=%2F",
                "http_method": HttpMethod.PUT,
                "headers": {"X-Kept": "é", "Content-Type": "text/csv"},
                "body": EVERY_BYTE,
            },
            schedule_time=at(later),
            dispatch_deadline=Duration(seconds=90, nanos=500_000_000),
        ),
    )
    assert created.name == f"{QUEUE}/tasks/one_-1"
    assert created.http_request.body == b""
    assert created.view == Task.View.BASIC
    read = google.client.get_task(request={"name": created.name, "response_view": FULL})
    assert read.view == FULL
    assert read.http_request.body == EVERY_BYTE
    assert read.http_request.url == f"{BASE}/worker?a=1&b=%2F"
    assert read.http_request.http_method == HttpMethod.PUT
    assert dict(read.http_request.headers) == {"X-Kept": "é", "Content-Type": "text/csv"}
    assert read.schedule_time == later
    assert read.dispatch_deadline == timedelta(seconds=90.5)
    assert read.dispatch_count == read.response_count == 0
    assert not read.first_attempt
    stored = google.bench.tasks.queue("default").get("one_-1")
    assert stored is not None
    assert (stored.url, stored.method) == ("/worker?a=1&b=%2F", "PUT")


def test_a_task_without_a_name_is_known_by_its_id(google: Door) -> None:
    """It gets one, as Cloud Tasks gives one."""
    created = google.add()
    task_id = created.name.rpartition("/")[2]
    assert google.bench.tasks.get(task_id).state is State.SCHEDULED
    assert google.client.get_task(name=created.name) == created
    assert created.http_request.http_method == HttpMethod.POST
    assert created.dispatch_deadline == timedelta(minutes=10)
    google.client.delete_task(name=created.name)
    assert google.bench.tasks.get(task_id).state is State.CANCELLED


def test_an_app_engine_task_goes_to_a_path(google: Door) -> None:
    """An empty one is the root, a body has a type, and the kind comes back."""
    google.bench.app.add_url_rule("/", "root", lambda: "", methods=["POST"])
    created = google.client.create_task(
        request={
            "parent": QUEUE,
            "task": {"app_engine_http_request": {"body": b"x"}},
            "response_view": FULL,
        }
    )
    asked = created.app_engine_http_request
    assert (asked.relative_uri, asked.body) == ("/", b"x")
    assert dict(asked.headers) == {"Content-Type": "application/octet-stream"}
    assert not created.http_request.url


def test_a_task_for_another_host_keeps_its_url(google: Door) -> None:
    """If the host is allowed; otherwise it is refused, with what to do."""
    url = "https://api.example.com/hook?x=1"
    created = google.client.create_task(parent=QUEUE, task={"http_request": {"url": url}})
    assert google.client.get_task(name=created.name).http_request.url == url
    with pytest.raises(exceptions.BadRequest, match="TASKQUEUE_ALLOWED_HOSTS"):
        google.client.create_task(
            parent=QUEUE, task={"http_request": {"url": "https://evil.example.com/"}}
        )


def test_a_name_is_taken_once_and_stays_taken(google: Door) -> None:
    """While its task lives, and afterwards, with the texts of Cloud Tasks."""
    taken = exceptions.Conflict if google.name == "rest" else exceptions.AlreadyExists
    name = f"{QUEUE}/tasks/once"
    google.add(name=name)
    with pytest.raises(taken, match="Requested entity already exists"):
        google.add(name=name)
    google.client.delete_task(name=name)
    with pytest.raises(taken, match="a task with this name existed recently"):
        google.add(name=name)
    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        google.client.get_task(name=name)
    with pytest.raises(exceptions.NotFound):
        google.client.delete_task(name=name)
    with pytest.raises(exceptions.NotFound):
        google.client.run_task(name=name)


def test_a_task_that_has_ended_does_not_exist(google: Door) -> None:
    """Only live tasks are listed and found."""
    done, later = google.add(), google.add(schedule_time=at(datetime.now(UTC) + timedelta(hours=1)))
    google.bench.tasks.drain()
    with pytest.raises(exceptions.NotFound):
        google.client.get_task(name=done.name)
    assert [task.name for task in google.client.list_tasks(parent=QUEUE)] == [later.name]


def test_a_failed_attempt_is_shown(google: Door) -> None:
    """How many there were, when, and how the last one ended."""
    google.bench.app.add_url_rule("/broken", "broken", lambda: ("no", 503), methods=["POST"])
    created = google.add("/broken", retry_config={"min_backoff": Duration(seconds=50)})
    google.bench.tasks.drain()
    found = google.client.get_task(name=created.name)
    assert (found.dispatch_count, found.response_count) == (1, 1)
    assert found.first_attempt.dispatch_time == found.last_attempt.dispatch_time
    assert found.last_attempt.response_time >= found.last_attempt.dispatch_time
    assert found.last_attempt.response_status.code == 14
    assert found.last_attempt.response_status.message == "UNAVAILABLE(14): HTTP status code 503"
    assert found.schedule_time > found.last_attempt.response_time
    (listed,) = google.client.list_tasks(parent=QUEUE)
    assert listed == found


def test_a_tasks_retry_config_replaces_its_queues(google: Door) -> None:
    """With Cloud Tasks' defaults for what it leaves out."""
    created = google.add(
        retry_config={"max_attempts": 5, "max_retry_duration": Duration(seconds=60)}
    )
    assert created.retry_config.max_attempts == 5
    assert created.retry_config.max_retry_duration == timedelta(minutes=1)
    assert created.retry_config.min_backoff == timedelta(seconds=0.1)
    assert created.retry_config.max_doublings == 16
    for_ever = google.add(retry_config={"max_attempts": -1})
    assert for_ever.retry_config.max_attempts == -1
    assert not google.add().retry_config


def test_tasks_are_listed_page_by_page(google: Door) -> None:
    """Each once, the oldest first, also one to a page."""
    names = [google.add().name for _ in range(5)]
    google.add(queue=MAIL)
    for size in (1, 2, 5, 1000):
        pages = google.client.list_tasks(request={"parent": QUEUE, "page_size": size})
        assert [task.name for task in pages] == names
    assert [len(page.tasks) for page in pages.pages] in ([5], [])
    first = google.client.list_tasks(request={"parent": QUEUE, "page_size": 2})
    assert len(next(first.pages).tasks) == 2
    assert list(google.client.list_tasks(parent=f"{PARENT}/queues/empty")) == []
    for bad in ({"page_size": -1}, {"page_token": "!"}, {"page_token": "YWJj"}):
        with pytest.raises(exceptions.BadRequest):
            google.client.list_tasks(request={"parent": QUEUE, **bad})


def test_a_task_can_be_run_now(google: Door) -> None:
    """It is due at once then."""
    created = google.add(schedule_time=at(datetime.now(UTC) + timedelta(hours=1)))
    google.client.run_task(request={"name": created.name, "response_view": FULL})
    google.bench.tasks.drain()
    task = google.bench.tasks.get(created.name.rpartition("/")[2])
    assert task.state is State.SUCCEEDED


def test_a_task_is_run_although_its_queue_is_paused(google: Door) -> None:
    """As by Cloud Tasks; the others of its queue wait."""
    google.client.pause_queue(name=MAIL)
    waiting, run = google.add(queue=MAIL), google.add(queue=MAIL)
    assert google.client.run_task(name=run.name).schedule_time < datetime.now(UTC)
    google.bench.tasks.drain()
    assert [task.name for task in google.client.list_tasks(parent=MAIL)] == [waiting.name]
    done = google.bench.tasks.get(run.name.rpartition("/")[2])
    assert done.state is State.SUCCEEDED


def test_a_batch_adds_each_task_by_itself(google: Door) -> None:
    """Those that can be added are; the operation says which could not, and why."""
    name = f"{QUEUE}/tasks/taken"
    google.add(name=name)
    request = {"parent": QUEUE, "task": {"http_request": {"url": f"{BASE}/worker"}}}
    named = {**request, "task": {**request["task"], "name": name}}  # type: ignore[dict-item]
    foreign = {**request, "parent": MAIL}
    operation = google.client.batch_create_tasks(
        request={"parent": QUEUE, "requests": [request, named, request, foreign]}
    )
    assert operation.done()
    assert len(operation.result().tasks) == 2
    failed = operation.metadata.failed_requests
    assert {number: status.code for number, status in failed.items()} == {1: 6, 3: 3}
    names = [task.name for task in google.client.list_tasks(parent=QUEUE)]
    assert len(names) == 3
    deleted = google.client.batch_delete_tasks(
        request={"parent": QUEUE, "names": [*names, f"{QUEUE}/tasks/none"]}
    )
    assert deleted.done()
    assert [*deleted.metadata.failed_requests] == [3]
    assert list(google.client.list_tasks(parent=QUEUE)) == []


def test_a_batch_of_which_nothing_succeeds_has_failed(google: Door) -> None:
    """And one of nothing, or of too many, is refused."""
    operation = google.client.batch_delete_tasks(
        request={"parent": QUEUE, "names": [f"{QUEUE}/tasks/none", f"{MAIL}/tasks/none"]}
    )
    assert operation.operation.error.code == 10
    codes = {number: request.code for number, request in operation.metadata.failed_requests.items()}
    assert codes == {0: 5, 1: 3}
    for names in ([], [f"{QUEUE}/tasks/none"] * 1001):
        with pytest.raises(exceptions.BadRequest):
            google.client.batch_delete_tasks(request={"parent": QUEUE, "names": names})


def test_a_queue_is_shown_with_its_limits(google: Door) -> None:
    """Those of its configuration, or Cloud Tasks' own for none."""
    mail = google.client.get_queue(name=MAIL)
    assert mail.name == MAIL
    assert mail.state == Queue.State.RUNNING
    assert mail.rate_limits.max_dispatches_per_second == 20
    assert mail.rate_limits.max_concurrent_dispatches == 3
    assert mail.retry_config.max_attempts == -1
    default = google.client.get_queue(name=QUEUE)
    assert default.rate_limits.max_dispatches_per_second == 500
    assert default.rate_limits.max_concurrent_dispatches == 1000


def test_queues_are_listed_page_by_page(google: Door) -> None:
    """By name, with a filter too."""
    names = [f"{PARENT}/queues/{name}" for name in ("default", "empty", "mail")]
    for size in (1, 2, 100):
        pages = google.client.list_queues(request={"parent": PARENT, "page_size": size})
        assert [queue.name for queue in pages] == names
    google.client.pause_queue(name=MAIL)
    for text, found in {
        "state: PAUSED": names[2:],
        "state=RUNNING": names[:2],
        "state != PAUSED": names[:2],
        "rateLimits.maxConcurrentDispatches <= 3": names[2:],
        "rate_limits.max_concurrent_dispatches > 3": names[:2],
        "nothing: here": [],
    }.items():
        pages = google.client.list_queues(request={"parent": PARENT, "filter": text})
        assert [queue.name for queue in pages] == found, text
    for bad in ("state: PAUSED AND name: x", "state < RUNNING", "="):
        with pytest.raises(exceptions.BadRequest, match="filter"):
            google.client.list_queues(request={"parent": PARENT, "filter": bad})


def test_a_queue_is_paused_resumed_and_purged(google: Door) -> None:
    """As by the queue's own methods."""
    google.add()
    assert google.client.pause_queue(name=QUEUE).state == Queue.State.PAUSED
    assert google.bench.tasks.queue("default").statistics().paused_at is not None
    assert google.client.get_queue(name=QUEUE).state == Queue.State.PAUSED
    assert google.client.resume_queue(name=QUEUE).state == Queue.State.RUNNING
    assert google.client.get_queue(name=QUEUE).state == Queue.State.RUNNING
    assert not google.client.get_queue(name=QUEUE).purge_time
    (added,) = google.client.list_tasks(parent=QUEUE)
    purged = google.client.purge_queue(name=QUEUE).purge_time
    assert list(google.client.list_tasks(parent=QUEUE)) == []
    assert purged >= added.create_time
    assert google.client.get_queue(name=QUEUE).purge_time == purged


@pytest.mark.parametrize(
    "mask",
    ["rate_limits", "rate_limits.max_dispatches_per_second", "rate_limits,retry_config", None],
)
def test_the_limits_of_a_queue_can_be_changed(google: Door, mask: str | None) -> None:
    """As by ``configure()``, until the configuration changes; all that a mask names."""
    current = google.client.get_queue(name=MAIL)
    current.rate_limits.max_dispatches_per_second = 7.5
    request: dict[str, Any] = {"queue": current}
    if mask is not None:
        request["update_mask"] = FieldMask(paths=mask.split(","))
    changed = google.client.update_queue(request=request)
    assert changed.rate_limits.max_dispatches_per_second == 7.5
    assert changed.rate_limits.max_concurrent_dispatches == 3
    statistics = google.bench.tasks.queue("mail").statistics()
    assert (statistics.rate, statistics.max_concurrent) == (7.5, 3)


@pytest.mark.parametrize("path", ["rate_limit", "rate_limits.max_rate", "max_attempts", "stat"])
def test_a_mask_that_names_no_field_of_a_queue_is_refused(google: Door, path: str) -> None:
    """So that nobody takes for done what was not."""
    current = google.client.get_queue(name=MAIL)
    current.rate_limits.max_dispatches_per_second = 7.5
    with pytest.raises(exceptions.BadRequest, match=r"updateMask names .* does not have"):
        google.client.update_queue(queue=current, update_mask=FieldMask(paths=[path]))
    assert google.client.get_queue(name=MAIL).rate_limits.max_dispatches_per_second == 20
    with pytest.raises(exceptions.BadRequest, match="updateMask names"):
        google.client.update_queue(queue={"name": NEW}, update_mask=FieldMask(paths=[path]))
    with pytest.raises(exceptions.NotFound):
        google.client.get_queue(name=NEW)


@pytest.mark.parametrize("mask", ["retry_config.max_attempts,retry_config.min_backoff", "*"])
def test_what_a_mask_names_and_the_queue_does_not_give_is_the_default(
    google: Door, mask: str
) -> None:
    """Cloud Tasks' default, for a part of the retry policy as for the limits."""
    created = google.client.create_queue(
        parent=PARENT,
        queue={
            "name": NEW,
            "rate_limits": {"max_dispatches_per_second": 7.5},
            "retry_config": {"max_attempts": 3, "min_backoff": Duration(seconds=2)},
        },
    )
    changed = google.client.update_queue(
        queue={"name": NEW}, update_mask=FieldMask(paths=mask.split(","))
    )
    assert changed.retry_config.max_attempts == 100
    assert changed.retry_config.min_backoff == timedelta(seconds=0.1)
    assert (changed.rate_limits == created.rate_limits) == (mask != "*")
    assert changed == google.client.get_queue(name=NEW)


def test_who_may_do_what_is_not_for_the_api(google: Door) -> None:
    """A policy is empty, the token grants everything, and nothing can be set."""
    policy = google.client.get_iam_policy(request={"resource": QUEUE})
    assert (policy.version, list(policy.bindings)) == (1, [])
    asked = ["cloudtasks.tasks.create", "cloudtasks.queues.get"]
    tested = google.client.test_iam_permissions(request={"resource": QUEUE, "permissions": asked})
    assert list(tested.permissions) == asked
    unsupported = (exceptions.MethodNotImplemented, exceptions.GoogleAPICallError)
    with pytest.raises(unsupported, match="not supported") as raised:
        google.client.set_iam_policy(request={"resource": QUEUE, "policy": policy})
    assert raised.value.code == 501


def test_locations_are_those_that_are_asked_for(google: Door) -> None:
    """Any project and location will do."""
    assert google.client.get_location(request={"name": PARENT}).location_id == "here"
    (only,) = google.client.list_locations(request={"name": "projects/guests"}).locations
    assert only.name.startswith("projects/guests/locations/")


@pytest.mark.parametrize(
    "call",
    [
        lambda client, name: client.get_queue(name=name),
        lambda client, name: client.pause_queue(name=name),
        lambda client, name: client.resume_queue(name=name),
        lambda client, name: client.purge_queue(name=name),
        lambda client, name: client.delete_queue(name=name),
        lambda client, name: list(client.list_tasks(parent=name)),
        lambda client, name: client.get_task(name=f"{name}/tasks/one"),
        lambda client, name: client.create_task(
            parent=name, task={"http_request": {"url": f"{BASE}/worker"}}
        ),
    ],
)
def test_a_queue_that_is_not_there_is_not_found(google: Door, call: Any) -> None:
    """Whatever is asked of it."""
    with pytest.raises(exceptions.NotFound):
        call(google.client, f"{PARENT}/queues/none")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({}, "either httpRequest or appEngineHttpRequest"),
        ({"http_request": {}}, "url is required"),
        ({"http_request": {"url": "ftp://x"}}, "must begin with http"),
        ({"http_request": {"url": f"{BASE}/worker", "http_method": 2, "body": b"x"}}, "no body"),
        ({"http_request": {"url": f"{BASE}/worker", "headers": {"a b": "c"}}}, "header name"),
        (
            {"http_request": {"url": f"{BASE}/worker"}, "name": f"{MAIL}/tasks/x"},
            "but parent is",
        ),
        ({"http_request": {"url": f"{BASE}/worker"}, "name": "x"}, "must be of the form"),
        (
            {"http_request": {"url": f"{BASE}/worker", "oauth_token": {"scope": "x"}}},
            "oauthToken is not supported",
        ),
        (
            {"http_request": {"url": f"{BASE}/worker", "oidc_token": {"audience": "x"}}},
            "serviceAccountEmail",
        ),
        ({"app_engine_http_request": {"relative_uri": "worker"}}, "must begin with"),
        (
            {"app_engine_http_request": {"app_engine_routing": {"service": "nobody"}}},
            "TASKQUEUE_SERVICES",
        ),
        (
            {"http_request": {"url": f"{BASE}/worker"}, "dispatch_deadline": Duration(seconds=5)},
            "15s, 30m",
        ),
        (
            {
                "app_engine_http_request": {"relative_uri": "/worker"},
                "dispatch_deadline": Duration(seconds=86_401),
            },
            "15s, 24h",
        ),
        (
            {
                "http_request": {"url": f"{BASE}/worker"},
                "schedule_time": at(datetime.now(UTC) + timedelta(hours=721)),
            },
            "720h",
        ),
        (
            {"http_request": {"url": f"{BASE}/worker"}, "retry_config": {"max_attempts": -2}},
            "maxAttempts",
        ),
        ({"http_request": {"url": f"{BASE}/worker", "body": b"x" * 200_000}}, "TASK_TOO_LARGE"),
    ],
)
def test_a_task_that_cannot_be_is_refused(google: Door, task: Any, said: str) -> None:
    """With what is wrong, and nothing is stored."""
    with pytest.raises(exceptions.BadRequest, match=said):
        google.client.create_task(parent=QUEUE, task=task)
    assert google.bench.tasks.find() == []


def test_what_the_app_configures_stays_as_it_is(google: Door) -> None:
    """Whoever wants to change it is told where."""
    with pytest.raises(exceptions.Conflict, match="Queue already exists"):
        google.client.create_queue(parent=PARENT, queue={"name": QUEUE})
    refused = exceptions.BadRequest  # or FailedPrecondition, which is one
    with pytest.raises(refused, match="TASKQUEUE_QUEUES"):
        google.client.delete_queue(name=QUEUE)
    with pytest.raises(refused, match="its retry policy"):
        google.client.update_queue(queue={"name": QUEUE, "retry_config": {"max_attempts": 3}})


NEW = f"{PARENT}/queues/new"


def test_a_queue_is_created_changed_and_deleted(google: Door) -> None:
    """With Cloud Tasks' defaults; tasks go through it, and its name is blocked afterwards."""
    created = google.client.create_queue(
        parent=PARENT,
        queue={
            "name": NEW,
            "rate_limits": {"max_dispatches_per_second": 7.5},
            "retry_config": {"max_attempts": 3, "min_backoff": Duration(seconds=2)},
        },
    )
    assert created == google.client.get_queue(name=NEW)
    assert created.state == Queue.State.RUNNING
    assert created.rate_limits.max_dispatches_per_second == 7.5
    assert created.rate_limits.max_burst_size == 8
    assert created.rate_limits.max_concurrent_dispatches == 1000
    assert created.retry_config.max_attempts == 3
    assert created.retry_config.max_backoff == timedelta(hours=1)
    task = google.add(queue=NEW)
    google.bench.tasks.drain()
    assert google.bench.tasks.get(task.name.rpartition("/")[2]).state is State.SUCCEEDED
    changed = google.client.update_queue(
        queue={"name": NEW, "rate_limits": {"max_concurrent_dispatches": 9}},
        update_mask=FieldMask(paths=["rate_limits"]),
    )
    assert changed.rate_limits.max_dispatches_per_second == 500
    assert changed.rate_limits.max_concurrent_dispatches == 9
    assert changed.retry_config == created.retry_config
    changed = google.client.update_queue(
        queue={"name": NEW, "retry_config": {"max_attempts": 5, "max_doublings": 2}},
        update_mask=FieldMask(paths=["retry_config.max_attempts"]),
    )
    assert changed.retry_config.max_attempts == 5
    assert changed.retry_config.max_doublings == 16
    assert changed.retry_config.min_backoff == timedelta(seconds=2)
    assert NEW in [queue.name for queue in google.client.list_queues(parent=PARENT)]
    google.client.pause_queue(name=NEW)
    assert google.client.get_queue(name=NEW).state == Queue.State.PAUSED
    google.add(queue=NEW)
    google.client.delete_queue(name=NEW)
    with pytest.raises(exceptions.NotFound):
        google.client.get_queue(name=NEW)
    with pytest.raises(exceptions.NotFound):
        google.add(queue=NEW)
    assert NEW not in [queue.name for queue in google.client.list_queues(parent=PARENT)]
    with pytest.raises(exceptions.BadRequest, match="existed too recently"):
        google.client.create_queue(parent=PARENT, queue={"name": NEW})


def test_a_queue_that_is_updated_is_created_if_need_be(google: Door) -> None:
    """As by Cloud Tasks; a queue that is sent back as it was shown stays as it is."""
    created = google.client.update_queue(queue={"name": NEW})
    assert created.rate_limits.max_dispatches_per_second == 500
    assert created.retry_config.max_attempts == 100
    assert google.client.update_queue(queue=created) == created
    with pytest.raises(exceptions.Conflict, match="Queue already exists"):
        google.client.create_queue(parent=PARENT, queue={"name": NEW})


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        ({"name": "new"}, "must be of the form"),
        ({"name": "projects/other/locations/here/queues/new"}, "but parent is"),
        ({"name": NEW, "rate_limits": {"max_dispatches_per_second": 501}}, "to 500"),
        ({"name": NEW, "rate_limits": {"max_dispatches_per_second": 1e-10}}, "1e-09"),
        ({"name": NEW, "rate_limits": {"max_concurrent_dispatches": 5001}}, "1 to 5000"),
        ({"name": NEW, "retry_config": {"max_attempts": -2}}, "maxAttempts"),
        ({"name": NEW, "retry_config": {"min_backoff": Duration(seconds=-1)}}, "minBackoff"),
        ({"name": NEW, "app_engine_routing_override": {"service": "x"}}, "appEngineRouting"),
        ({"name": NEW, "http_target": {"http_method": 2}}, "HttpTarget|httpTarget"),
    ],
)
def test_a_queue_that_cannot_be_is_refused(google: Door, queue: Any, said: str) -> None:
    """And is not there."""
    with pytest.raises(exceptions.BadRequest, match=said):
        google.client.create_queue(parent=PARENT, queue=queue)
    with pytest.raises(exceptions.NotFound):
        google.client.get_queue(name=NEW)
