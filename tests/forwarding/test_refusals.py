"""What cannot be handed over to Cloud Tasks is an error, at start or at add()."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_taskqueue import (
    ConfigurationError,
    InvalidDeadlineError,
    InvalidEtaError,
    InvalidKeyError,
    InvalidTaskError,
    InvalidTaskRetryOptionsError,
    RetryOptions,
    TaskQueue,
    TaskSpec,
)
from flask_taskqueue.core.names import task_id
from flask_taskqueue.core.settings.app import Settings
from flask_taskqueue.core.tasks.forwarded import id_of, name_there
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench
from tests.cloud import ACCOUNT, BASE, PARENT, Cloud
from tests.databases import TestDatabase
from tests.forwarding.conftest import add_workers

NEEDED = {
    "TASKQUEUE_CLOUDTASKS_PARENT": PARENT,
    "TASKQUEUE_CLOUDTASKS_SERVICE_ACCOUNT": ACCOUNT,
    "TASKQUEUE_BASE_URL": BASE,
}


def settings(queue: dict[str, Any], **more: Any) -> Settings:
    """The settings of an app with a queue that has the engine."""
    queues = {"mail": {"engine": "cloudtasks", **queue}}
    return Settings.of({"TASKQUEUE_QUEUES": queues, **NEEDED, **more})


@pytest.fixture
def app(sqlite_database: TestDatabase, cloud: Cloud) -> Iterator[Bench]:
    """An app."""
    with bench(sqlite_database.url, **cloud.settings()) as one:
        add_workers(one)
        yield one


@pytest.mark.parametrize("missing", NEEDED)
def test_a_queue_with_the_engine_needs_its_settings(missing: str) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError, match=missing):
        settings({}, **{missing: None})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TASKQUEUE_CLOUDTASKS_PARENT", "guests"),
        ("TASKQUEUE_CLOUDTASKS_PARENT", f"{PARENT}/queues/mail"),
        ("TASKQUEUE_CLOUDTASKS_SERVICE_ACCOUNT", "somebody"),
        ("TASKQUEUE_CLOUDTASKS_CLIENT", "a client"),
        ("TASKQUEUE_CLOUDTASKS_CERTS_URL", "certs"),
    ],
)
def test_settings_of_the_engine_are_checked(key: str, value: object) -> None:
    """Whatever is no such value is named."""
    with pytest.raises(ConfigurationError, match=key):
        settings({}, **{key: value})


@pytest.mark.parametrize(
    "queue",
    [
        {"priority": 1},
        {"target": "https://other.example.com"},
        {"rate_per_key": "1/s"},
        {"bucket_size": 100},
        {"rate": "501/s"},
        {"rate": "0"},
        {"max_concurrent": 5001},
        {"deadline": 10},
        {"deadline": "31m"},
        {"retry": {"jitter": True}},
        {"engine": "sqs"},
    ],
    ids=str,
)
def test_a_queue_cannot_ask_for_what_cloud_tasks_does_not_do(queue: dict[str, Any]) -> None:
    """The error names the queue and the setting."""
    name = next(iter(queue))
    with pytest.raises(ConfigurationError, match=rf"(?s)mail.*{name}|{name}.*mail"):
        settings(queue)


def test_what_cloud_tasks_does_is_taken() -> None:
    """Rates, limits, deadlines and retry policies."""
    found = settings(
        {
            "rate": "20/s",
            "max_concurrent": 10,
            "deadline": "30m",
            "retry": {"task_retry_limit": 5, "min_backoff_seconds": 2, "limits": "any"},
        }
    )
    assert found.queues["mail"].engine == "cloudtasks"
    assert found.queues["default"].engine is None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"serial_key": "a"}, InvalidKeyError),
        ({"concurrency_key": "a"}, InvalidKeyError),
        ({"priority": 2}, InvalidTaskError),
        ({"unique_key": "a", "on_conflict": "replace"}, InvalidTaskError),
        ({"unique_key": "a", "on_conflict": "debounce", "countdown": 5}, InvalidTaskError),
        ({"countdown": "31d"}, InvalidEtaError),
        ({"eta": datetime.now(UTC) + timedelta(days=30, hours=1)}, InvalidEtaError),
        ({"deadline": 14}, InvalidDeadlineError),
        ({"deadline": 1801}, InvalidDeadlineError),
        ({"retry": RetryOptions(jitter=True)}, InvalidTaskRetryOptionsError),
        ({"target": "https://other.example.com", "queue": "mail"}, InvalidTaskError),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_task_cannot_ask_for_what_cloud_tasks_does_not_do(
    sqlite_database: TestDatabase, cloud: Cloud, options: dict[str, Any], error: type[Exception]
) -> None:
    """Nothing is stored, by whichever way the task comes."""
    more = {"TASKQUEUE_MAX_ETA": "60d", "TASKQUEUE_ALLOWED_HOSTS": ["other.example.com"]}
    with bench(sqlite_database.url, **cloud.settings(), **more) as one:
        add_workers(one)
        with pytest.raises(error, match="Cloud Tasks"):
            one.tasks.add("/count", **options)
        with pytest.raises(error, match="Cloud Tasks"):
            one.tasks.add_many([TaskSpec("/count", **options)])
        assert not one.tasks.find()


def test_an_absolute_url_cannot_be_handed_over(sqlite_database: TestDatabase, cloud: Cloud) -> None:
    """Other hosts do not prove what their handlers did."""
    more = {"TASKQUEUE_ALLOWED_HOSTS": ["api.example.com"]}
    with (
        bench(sqlite_database.url, **cloud.settings(), **more) as one,
        pytest.raises(InvalidTaskError, match="own routes"),
    ):
        one.tasks.add("https://api.example.com/", queue="mail")


def test_limits_cannot_be_changed_while_the_app_runs(app: Bench) -> None:
    """They are Cloud Tasks', which would not know."""
    with pytest.raises(ConfigurationError, match="cloudtasks sync"):
        app.tasks.queue("mail").configure(rate="1/s")


def test_the_test_kit_runs_such_tasks_itself(app: Bench, cloud: Cloud) -> None:
    """Tests need no Cloud Tasks, and nothing of them goes there."""
    with TaskQueueTester(app.app) as tester:
        app.tasks.add("/count", {"by": 2})
        assert len(tester.run_all()) == 1
    assert app.count() == 2
    assert not cloud.created


def test_without_the_client_the_app_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At start, not at the first task."""
    monkeypatch.setattr("flask_taskqueue.cloudtasks.installed.find_spec", lambda name: None)
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config |= {"TASKQUEUE_QUEUES": {"mail": {"engine": "cloudtasks"}}, **NEEDED}
    with pytest.raises(ConfigurationError, match=r"Flask-TaskQueue\[cloudtasks\]"):
        TaskQueue(app)


def test_a_name_says_which_task_it_is_of_and_nothing_else_does() -> None:
    """Names do not begin alike, even those of tasks that were added at the same time."""
    first, second = task_id(), task_id()
    assert id_of(name_there(first, 17)) == first
    assert name_there(first, 17)[:8] != name_there(second, 17)[:8]
    assert name_there(first, 17) != name_there(first, 18)
    for other in ("", "mail", "a" * 500, "ä" * 26, "-1"):
        assert id_of(other) is None
