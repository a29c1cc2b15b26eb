"""The settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from flask import Flask

from flask_taskqueue import ConfigurationError, RetryOptions, Settings, TaskQueue


def test_defaults_need_no_key() -> None:
    """An empty configuration is a good one; the queue default exists and gives up after 30 days."""
    settings = Settings.of({"DEBUG": True})
    assert (settings.concurrency, settings.lease, settings.deadline, settings.grace_period) == (
        8,
        30,
        30,
        25,
    )
    assert list(settings.queues) == ["default"]
    assert settings.retry == RetryOptions(task_age_limit="30d")


def test_durations_may_be_texts_and_none_is_the_default() -> None:
    """Seconds or "10m"; a key set to None is as if left out."""
    settings = Settings.of({"TASKQUEUE_DEADLINE": "10m", "TASKQUEUE_LEASE": None})
    assert (settings.deadline, settings.lease) == (600, 30)


def test_queues_have_settings_of_their_own() -> None:
    """The queue default need not be named."""
    settings = Settings.of(
        {"TASKQUEUE_QUEUES": {"mail": {"deadline": 60, "retry": {"task_retry_limit": 3}}}}
    )
    assert set(settings.queues) == {"default", "mail"}
    assert settings.queues["mail"].retry == RetryOptions(task_retry_limit=3)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("TASKQUEUE_CONCURENCY", 4, "did you mean TASKQUEUE_CONCURRENCY"),
        ("TASKQUEUE_CONCURRENCY", 0, "from 1 to 1000"),
        ("TASKQUEUE_CONCURRENCY", True, "whole number"),
        ("TASKQUEUE_LEASE", "soon", "TASKQUEUE_LEASE"),
        ("TASKQUEUE_LEASE", 0.5, "from 1 to 3600"),
        ("TASKQUEUE_DISPATCHER", "yes", "'auto' or 'on' or 'off'"),
        ("TASKQUEUE_TRANSPORT", "https", "'wsgi' or 'http'"),
        ("TASKQUEUE_BASE_URL", "127.0.0.1:5000", "http://|https://"),
        ("TASKQUEUE_BASE_URL", "http://u:p@h/", "without user"),
        ("TASKQUEUE_BASE_URL", "http://h:99999", "a port that there can be"),
        ("TASKQUEUE_BASE_URL", "http://[", "with a host"),
        ("TASKQUEUE_BASE_URL", "http://x y", "with a host"),
        ("TASKQUEUE_BASE_URL", "http://h/#a", "without user"),
        ("TASKQUEUE_QUEUES", {"mail": {"target": "http://h:99999"}}, "a port that there can be"),
        ("TASKQUEUE_HEADERS", [[]], "a list of some of"),
        ("TASKQUEUE_QUEUE_YAML", "\0", "a text"),
        ("TASKQUEUE_ALLOWED_HOSTS", {"example.com": 1}, "list of hosts"),
        ("TASKQUEUE_TARGET_PORTS", b"PQ", "list of ports"),
        ("TASKQUEUE_REDACT", {"token": 1}, "list of texts"),
        ("TASKQUEUE_SECRET", "short", "at least 16"),
        ("TASKQUEUE_ALLOWED_HOSTS", "example.com", "list of hosts"),
        (
            "TASKQUEUE_ALLOWED_HOSTS",
            ["a.example", "http://example.com"],
            r"_HOSTS\[1\] is 'http://example.com'; it must be a host",
        ),
        (
            "TASKQUEUE_ALLOWED_HOSTS",
            ["10.0.0.5/8"],
            r"_HOSTS\[0\] is '10.0.0.5/8'; it must be a host",
        ),
        ("TASKQUEUE_ALLOWED_HOSTS", ["example.com:0"], "'example.com:0'; it must be a host"),
        ("TASKQUEUE_ALLOWED_HOSTS", ["[abc]"], "it must be a host, such as"),
        ("TASKQUEUE_TARGETS", "all", "'internal' or 'allowlist' or 'public'"),
        (
            "TASKQUEUE_TARGET_PORTS",
            [80, 0],
            r"_PORTS\[1\] is 0; it must be a whole number from 1 to 65535",
        ),
        ("TASKQUEUE_QUEUES", ["mail"], "mapping"),
        ("TASKQUEUE_QUEUES", {"my_mail": {}}, "queue name 'my_mail'"),
        ("TASKQUEUE_QUEUES", {"mail": {"deadlin": 5}}, "did you mean deadline"),
        ("TASKQUEUE_QUEUES", {"mail": {"retry": {"task_retry_limit": -1}}}, "task_retry_limit"),
        ("TASKQUEUE_QUEUES", {"mail": 5}, "mapping of settings"),
        ("TASKQUEUE_RETRY", {"limit": 5}, "no retry option 'limit'"),
        ("TASKQUEUE_CREATE_TABLES", "yes", "True or False"),
        ("TASKQUEUE_CREATE_TABLES", "x" * 10**5, "is 'x{199}…; it must be True or False"),
        ("TASKQUEUE_SECRET", "\udcff" * 20, "TASKQUEUE_SECRET must be a text or bytes"),
        ("TASKQUEUE_CRON_YAML", "\udcff", "TASKQUEUE_CRON_YAML is .* a text"),
    ],
)
def test_a_bad_setting_is_refused_by_name(key: str, value: Any, word: str) -> None:
    """Unknown keys with the nearest match, bad values with what they must be."""
    with pytest.raises(ConfigurationError, match=word):
        Settings.of({key: value})


def test_a_secret_never_reaches_an_error() -> None:
    """The value of a secret that is too short is not shown."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.of({"TASKQUEUE_SECRET": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "https://user:hun/ter2@host",
        ["https://user:hun/ter2@h"],
        ["https://h" + "h" * 150, "https://user:hun/ter2" + "2" * 50 + "@h"],
    ],
)
@pytest.mark.parametrize("key", ["BASE_URL", "ALLOWED_HOSTS", "DASHBOARD_TRUSTED_ORIGINS"])
def test_user_information_never_reaches_an_error(key: str, value: Any) -> None:
    """The URL that is refused is shown without it."""
    with pytest.raises(ConfigurationError, match="https://h") as caught:
        Settings.of({f"TASKQUEUE_{key}": value})
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("uri", ["hunter2", "//u:hunter2@h", "postgresql://u:hunter2@h:port/db"])
def test_a_database_that_cannot_be_read_is_refused_at_once(uri: str) -> None:
    """When the application is set up, without the value."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="secret", TASKQUEUE_DATABASE_URI=uri)
    with pytest.raises(ConfigurationError, match="TASKQUEUE_DATABASE_URI cannot be read") as caught:
        TaskQueue(app)
    assert "hunter2" not in str(caught.value)


def test_every_key_has_a_line_of_documentation() -> None:
    """Each is a sentence."""
    for field in fields(Settings):
        assert field.metadata["doc"].endswith("."), field.name
