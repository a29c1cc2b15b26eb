"""Scenarios of code for App Engine's taskqueue module, played with any module that has its names.

They run with App Engine's own SDK (see record.py), whose answers are in vectors/taskqueue.json, and
with ours. This file imports nothing but the standard library.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

UTC = datetime.timezone.utc  # noqa: UP017 - the SDK's Python may be older
SOON = datetime.datetime(2001, 2, 3, 4, 5, 6, 700000, tzinfo=UTC)
LATER = datetime.datetime(2002, 2, 3, tzinfo=UTC)
LATEST = datetime.datetime(2003, 2, 3, tzinfo=UTC)
ADDED_THERE = ("x-appengine-current-namespace", "host")

Play = Callable[[Any], Any]

TASKS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "text": {"payload": "grüße"},
    "no text": {"payload": ""},
    "bytes": {"payload": b"\x00\xff"},
    "no bytes": {"payload": b""},
    "a number": {"payload": 5},
    "nought": {"payload": 0},
    "a list": {"payload": ["a"]},
    "own content type": {"payload": "{}", "headers": {"Content-Type": "application/json"}},
    "headers": {"headers": {"X-One": "1", "x-two": ["2", "3"], "X-Number": 4}},
    "no headers": {"headers": {}},
    "params": {"params": {"key": "a b", "list": ["x", "y"], "number": 7, "none": None}},
    "params of bytes": {"params": {b"key": b"\xff", "tuple": (1, 2), "bool": True}},
    "params in no order": {"params": {"set": {"only"}}},
    "empty params": {"params": {}, "url": "/work"},
    "params of empty lists": {"params": {"list": []}},
    "params and payload": {"params": {"a": 1}, "payload": "x"},
    "params and empty payload": {"params": {"a": 1}, "payload": ""},
    "url": {"url": "/work"},
    "url with query": {"url": "/work?a=1"},
    "url with params": {"url": "/work", "params": {"a": "1"}},
    "url with query and params": {"url": "/work?a=1", "params": {"b": "1"}},
    "url with query, GET and params": {
        "url": "/work?a=1",
        "params": {"b": "1"},
        "method": "GET",
    },
    "url without slash": {"url": "work"},
    "url with scheme": {"url": "https://example.com/work"},
    "url with host": {"url": "//example.com/work"},
    "url with fragment": {"url": "/work#part"},
    "url too long": {"url": "/" + "x" * 2083},
    "url as long as it may be": {"url": "/" + "x" * 2082},
    "name": {"name": "a-B_9"},
    "empty name": {"name": ""},
    "bad name": {"name": "a b"},
    "long name": {"name": "x" * 500},
    "longer name": {"name": "x" * 501},
    "bad name and bad url": {"name": "a b", "url": "work"},
    "bad url and bad method": {"url": "work", "method": "NONE"},
    "GET": {"method": "GET", "params": {"a": [1, 2]}, "url": "/work"},
    "get": {"method": "get", "url": "/work?a=1"},
    "GET without url": {"method": "GET", "params": {"a": 1}},
    "GET with payload": {"method": "GET", "payload": "x"},
    "HEAD": {"method": "HEAD", "url": "/work"},
    "DELETE": {"method": "DELETE", "url": "/work", "params": {"a": "ü"}},
    "DELETE with payload": {"method": "DELETE", "payload": "x"},
    "PUT": {"method": "PUT", "payload": "x", "params": {"a": 1}, "url": "/work"},
    "PUT with query": {"method": "PUT", "payload": b"x", "url": "/work?a=1"},
    "PATCH": {"method": "PATCH", "payload": "x"},
    "OPTIONS": {"method": "OPTIONS"},
    "unknown argument": {"queue": "mail"},
    "tag of a push task": {"tag": "t"},
    "eta": {"eta": SOON},
    "eta and countdown": {"eta": SOON, "countdown": 5},
    "eta in text": {"eta": "2001-02-03"},
    "countdown in text": {"countdown": "x"},
    "countdown of 31 days": {"countdown": 31 * 86400},
    "countdown of 31 days and a payload too large": {
        "countdown": 31 * 86400,
        "payload": b"x" * 102400,
    },
    "too large": {"payload": b"x" * 102400},
    "dispatch deadline": {"dispatch_deadline_usec": 15_000_000},
    "dispatch deadline too short": {"dispatch_deadline_usec": 14_999_999},
    "dispatch deadline too long": {"dispatch_deadline_usec": 86_400_000_001},
    "dispatch deadline in float": {"dispatch_deadline_usec": 15e6},
    "PULL": {"method": "PULL", "payload": "x"},
    "PULL of params": {"method": "PULL", "params": {"a": 1}},
    "PULL with tag": {"method": "PULL", "payload": b"x", "tag": "t"},
    "PULL without payload": {"method": "PULL"},
    "PULL of nothing": {"method": "PULL", "payload": b""},
    "PULL with url": {"method": "PULL", "payload": "x", "url": "/work"},
    "PULL with headers": {"method": "PULL", "payload": "x", "headers": {"A": "b"}},
    "PULL with target": {"method": "PULL", "payload": "x", "target": "worker"},
    "PULL with params and payload": {"method": "PULL", "payload": "x", "params": {"a": 1}},
    "PULL with long tag": {"method": "PULL", "payload": "x", "tag": "t" * 500},
    "PULL with longer tag": {"method": "PULL", "payload": "x", "tag": "t" * 501},
    "PULL as large as a push task may not be": {"method": "PULL", "payload": b"x" * 200_000},
    "PULL too large": {"method": "PULL", "payload": b"x" * 2**20},
}
"""The arguments of Task."""

RETRY_OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "all": {
        "min_backoff_seconds": 1,
        "max_backoff_seconds": 2.5,
        "task_age_limit": 10.2,
        "max_doublings": 3,
        "task_retry_limit": 0,
    },
    "negative": {"task_retry_limit": -1},
    "negative backoff": {"min_backoff_seconds": -1},
    "negative age": {"task_age_limit": -0.5},
    "contradicting": {"min_backoff_seconds": 2, "max_backoff_seconds": 1},
    "unknown": {"retries": 1},
}
"""The arguments of TaskRetryOptions."""


def told(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, (list, tuple)):
        return [told(item) for item in value]
    if isinstance(value, dict):
        return {str(told(key)): told(item) for key, item in sorted(value.items(), key=str)}
    return value


def answer(play: Callable[[], Any]) -> Any:
    """What a scenario returns or raises."""
    try:
        return {"returns": told(play())}
    except Exception as error:  # noqa: BLE001 - which one it is, is the answer
        return {"raises": type(error).__name__}


def described(task: Any) -> dict[str, Any]:
    """What a task says of itself; headers have no namespace and no host here, as its size shows."""
    headers = {name.lower(): value for name, value in task.headers.items()}
    without = sum(len(name) + len(headers.pop(name)) + 4 for name in ADDED_THERE if name in headers)
    try:
        params = task.extract_params()
    except ValueError:
        params = "ValueError"
    return {
        "payload": task.payload
        if len(task.payload or b"") < 1000
        else len(task.payload)
        if task.payload
        else task.payload,
        "url": task.url,
        "method": task.method,
        "headers": headers,
        "size": task.size - without,
        "params": params,
        **{
            name: getattr(task, name)
            for name in (
                "name on_queue_url queue_name tag was_enqueued was_deleted retry_count "
                "dispatch_deadline_usec"
            ).split()
        },
    }


def etas(tq: Any) -> Any:
    """Which instants etas and countdowns are; a naive eta is local time."""
    naive = datetime.datetime(2001, 2, 3, 4, 5, 6, 700000)  # noqa: DTZ001 - that is the question
    now = time.time()
    return [
        tq.Task(eta=SOON).eta_posix,
        tq.Task(eta=SOON).eta.isoformat(),
        tq.Task(eta=naive).eta_posix == time.mktime(naive.timetuple()) + 0.7,
        0 <= tq.Task().eta_posix - now < 60,
        99 <= tq.Task(countdown="100").eta_posix - now < 160,
        -100 <= tq.Task(countdown=-100).eta_posix - now < -39,
    ]


def added(tq: Any) -> Any:
    """A task knows where it is once it is added."""
    task = tq.Task(url="/work", params={"a": 1})
    result = tq.Queue("mail").add(task)
    return [result is task, task.was_enqueued, task.queue_name, bool(task.name), task.retry_count]


def added_by_function(tq: Any) -> Any:
    """The short way, with a queue of its own."""
    task = tq.add(url="/work", queue_name="mail", name="short", countdown=60)
    return [task.name, task.queue_name, task.was_enqueued]


def added_twice(tq: Any) -> Any:
    """One object is added once."""
    task = tq.Task(url="/work")
    task.add("mail")
    task.add("mail")


def name_taken(tq: Any) -> Any:
    """A name is a live task's."""
    tq.add(url="/work", name="taken")
    tq.add(url="/work", name="taken")


