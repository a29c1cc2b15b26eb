"""Metrics for Prometheus, on each database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import abort, redirect
from prometheus_client.parser import text_string_to_metric_families

from flask_taskqueue import ConfigurationError, PermanentFailure, attempt_finished
from flask_taskqueue.appengine import taskqueue as app_engine
from flask_taskqueue.core.metrics import METRICS
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.waiting import wait_until

URL = "/taskqueue/metrics"
TOKEN = "a-token-for-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
METRICS_ON = {"TASKQUEUE_METRICS": True, "TASKQUEUE_METRICS_TOKEN": TOKEN}
LABELS = (
    "queue",
    "state",
    "outcome",
    "code_class",
    "result",
    "instance",
    "cron",
    "version",
    "schema",
    "le",
)
QUEUES = {"mail": {"rate": "60/m"}}

Values = dict[tuple[str, ...], float]


@pytest.fixture
def metered(database: TestDatabase) -> Iterator[Bench]:
    """An application with metrics."""
    with bench(database.url, **METRICS_ON, TASKQUEUE_QUEUES=QUEUES) as one:
        yield one


def scrape(one: Bench) -> Values:
    """What is exposed, by name and label values."""
    reply = one.app.test_client().get(URL, headers=HEADERS)
    assert reply.status_code == 200, reply.text
    samples = [
        sample for family in text_string_to_metric_families(reply.text) for sample in family.samples
    ]
    return {
        (
            sample.name,
            *(sample.labels[label] for label in LABELS if label in sample.labels),
        ): sample.value
        for sample in samples
    }


def run_some_of_each(one: Bench, taskqueue: TaskQueueTester) -> None:
    """Attempts of every outcome, and ends of every kind: 11 tasks in one queue, 2 in the other."""

    @one.tasks.worker("/w", transactional=True, retry={"min_backoff_seconds": 30})
    def handler(status: int = 204) -> Any:
        if status == 1:
            raise PermanentFailure("no")
        return "", status

    one.tasks.worker("/plain", endpoint="plain")(lambda: None)
    for status in (204, 204, 302, 404, 503, 1):
        handler.add(status)
    taskqueue.run_due()
    handler.options(queue="mail").add()
    for how in ({"timeout": True}, {"exc": ConnectionError}):
        with taskqueue.respond(times=1, url="/w", **how):  # type: ignore[arg-type]
            taskqueue.run(one.tasks.find(queue="mail")[0])
    taskqueue.run(one.tasks.find(queue="mail")[0])
    one.tasks.add("/plain")
    with taskqueue.chaos(crash=True, url="/plain"):
        taskqueue.run(one.tasks.find(url="/plain")[0])
    handler.options(countdown=60, expires=60.5).add()
    handler.options(countdown=60, unique_key="k").add()
    handler.options(countdown=60, unique_key="k", on_conflict="replace").add()
    taskqueue.advance(61)
    taskqueue.run_all()
    handler.options(countdown="1h").add()
    one.tasks.queue("mail").pause()
    handler.options(queue="mail").add()


def test_metrics_tell_what_happened(metered: Bench) -> None:
    """Every attempt, every end, every task that was stored, exactly."""
    with TaskQueueTester(metered.app) as taskqueue:
        run_some_of_each(metered, taskqueue)
        found = scrape(metered)
        logged = sum(task.attempts for task in taskqueue.tasks())
    attempts = {
        labels[1:]: value
        for labels, value in found.items()
        if labels[0] == "taskqueue_attempts_total" and value
    }
    assert sum(attempts.values()) == logged
    assert attempts["default", "success", "2xx"] == 4
    for outcome in (("failure", "3xx"), ("failure", "4xx"), ("failure", "5xx"), ("crash", "none")):
        assert attempts["default", *outcome] >= 1
    assert (
        attempts["mail", "timeout", "none"]
        == attempts["mail", "connection_error", "none"]
        == attempts["mail", "success", "2xx"]
        == 1
    )
    finished = {
        labels[2]: value
        for labels, value in found.items()
        if labels[:2] == ("taskqueue_finished_total", "default")
    }
    assert finished == {"succeeded": 4, "dead": 1, "deleted": 1, "expired": 1}
    assert (
        found["taskqueue_enqueued_total", "default"],
        found["taskqueue_enqueued_total", "mail"],
    ) == (11, 2)
    states = {
        labels[1:]: value
        for labels, value in found.items()
        if labels[0] == "taskqueue_tasks" and value
    }
    # Those that are tried again are due a tenth of a second later, which may have passed.
    again = states.pop(("default", "retrying"), 0) + states.pop(("default", "due"), 0)
    assert (again, states) == (
        3,
        {("default", "scheduled"): 1, ("default", "dead"): 1, ("mail", "paused"): 1},
    )
    assert (
        found["taskqueue_queue_paused", "mail"],
        found["taskqueue_queue_rate_limit", "mail"],
    ) == (1, 1)
    observed = sum(
        value
        for labels, value in found.items()
        if labels[0] == "taskqueue_attempt_duration_seconds_count"
    )
    assert observed == logged - 1
    assert found["taskqueue_dispatch_delay_seconds_count", "default"] == 7


def test_counters_never_fall(metered: Bench) -> None:
    """Neither when dead tasks are requeued, nor when tasks are deleted, nor when all that has
    ended is pruned and summed up.
    """
    with TaskQueueTester(metered.app) as taskqueue:
        run_some_of_each(metered, taskqueue)
        before = scrape(metered)
        metered.tasks.queue("default").requeue_dead()
        metered.tasks.queue("default").purge()
        taskqueue.advance("40d")
        assert metered.runtime.sweep() == 12
        after = scrape(metered)
    cumulative = [
        labels for labels in before if re.search("_total$|_bucket$|_count$|_sum$", labels[0])
    ]
    assert len(cumulative) > 50
    assert all(after[labels] >= before[labels] for labels in cumulative)
    assert after["taskqueue_tasks", "default", "dead"] == 0
    assert (
        after["taskqueue_enqueued_total", "default"]
        == before["taskqueue_enqueued_total", "default"]
        == 11
    )
    assert (
        after["taskqueue_finished_total", "default", "deleted"]
        == before["taskqueue_finished_total", "default", "deleted"] + 5
    )


def test_every_metric_is_exposed_and_no_other(metered: Bench) -> None:
    """From the first request on, to a registry that asks twice, and in OpenMetrics if that is
    asked for.
    """
    metered.tasks.worker("/w")(lambda: None)
    metered.tasks.schedule("often", "/w", "every 1 minutes")
    metered.tasks.add("/w")
    with TaskQueueTester(metered.app) as taskqueue:
        taskqueue.advance(61, run=True)
        text = metered.app.test_client().get(URL, headers=HEADERS).text
    shown = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert shown == {metric.shown for metric in METRICS}
    assert 'taskqueue_cron_last_success_timestamp_seconds{cron="often"}' in text
    asked = {"Accept": "application/openmetrics-text; version=1.0.0", **HEADERS}
    reply = metered.app.test_client().get(URL, headers=asked)
    assert reply.text.endswith("# EOF\n")


def test_processes_agree_and_a_restart_changes_nothing(sqlite_database: TestDatabase) -> None:
    """What one has done another shows."""
    with bench(sqlite_database.url, **METRICS_ON) as one:
        one.tasks.worker("/w")(lambda: None)
        for _ in range(3):
            one.tasks.add("/w")
        one.tasks.drain()
    with bench(sqlite_database.url, **METRICS_ON) as another:
        found = scrape(another)
        assert found["taskqueue_attempts_total", "default", "success", "2xx"] == 3
        assert found["taskqueue_enqueued_total", "default"] == 3


def test_dispatchers_are_shown_by_host_and_process(sqlite_database: TestDatabase) -> None:
    """How many are alive, how long ago each was seen, what it does."""
    with bench(sqlite_database.url, **METRICS_ON, TASKQUEUE_CONCURRENCY=3) as one:
        runtime = one.runtime
        assert scrape(one)["taskqueue_dispatchers",] == 0
        runtime.start()
        try:
            wait_until(one.tasks.dispatchers, what="the dispatcher is seen")
            found = scrape(one)
            limits = [
                value
                for labels, value in found.items()
                if labels[0] == "taskqueue_concurrency_limit"
            ]
            assert (found["taskqueue_dispatchers",], limits) == (1, [3])
            assert all(
                0 <= value < 30
                for labels, value in found.items()
                if labels[0] == "taskqueue_dispatcher_heartbeat_age_seconds"
            )
        finally:
            runtime.stop()


def test_only_those_with_the_token_see_metrics(sqlite_database: TestDatabase) -> None:
    """From wherever they come; nothing is kept by caches."""
    with bench(sqlite_database.url, **METRICS_ON) as one:
        client = one.app.test_client()
        for wrong in (None, "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"):
            reply = client.get(
                URL,
                headers={} if wrong is None else {"Authorization": wrong},
                environ_base={"REMOTE_ADDR": "127.0.0.1"},
            )
            assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert client.get(URL, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
        reply = client.get(URL, headers=HEADERS, environ_base={"REMOTE_ADDR": "203.0.113.5"})
        assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "no-store")
        assert TOKEN not in repr(one.runtime.settings)


def test_without_a_token_nobody_sees_metrics(sqlite_database: TestDatabase) -> None:
    """Wherever they come from: by a proxy everybody comes from this machine. And they are not
    there where they are not asked for.
    """
    with bench(sqlite_database.url, TASKQUEUE_METRICS=True, TASKQUEUE_METRICS_URL="/m") as one:
        for address in ("127.0.0.1", "::1", "10.0.0.1", ""):
            reply = one.app.test_client().get("/m", environ_base={"REMOTE_ADDR": address})
            assert reply.status_code == 403
            assert "TASKQUEUE_METRICS_TOKEN" in reply.text
    with bench(sqlite_database.url) as other:
        assert other.app.test_client().get(URL).status_code == 404


@pytest.mark.parametrize(
    ("answer", "status"),
    [(True, 200), (False, 403), (None, 403), ("yes", 403), (ZeroDivisionError(), 403)],
)
def test_a_function_opens_metrics(sqlite_database: TestDatabase, answer: Any, status: int) -> None:
    """By True and nothing else; an error in it closes them."""

    def access() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with bench(sqlite_database.url, TASKQUEUE_METRICS=True, TASKQUEUE_METRICS_ACCESS=access) as one:
        assert one.app.test_client().get(URL).status_code == status


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("METRICS_URL", "metrics"),
        ("METRICS_URL", "/a/<b>"),
        ("METRICS_TOKEN", "short"),
        ("METRICS_TOKEN", "with a blank in it"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    sqlite_database: TestDatabase, key: str, value: str
) -> None:
    """When the application is set up."""
    with (
        pytest.raises(ConfigurationError, match=f"TASKQUEUE_{key}"),
        bench(sqlite_database.url, **{f"TASKQUEUE_{key}": value}),
    ):
        pass


def test_what_waits_on_purpose_is_not_late(database: TestDatabase) -> None:
    """A rate of 0 is a pause, and tasks of a pull queue wait for no dispatcher."""
    queues = {"none": {"rate": "0"}, "pull": {"mode": "pull"}, "open": {}}
    with bench(database.url, **METRICS_ON, TASKQUEUE_QUEUES=queues) as one:
        one.tasks.worker("/w")(lambda: None)
        for queue in ("none", "open"):
            one.tasks.add("/w", queue=queue)
        app_engine.add(method="PULL", payload="x", queue_name="pull")
        late = ("taskqueue_oldest_due_seconds", "open")
        wait_until(lambda: scrape(one)[late] > 0, what="a task has waited")
        found = scrape(one)
        paused = {name: found["taskqueue_queue_paused", name] for name in queues}
        assert paused == {"none": 1, "pull": 0, "open": 0}
        assert found["taskqueue_tasks", "none", "paused"] == 1
        assert found["taskqueue_tasks", "none", "due"] == 0
        assert found["taskqueue_tasks", "pull", "due"] == 1
        assert found["taskqueue_oldest_due_seconds", "pull"] == 0
        assert found[late] > 0


def test_a_login_before_the_metrics_is_none_before_health(
    sqlite_database: TestDatabase,
) -> None:
    """It hides the details of health, which anybody may ask for, and nothing else."""

    def login() -> None:
        abort(redirect("/login"))

    with bench(sqlite_database.url, TASKQUEUE_METRICS=True, TASKQUEUE_METRICS_ACCESS=login) as one:
        client = one.app.test_client()
        assert client.get(URL).location == "/login"
        health = client.get("/taskqueue/health/dispatcher")
        assert (health.status_code, health.get_json()["status"]) == (503, "failing")


def test_a_reply_of_a_lost_lease_is_counted_as_late(sqlite_database: TestDatabase) -> None:
    """And not as what it would have been."""
    with bench(sqlite_database.url, **METRICS_ON) as one:
        seen: list[bool] = []
        attempt_finished.connect(lambda _app, lost, **_: seen.append(lost), one.app, weak=False)
        one.tasks.worker("/w")(lambda: one.tasks.find(limit=1)[0].delete() and None)
        one.tasks.add("/w")
        one.tasks.drain()
        found = scrape(one)
        assert seen == [True]
        assert found["taskqueue_attempts_total", "default", "late", "none"] == 1
        assert found["taskqueue_attempts_total", "default", "success", "2xx"] == 0
        hour = one.tasks.queue("default").statistics()
        assert (hour.executed_last_hour, hour.failed_last_hour) == (0, 0)
        assert found["taskqueue_enqueued_total", "default"] == 1
