"""Durations: nothing that is taken leads out of the calendar, or out of what a database can
hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from click.testing import Result

from flask_taskqueue import (
    ConfigurationError,
    InvalidTaskRetryOptionsError,
    Retry,
    Settings,
    State,
    TaskQueueError,
)
from flask_taskqueue.core.delivery.outcome import retry_after
from flask_taskqueue.core.durations import seconds
from flask_taskqueue.core.queues.rates import parse_rate
from flask_taskqueue.core.times import LONGEST
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench
from tests.databases import TestDatabase

TOO_LONG: list[Any] = [
    timedelta.max,
    timedelta(days=36_526),
    LONGEST + 1,
    1e18,
    1e300,
    2**63,
    10**400,
    "99999999d",
    "9" * 400 + "d",
]
NONE: list[Any] = [
    math.nan,
    -math.inf,
    timedelta.min,
    -1e300,
    -(10**400),
    "soon",
    "1e5",
    "inf",
    True,
    b"5",
    [5],
]
NAMES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "expires": lambda value: {"expires": value},
    "countdown": lambda value: {"countdown": value},
    "deadline": lambda value: {"deadline": value},
    "debounce": lambda value: {"unique_key": "a", "on_conflict": "debounce", "countdown": value},
    **{
        name: lambda value, name=name: {"retry": {name: value}}  # type: ignore[misc]
        for name in ("task_age_limit", "min_backoff_seconds", "max_backoff_seconds")
    },
}


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application with a handler."""
    with bench(database.url, TASKQUEUE_MAX_ETA="3650d") as one:
        one.tasks.worker("/w")(lambda: None)
        yield one


@pytest.mark.parametrize("value", [*TOO_LONG, *(one for one in NONE if one != -math.inf)])
def test_a_duration_has_an_end(value: Any) -> None:
    """What is longer, and what is none, is refused with a sentence that names it."""
    with pytest.raises(ConfigurationError, match="lease is "):
        seconds(value, what="lease")


@pytest.mark.parametrize("value", [LONGEST, timedelta(days=36_525), "36525d"])
def test_a_duration_may_be_long(value: Any) -> None:
    """A hundred years, or infinite."""
    assert seconds(value, what="lease") == LONGEST
    assert seconds(math.inf, what="lease") == math.inf


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_reckoned_with_is_refused_at_the_call(queue: Bench, name: str) -> None:
    """Nothing is stored; what is just taken is, and can be looked at and run."""
    for value in (*TOO_LONG, *NONE, math.inf):
        with pytest.raises(TaskQueueError, match=" "):
            queue.tasks.add("/w", **NAMES[name](value))
    assert queue.tasks.find() == []


def test_an_expiry_may_be_anywhere_in_the_calendar(queue: Bench) -> None:
    """As an instant; as a duration, up to a hundred years away. A task whose expiry is past is
    cancelled.
    """
    zones = [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))]
    far = [queue.tasks.add("/w", expires=datetime.max.replace(tzinfo=zone)) for zone in zones]
    far += [
        queue.tasks.add("/w", expires=one) for one in (LONGEST, timedelta(days=36_000), "36525d")
    ]
    past = [queue.tasks.add("/w", expires=datetime.min.replace(tzinfo=zone)) for zone in zones]
    queue.tasks.drain()
    assert {queue.tasks.get(one.id).state for one in far} == {State.SUCCEEDED}
    assert {queue.tasks.get(item.id).state for item in past} == {State.CANCELLED}


@pytest.mark.parametrize("value", [*TOO_LONG, *NONE, math.inf, -1, "10m"])
def test_a_retry_after_no_time_is_refused(value: Any) -> None:
    """Where it is raised; the handler has then failed with that sentence."""
    with pytest.raises(
        InvalidTaskRetryOptionsError, match=r"after is .*; it must be seconds or a timedelta"
    ):
        Retry(after=value)


def test_the_longest_retry_is_recorded(queue: Bench) -> None:
    """And one that is refused is retried by the law."""

    @queue.tasks.worker("/later")
    def later(wrong: bool) -> None:
        raise Retry(after=1e300 if wrong else LONGEST)

    right, wrong = later.add(False), later.add(True)
    queue.tasks.drain()
    due, error = queue.tasks.get(right.id).due_at, queue.tasks.get(wrong.id).last_error
    assert due is not None
    assert due - right.created_at >= timedelta(days=36_524)
    assert "after is 1e+300" in str(error)


@pytest.mark.parametrize("text", ["1e300", "inf", "9" * 400])
def test_a_header_asks_for_no_longer(text: str) -> None:
    """Whoever writes it."""
    assert retry_after(text, datetime.now(UTC)) == LONGEST
    assert retry_after("nan", datetime.now(UTC)) == 0.0


@pytest.mark.parametrize("value", TOO_LONG)
def test_settings_have_an_end(value: Any) -> None:
    """But what is infinite is said so."""
    for key in (
        "KEEP_SUCCEEDED",
        "KEEP_DEAD",
        "HEALTH_MAX_LATENCY",
        "DEADLINE",
        "LEASE",
        "MAX_ETA",
    ):
        with pytest.raises(ConfigurationError, match=f"TASKQUEUE_{key} is "):
            Settings.of({"SECRET_KEY": "k" * 16, f"TASKQUEUE_{key}": value})


@pytest.mark.parametrize(
    "text", ["9" * 400 + "/s", "1000001/s", "0.000001/d", "0." + "0" * 300 + "1/d"]
)
def test_rates_have_ends(text: str) -> None:
    """A wait for the next token is a duration."""
    with pytest.raises(ConfigurationError, match="a hundred years"):
        parse_rate(text, what="rate")


def test_who_waits_and_looks_says_how_long(queue: Bench) -> None:
    """In `wait`, `find` and `advance`, and on the command line."""
    task = queue.tasks.add("/w")
    for value in (*TOO_LONG, math.nan, "soon"):
        with pytest.raises(ConfigurationError, match="timeout is "):
            task.wait(value)
    with pytest.raises(ConfigurationError, match="since is "):
        queue.tasks.find(since=timedelta.max)
    commands = (
        "add /w --countdown",
        "add /w --expires",
        "add /w --deadline",
        "prune --yes --older-than",
        "list --since",
    )
    for words in (*commands, "health --max-latency"):
        result: Result = queue.app.test_cli_runner().invoke(
            args=["taskqueue", *words.split(), "99999999999d"]
        )
        assert result.exit_code == 2, (words, result.output, result.exception)
    assert len(queue.tasks.find()) == 1
    with TaskQueueTester(queue.app) as tester:
        for value in (*TOO_LONG, math.inf, math.nan, -1):
            with pytest.raises(ConfigurationError, match="the time to advance is "):
                tester.advance(value)