def name_of_another_queue(tq: Any) -> Any:
    """Each queue has names of its own."""
    tq.add(url="/work", name="same")
    return tq.add(url="/work", name="same", queue_name="mail").was_enqueued


def name_tombstoned(tq: Any) -> Any:
    """A name was a deleted task's."""
    task = tq.add(url="/work", name="gone")
    tq.Queue().delete_tasks(task)
    tq.add(url="/work", name="gone")


def names_purged(tq: Any) -> Any:
    """Purging leaves tombstones."""
    tq.add(url="/work", name="purged")
    tq.Queue().purge()
    tq.add(url="/work", name="purged")


def taken_in_a_list(tq: Any) -> Any:
    """Those of a list whose names are free are added all the same."""
    tq.add(url="/work", name="b")
    tasks = [tq.Task(url="/work", name=name) for name in "abc"]
    raised = ""
    try:
        tq.Queue().add(tasks)
    except tq.Error as error:
        raised = type(error).__name__
    return [raised, [task.was_enqueued for task in tasks], tq.Queue().fetch_statistics().tasks]


def taken_twice_in_a_list(tq: Any) -> Any:
    """Of several errors for names the last is raised."""
    tq.add(url="/work", name="a")
    tq.Queue().delete_tasks_by_name(tq.add(url="/work", name="b").name)
    tq.Queue().add([tq.Task(url="/work", name=name) for name in "abc"])


