"""The retry policy."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue import InvalidTaskRetryOptionsError, RetryOptions

VECTORS = json.loads((Path(__file__).parent / "vectors/retry.json").read_text())
NAMES = {
    "min_backoff_sec": "min_backoff_seconds",
    "max_backoff_sec": "max_backoff_seconds",
    "max_doublings": "max_doublings",
    "retry_limit": "task_retry_limit",
    "age_limit_sec": "task_age_limit",
}


def options(params: Any) -> RetryOptions:
    """The options of a vector."""
    return (
        RetryOptions()
        if params == "DEFAULT"
        else RetryOptions(**{NAMES[name]: value for name, value in params.items()})
    )


@pytest.mark.parametrize("vector", VECTORS["backoff"], ids=lambda vector: str(vector["params"]))
def test_backoff_is_app_engines(vector: dict[str, Any]) -> None:
    """The first twenty waits are those that App Engine's own code computed."""
    law = options(vector["params"])
    waits = [law.backoff(retry).total_seconds() for retry in range(1, 21)]
    assert waits == pytest.approx(vector["backoff_sec_for_retry_1_to_20"])


@pytest.mark.parametrize("vector", VECTORS["limits"], ids=lambda vector: str(vector["params"]))
def test_limits_are_app_engines(vector: dict[str, Any]) -> None:
    """With both limits tries go on until both are exhausted."""
    law = options(vector["params"])
    for case, allowed in vector["can_retry"].items():
        retry, _, age = case.removeprefix("retry").partition("@")
        assert law.allows(int(retry), timedelta(seconds=float(age.removesuffix("s")))) is allowed, (
            case
        )


def test_any_limit_ends_it_when_asked() -> None:
    """limits="any" stops at whichever limit is reached first."""
    law = RetryOptions(task_retry_limit=2, task_age_limit=60, limits="any")
    assert law.allows(2, timedelta(seconds=60))
    assert not law.allows(3, timedelta(seconds=0))
    assert not law.allows(1, timedelta(seconds=61))


@pytest.mark.parametrize("retry", [10_000, 10**9])
def test_backoff_never_overflows(retry: int) -> None:
    """However often a task has failed, the wait is finite and capped."""
    assert RetryOptions().backoff(retry) == timedelta(hours=1)
    assert RetryOptions(max_doublings=10**6).backoff(retry) == timedelta(hours=1)


@given(st.integers(0, 40), st.floats(0, 100), st.floats(0, 10_000))
def test_backoff_grows_up_to_its_cap(doublings: int, low: float, extra: float) -> None:
    """No wait is shorter than the one before it, none longer than the cap."""
    law = RetryOptions(
        min_backoff_seconds=low, max_backoff_seconds=low + extra, max_doublings=doublings
    )
    waits = [law.backoff(retry) for retry in range(1, 60)]
    assert waits == sorted(waits)
    assert waits[-1] <= timedelta(seconds=low + extra, microseconds=1)


@given(st.floats(0, 1))
def test_jitter_is_a_part_of_the_wait(chance: float) -> None:
    """Full jitter takes any part of the wait, and only when asked for."""
    law = RetryOptions(min_backoff_seconds=10, jitter=True)
    assert timedelta() <= law.delay(3, lambda: chance) <= law.backoff(3)
    assert RetryOptions(min_backoff_seconds=10).delay(3, lambda: chance) == law.backoff(3)


def test_a_single_backoff_beyond_the_other_moves_it() -> None:
    """As in queue.yaml, only a minimum above 3600 s raises the maximum, only a maximum below
    0.1 s lowers the minimum.
    """
    assert RetryOptions(min_backoff_seconds=7200).max_backoff_seconds == 7200
    assert RetryOptions(max_backoff_seconds=0.05).min_backoff_seconds == 0.05


@pytest.mark.parametrize(
    ("given_options", "word"),
    [
        ({"task_retry_limit": -1}, "task_retry_limit"),
        ({"task_retry_limit": 1.5}, "task_retry_limit"),
        ({"task_age_limit": "soon"}, "task_age_limit"),
        ({"min_backoff_seconds": -1}, "min_backoff_seconds"),
        ({"min_backoff_seconds": 10, "max_backoff_seconds": 5}, "more than max_backoff_seconds"),
        ({"max_doublings": -2}, "max_doublings"),
        ({"limits": "either"}, "limits"),
        ({"max_backoff": 5}, "no retry option 'max_backoff'"),
    ],
)
def test_bad_options_are_refused_by_name(given_options: dict[str, Any], word: str) -> None:
    """An option that is unknown, negative or contradicts another is refused with its name."""
    with pytest.raises(InvalidTaskRetryOptionsError, match=word):
        RetryOptions.of(given_options)


@given(
    st.none() | st.integers(0, 100),
    st.none() | st.floats(0, 1e6),
    st.integers(0, 30),
    st.sampled_from(["both", "any"]),
    st.booleans(),
)
def test_options_survive_being_stored(
    limit: int | None, age: float | None, doublings: int, limits: Any, jitter: bool
) -> None:
    """What is written to the table is what is read from it."""
    law = RetryOptions(
        task_retry_limit=limit,
        task_age_limit=age,
        max_doublings=doublings,
        limits=limits,
        jitter=jitter,
    )
    assert RetryOptions.from_json(law.to_json()) == law


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"task_retry_limit": "3"}',
        '{"min_backoff_seconds": NaN}',
        '{"x": 1}',
        "null",
    ],
)
def test_stored_options_that_make_no_sense_are_refused(text: str) -> None:
    """A row written by hand gives one kind of error, whatever is in it."""
    with pytest.raises(InvalidTaskRetryOptionsError):
        RetryOptions.from_json(text)
