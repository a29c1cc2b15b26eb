"""What a reply means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from flask_taskqueue import RetryOptions, State
from flask_taskqueue.core.outcome import Trial, judge, retry_after
from flask_taskqueue.core.reply import Reply

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def reply(status: int | None = 200, **headers: str) -> Reply:
    """A reply with headers; underscores stand for hyphens."""
    return Reply(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=b"")


def trial(number: int = 1, age: float = 0, **options: object) -> Trial:
    """An attempt under the options of a retry law."""
    law = RetryOptions.of(options)
    assert law is not None
    return Trial(number=number, age=timedelta(seconds=age), retry=law, now=NOW, random=lambda: 0.5)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_success(status: int) -> None:
    """And nothing follows."""
    outcome = judge(reply(status), trial())
    assert (outcome.state, outcome.status, outcome.delay, outcome.error) == (State.SUCCEEDED, status, None, None)


@pytest.mark.parametrize("status", [199, 300, 302, 400, 404, 410, 422, 429, 500, 503])
def test_all_else_is_tried_again(status: int) -> None:
    """A failed attempt is scheduled after the law's wait."""
    outcome = judge(reply(status), trial(number=3))
    assert (outcome.state, outcome.status, outcome.delay) == (State.SCHEDULED, status, pytest.approx(0.4))


def test_a_redirect_says_what_to_do() -> None:
    """It is the usual trace of a login hook; the query of the address may hold a secret."""
    outcome = judge(reply(302, location="/login?next=secret"), trial())
    assert outcome.error is not None
    assert "is_task_request" in outcome.error
    assert "/login" in outcome.error
    assert "secret" not in outcome.error


def test_exhausted_retries_are_death() -> None:
    """With the reason, and how often it was tried."""
    outcome = judge(reply(500), trial(number=3, task_retry_limit=2))
    assert outcome.state is State.DEAD
    assert outcome.error == "the reply was 500 (gave up after 3 attempts)"


def test_a_permanent_failure_is_death_at_once() -> None:
    """Whatever tries are left."""
    outcome = judge(reply(422, x_taskqueue_outcome="permanent", x_taskqueue_error="no such user"), trial())
    assert (outcome.state, outcome.error) == (State.DEAD, "no such user")


def test_an_error_page_with_200_is_a_failure() -> None:
    """An application's error handler may answer 200 for an exception; the handler failed all the same."""
    outcome = judge(reply(200, x_taskqueue_outcome="error", x_taskqueue_error="ValueError: x"), trial())
    assert (outcome.state, outcome.error) == (State.SCHEDULED, "ValueError: x")


@pytest.mark.parametrize("kind", ["timeout", "connection", "tls"])
def test_no_reply_is_a_failure_that_was_not_executed(kind: str) -> None:
    """It does not count among the executions that got a reply."""
    outcome = judge(Reply(status=None, headers={}, body=b"", error="why", kind=kind), trial())  # type: ignore[arg-type]
    assert (outcome.state, outcome.reason, outcome.executed, outcome.error) == (State.SCHEDULED, kind, False, "why")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("5", 5.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("nan", 0.0),
        ("soon", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Thu, 99 Foo 2026", None),
    ],
)
def test_retry_after_is_read(text: str, seconds: float | None) -> None:
    """As seconds or as a date; what cannot be read is as if it were not there."""
    assert retry_after({"retry-after": text}, NOW) == seconds


def test_retry_after_lengthens_the_wait_up_to_a_cap() -> None:
    """It is never shortened by it, unless the handler itself asked."""
    assert judge(reply(503, retry_after="20"), trial()).delay == 20
    assert judge(reply(503, retry_after="0"), trial(number=5)).delay == pytest.approx(1.6)
    assert judge(reply(503, retry_after="999999"), trial()).delay == 3600
    assert judge(reply(503, retry_after="inf"), trial()).delay == 3600
    assert judge(reply(503, retry_after="0", x_taskqueue_outcome="retry"), trial(number=5)).delay == 0