def taken_twice_in_another_order(tq: Any) -> Any:
    """So the order decides."""
    tq.add(url="/work", name="a")
    tq.Queue().delete_tasks_by_name(tq.add(url="/work", name="b").name)
    tq.Queue().add([tq.Task(url="/work", name=name) for name in "bac"])


def twice_in_a_list(tq: Any) -> Any:
    """A name twice in one call."""
    tq.Queue().add([tq.Task(url="/work", name="a"), tq.Task(url="/work", name="a")])


def a_list(tq: Any) -> Any:
    """A list comes back as one, a single task as one."""
    tasks = tuple(tq.Task(url="/work") for _ in range(3))
    result = tq.Queue().add(tasks)
    return [type(result).__name__, [task.was_enqueued for task in tasks]]


def an_empty_list(tq: Any) -> Any:
    """Nothing is nothing."""
    return [tq.Queue().add([]), tq.Queue().add(None)]


def a_hundred(tq: Any) -> Any:
    """As many as one call takes."""
    return len(tq.Queue().add([tq.Task(url="/work") for _ in range(100)]))


def more_than_a_hundred(tq: Any) -> Any:
    """One too many."""
    tq.Queue().add([tq.Task(url="/work") for _ in range(101)])


def push_and_pull(tq: Any) -> Any:
    """One call, one kind."""
    tq.Queue().add([tq.Task(url="/work"), tq.Task("x", method="PULL")])


def unknown_queue(tq: Any) -> Any:
    """A queue that is not there is noticed when something is added."""
    queue = tq.Queue("nowhere")
    queue.add(tq.Task(url="/work"))


def unknown_queue_purged(tq: Any) -> Any:
    """Or purged."""
    tq.Queue("nowhere").purge()


def unknown_queue_and_a_task(tq: Any) -> Any:
    """Or a task of it deleted."""
    return tq.Queue("nowhere").delete_tasks_by_name("a").was_deleted


def unknown_queue_counted(tq: Any) -> Any:
    """But it has statistics."""
    found = tq.Queue("nowhere").fetch_statistics()
    return [found.tasks, found.oldest_eta_usec, found.queue.name]


def queue_names(tq: Any) -> Any:
    """Letters, digits and hyphens; an underscore is none."""
    return [
        answer(lambda name=name: tq.Queue(name).name)
        for name in ("a-B-9", "", "a_b", "a b", "x" * 100, "x" * 101)
    ]


def queues_alike(tq: Any) -> Any:
    """Queues are equal by name."""
    return [
        tq.Queue() == tq.Queue("default"),
        tq.Queue() != tq.Queue("mail"),
        tq.Queue() == "default",
        tq.Queue().name,
    ]


def deleted(tq: Any) -> Any:
    """Those that are there are deleted, those that are not are not."""
    task = tq.add(url="/work", name="here")
    other = tq.Task(name="never")
    result = tq.Queue().delete_tasks([task, other])
    return [
        [item.was_deleted for item in result],
        result[0] is task,
        tq.Queue().fetch_statistics().tasks,
    ]


def deleted_twice(tq: Any) -> Any:
    """One object is deleted once."""
    task = tq.add(url="/work", name="here")
    tq.Queue().delete_tasks(task)
    tq.Queue().delete_tasks(task)


def deleted_without_name(tq: Any) -> Any:
    """A task that was not added has no name."""
    tq.Queue().delete_tasks(tq.Task(url="/work"))


def deleted_with_a_name_twice(tq: Any) -> Any:
    """One call, one name."""
    tq.Queue().delete_tasks_by_name(["a", "a"])


def deleted_unnamed(tq: Any) -> Any:
    """The name that adding chose is good for deleting."""
    task = tq.add(url="/work")
    return tq.Queue().delete_tasks(task).was_deleted


def deleted_by_name(tq: Any) -> Any:
    """By a name or by several; each comes back as a task."""
    tq.Queue().add([tq.Task(url="/work", name=name) for name in "abc"])
    one = tq.Queue().delete_tasks_by_name("a")
    more = tq.Queue().delete_tasks_by_name(["a", "b", "z"])
    again = tq.Queue().delete_tasks_by_name("b")
    return [
        [one.name, one.was_deleted],
        [[task.name, task.was_deleted] for task in more],
        again.was_deleted,
    ]


def purged(tq: Any) -> Any:
    """A queue is emptied, and others are not."""
    tq.Queue().add([tq.Task(url="/work") for _ in range(3)])
    tq.add(url="/work", queue_name="mail")
    return [
        tq.Queue().purge(),
        tq.Queue().fetch_statistics().tasks,
        tq.Queue("mail").fetch_statistics().tasks,
    ]


def counted(tq: Any) -> Any:
    """A queue, several, and by name."""
    tq.Queue("mail").add([tq.Task(url="/work", eta=SOON), tq.Task(url="/work")])
    one = tq.Queue("mail").fetch_statistics()
    several = tq.QueueStatistics.fetch(["mail", "default"])
    queues = tq.QueueStatistics.fetch([tq.Queue("default")], deadline=5)
    return [
        [one.queue.name, one.tasks, one.oldest_eta_usec],
        [[found.queue.name, found.tasks, found.oldest_eta_usec] for found in several],
        [found.tasks for found in queues],
        tq.QueueStatistics.fetch("mail").tasks,
        tq.QueueStatistics.fetch([]),
    ]


def counted_strangely(tq: Any) -> Any:
    """Names and queues in one list."""
    tq.QueueStatistics.fetch(["mail", tq.Queue("default")])


def statistics_alike(tq: Any) -> Any:
    """Statistics are compared by value."""
    first, second = (tq.QueueStatistics(tq.Queue(), 1, enforced_rate=2.0) for _ in range(2))
    return [first == second, first != tq.QueueStatistics(tq.Queue(), 2), first.in_flight]


def deadlines(tq: Any) -> Any:
    """Deadlines of calls are numbers above 0."""
    return [
        answer(lambda value=value: tq.create_rpc(deadline=value) is not None)
        for value in (5, 0.5, 0, -1, "5", None)
    ] + [answer(lambda: tq.Queue().fetch_statistics(deadline=0))]


def asynchronous(tq: Any) -> Any:
    """The object that is returned, or was passed, has the result."""
    called = []
    rpc = tq.create_rpc(deadline=5, callback=lambda: called.append(1))
    tasks = [tq.Task(url="/work", name=name) for name in "ab"]
    returned = tq.Queue().add_async(tasks, rpc=rpc)
    before = [task.was_enqueued for task in tasks]
    rpc.wait()
    rpc.check_success()
    result = rpc.get_result()
    return [
        returned is rpc,
        before,
        result is tasks or result == tasks,
        [task.was_enqueued for task in tasks],
        called,
        tq.Task(url="/work").add_async().get_result().was_enqueued,
        tq.Queue().delete_tasks_async(tasks).get_result()[0].was_deleted,
        tq.Queue().delete_tasks_by_name_async("z").get_result().was_deleted,
        tq.Queue().fetch_statistics_async().get_result().tasks,
        tq.QueueStatistics.fetch_async(["mail"]).get_result()[0].tasks,
    ]


def asynchronous_refusal(tq: Any) -> Any:
    """What can only be known of the queue is raised when the result is asked for."""
    tq.add(url="/work", name="a")
    rpc = tq.Queue().add_async(tq.Task(url="/work", name="a"))
    raised = answer(rpc.get_result)
    nowhere = tq.Queue("nowhere").add_async(tq.Task(url="/work"))
    return [raised, answer(nowhere.get_result)]


def transactional_outside(tq: Any) -> Any:
    """There has to be a transaction; see transactional=True in the documentation."""
    return tq.add(url="/work", transactional=False).was_enqueued


def pulled(tq: Any) -> Any:
    """Tasks are leased in the order of their etas, once, with what they hold."""
    queue = tq.Queue("pull")
    queue.add(
        [
            tq.Task("later", method="PULL", name="b", eta=LATER, tag="t"),
            tq.Task("soon", method="PULL", name="a", eta=SOON),
            tq.Task("in an hour", method="PULL", name="c", countdown=3600),
            tq.Task(params={"x": [1, 2]}, method="PULL", name="d", eta=LATEST),
        ]
    )
    now = time.time()
    leased = queue.lease_tasks(60, 10)
    return [
        [
            [task.name, task.payload, task.method, task.tag, task.retry_count, task.queue_name]
            for task in leased
        ],
        [task.was_enqueued for task in leased],
        leased[2].extract_params(),
        all(50 < task.eta_posix - now < 120 for task in leased),
        queue.lease_tasks(60, 10),
        queue.fetch_statistics().tasks,
    ]


def pulled_some(tq: Any) -> Any:
    """As many as are wanted."""
    queue = tq.Queue("pull")
    queue.add([tq.Task("x", method="PULL", eta=SOON) for _ in range(3)])
    return [len(queue.lease_tasks(60, 2)), len(queue.lease_tasks(60, 2))]


def pulled_by_tag(tq: Any) -> Any:
    """Those with a tag; without one, those with the tag of the oldest."""
    queue = tq.Queue("pull")
    queue.add(
        [
            tq.Task("x", method="PULL", name="a", tag="even", eta=LATER),
            tq.Task("x", method="PULL", name="b", tag="odd", eta=SOON),
            tq.Task("x", method="PULL", name="c", tag="even", eta=LATEST),
            tq.Task("x", method="PULL", name="d", tag="odd", eta=LATEST),
            tq.Task("x", method="PULL", name="e", eta=LATEST),
        ]
    )

    def names(**given: Any) -> Any:
        return [task.name for task in queue.lease_tasks_by_tag(60, 10, **given)]

    return [names(), names(tag="none"), names(tag=b"even"), names(), names()]


def lease_that_ran_out(tq: Any) -> Any:
    """A task is there again; each lease is counted."""
    queue = tq.Queue("pull")
    queue.add(tq.Task("x", method="PULL", name="a"))
    counts = []
    for _ in range(3):
        [task] = queue.lease_tasks(0, 1)
        counts.append(task.retry_count)
    return counts


def leased_too_often(tq: Any) -> Any:
    """More often than its queue or itself allows."""
    queue = tq.Queue("pull-thrice")
    queue.add(
        [
            tq.Task("x", method="PULL", name="queue"),
            tq.Task(
                "x",
                method="PULL",
                name="own",
                retry_options=tq.TaskRetryOptions(task_retry_limit=1),
            ),
            tq.Task(
                "x",
                method="PULL",
                name="never",
                retry_options=tq.TaskRetryOptions(task_retry_limit=0),
            ),
            tq.Task(
                "x",
                method="PULL",
                name="age",
                retry_options=tq.TaskRetryOptions(task_retry_limit=1, task_age_limit=1),
            ),
        ]
    )
    return [sorted(task.name for task in queue.lease_tasks(0, 10)) for _ in range(4)]


def lease_modified(tq: Any) -> Any:
    """A lease is kept, or given back; then it is no lease any more."""
    queue = tq.Queue("pull")
    queue.add(tq.Task("x", method="PULL", name="a"))
    [task] = queue.lease_tasks(60, 1)
    queue.modify_task_lease(task, 600)
    left = task.eta_posix - time.time()
    queue.modify_task_lease(task, 0)
    time.sleep(0.01)  # the SDK leases what was due before now, not what is due at this microsecond
    [again] = queue.lease_tasks(60, 1)
    return [
        500 < left < 660,
        again.retry_count,
        answer(lambda: queue.modify_task_lease(task, 60)),
        answer(lambda: queue.modify_task_lease(again, 60)),
    ]


def lease_modified_in_vain(tq: Any) -> Any:
    """Of a task that has ended, one that never was, one that was not leased."""
    queue = tq.Queue("pull")
    queue.add([tq.Task("x", method="PULL", name=name) for name in "ab"])
    leased = {task.name: task for task in queue.lease_tasks(60, 1)}
    [gone] = leased.values()
    queue.delete_tasks_by_name(gone.name)
    [other] = {"a", "b"} - leased.keys()
    return [
        answer(lambda: queue.modify_task_lease(gone, 60)),
        answer(lambda: queue.modify_task_lease(tq.Task("x", method="PULL", name="c"), 60)),
        answer(lambda: queue.modify_task_lease(tq.Task("x", method="PULL", name=other), 60)),
        answer(lambda: queue.modify_task_lease(gone, -1)),
        answer(lambda: queue.modify_task_lease(gone, 604_801)),
        answer(lambda: queue.modify_task_lease(gone, "60")),
    ]


def pulled_and_deleted(tq: Any) -> Any:
    """That is how they end; a name is then taken, and there is nothing left to lease."""
    queue = tq.Queue("pull")
    task = tq.Task("x", method="PULL", name="a")
    queue.add(task)
    leased = queue.lease_tasks(0, 1)
    queue.delete_tasks(leased)
    return [
        leased[0].was_deleted,
        queue.lease_tasks(0, 1),
        answer(lambda: queue.add(tq.Task("x", method="PULL", name="a"))),
        queue.delete_tasks_by_name("a").was_deleted,
        queue.fetch_statistics().tasks,
    ]


def wrong_modes(tq: Any) -> Any:
    """Push tasks are for push queues, pull tasks for pull queues; only these are leased from."""
    push = tq.Task(url="/work")
    return [
        answer(lambda: tq.Queue("pull").add(push)),
        answer(lambda: tq.Queue("mail").add(tq.Task("x", method="PULL"))),
        answer(lambda: tq.Queue("mail").lease_tasks(60, 1)),
        answer(lambda: tq.Queue("mail").lease_tasks_by_tag(60, 1, "t")),
        answer(lambda: tq.Queue("nowhere").lease_tasks(60, 1)),
        answer(lambda: tq.add("x", method="PULL", queue_name="pull").method),
        push.was_enqueued,
    ]


def bounds_of_leases(tq: Any) -> Any:
    """Seconds from 0 to a week, tasks from 1 to 1,000."""
    queue = tq.Queue("pull")
    return [
        answer(lambda seconds=seconds, most=most: queue.lease_tasks(seconds, most))
        for seconds, most in (
            (0, 1),
            (604_800, 1000),
            (0.5, 1),
            (-1, 1),
            (604_801, 1),
            ("60", 1),
            (60, 0),
            (60, 1001),
            (60, 1.5),
        )
    ] + [
        answer(lambda: queue.lease_tasks(60, 1, deadline=0)),
        answer(lambda: queue.lease_tasks_by_tag(60, 0)),
        answer(lambda: queue.lease_tasks_async(60, 1).get_result()),
        answer(lambda: queue.lease_tasks_by_tag_async(60, 1, "t").get_result()),
    ]


def exceptions(tq: Any) -> Any:
    """Each exception has the bases that code catches."""
    found = {}
    for name in sorted(dir(tq)):
        kind = getattr(tq, name)
        if not name.startswith("_") and isinstance(kind, type) and issubclass(kind, Exception):
            found[name] = [base.__name__ for base in kind.__mro__]
    return found


def constants(tq: Any) -> Any:
    """Each constant has its value."""
    return {
        name: value.total_seconds() if isinstance(value, datetime.timedelta) else value
        for name, value in sorted(vars(tq).items())
        if name.startswith(("MAX_", "MIN_"))
    }


PLAYS: dict[str, Play] = {
    play.__name__: play
    for play in (
        etas,
        added,
        added_by_function,
        added_twice,
        name_taken,
        name_of_another_queue,
        name_tombstoned,
        names_purged,
        taken_in_a_list,
        taken_twice_in_a_list,
        taken_twice_in_another_order,
        twice_in_a_list,
        a_list,
        an_empty_list,
        a_hundred,
        more_than_a_hundred,
        push_and_pull,
        unknown_queue,
        unknown_queue_purged,
        unknown_queue_and_a_task,
        unknown_queue_counted,
        queue_names,
        queues_alike,
        deleted,
        deleted_twice,
        deleted_without_name,
        deleted_with_a_name_twice,
        deleted_unnamed,
        deleted_by_name,
        purged,
        counted,
        counted_strangely,
        statistics_alike,
        deadlines,
        asynchronous,
        asynchronous_refusal,
        transactional_outside,
        pulled,
        pulled_some,
        pulled_by_tag,
        lease_that_ran_out,
        leased_too_often,
        lease_modified,
        lease_modified_in_vain,
        pulled_and_deleted,
        wrong_modes,
        bounds_of_leases,
        exceptions,
        constants,
    )
}
"""What is done with queues; each is played with those of record.py, which are empty."""


def scenarios() -> dict[str, Play]:
    """Every scenario by its name."""
    found: dict[str, Play] = {
        f"Task: {name}": lambda tq, given=given: described(tq.Task(**given))
        for name, given in TASKS.items()
    }
    found |= {
        f"TaskRetryOptions: {name}": lambda tq, given=given: {
            key: getattr(tq.TaskRetryOptions(**given), key) for key in RETRY_OPTIONS["all"]
        }
        for name, given in RETRY_OPTIONS.items()
    }
    return found | PLAYS
