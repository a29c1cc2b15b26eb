"""What a reply means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from flask_taskqueue import RetryOptions, State
from flask_taskqueue.core.delivery.outcome import AttemptContext, Outcome, judge, retry_after
from flask_taskqueue.core.delivery.verdict import Reply, Verdict, of_reply, raised

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def reply(status: int | None = 200, **headers: str) -> Reply:
    """A reply with headers; underscores stand for hyphens."""
    return Reply(
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=b"",
    )


def trial(number: int = 1, age: float = 0, **options: object) -> AttemptContext:
    """An attempt under the options of a retry policy."""
    law = RetryOptions.of(options)
    assert law is not None
    return AttemptContext(
        number=number, age=timedelta(seconds=age), retry=law, now=NOW, random=lambda: 0.5
    )


def elsewhere(answer: Reply, attempt: AttemptContext) -> Outcome:
    """The outcome of a delivery to another host."""
    return judge(answer, of_reply(answer), attempt)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_of_another_host_is_success(status: int) -> None:
    """And nothing follows."""
    outcome = elsewhere(reply(status), trial())
    assert (outcome.state, outcome.status, outcome.delay, outcome.error) == (
        State.SUCCEEDED,
        status,
        None,
        None,
    )


@pytest.mark.parametrize("status", [199, 300, 302, 400, 404, 410, 422, 429, 500, 503])
def test_all_else_is_tried_again(status: int) -> None:
    """A failed attempt is scheduled after the law's wait."""
    outcome = elsewhere(reply(status), trial(number=3))
    assert (outcome.state, outcome.status, outcome.delay) == (
        State.SCHEDULED,
        status,
        pytest.approx(0.4),
    )


def test_a_redirect_says_what_to_do() -> None:
    """It is the usual trace of a login hook; the query of the address may hold a secret."""
    outcome = judge(reply(302, location="/login?next=secret"), None, trial())
    assert outcome.error is not None
    assert "is_task_request" in outcome.error
    assert "/login" in outcome.error
    assert "secret" not in outcome.error


def test_a_403_names_the_secret_and_the_clock() -> None:
    """The guard of worker routes sends one, so a hook is not all that there is to look for."""
    error = str(judge(reply(403), None, trial()).error)
    assert "SECRET_KEY" in error
    assert "clock" in error
    assert "SECRET_KEY" not in str(judge(reply(404), None, trial()).error)


@pytest.mark.parametrize("verdict", [of_reply(reply(302)), Verdict("returned", 302)])
def test_no_hook_of_the_app_is_blamed_for_a_redirect_that_is_not_its_own(verdict: Verdict) -> None:
    """For one of another host, or one that the view itself has returned."""
    error = str(judge(reply(302, location="/elsewhere"), verdict, trial()).error)
    assert "a redirect to /elsewhere" in error
    assert "before_request" not in error
    assert "redirect" not in str(judge(reply(304), verdict, trial()).error)


def test_exhausted_retries_are_death() -> None:
    """With the reason, and how often it was tried."""
    outcome = elsewhere(reply(500), trial(number=3, task_retry_limit=2))
    assert outcome.state is State.DEAD
    assert outcome.error == "the reply was 500 (gave up after 3 attempts)"


def test_a_permanent_failure_is_death_at_once() -> None:
    """Whatever tries are left, and whatever the reply became on its way out."""
    outcome = judge(reply(200), Verdict("permanent", 422, "no such user"), trial())
    assert (outcome.state, outcome.status, outcome.error) == (State.DEAD, 422, "no such user")


def test_an_error_page_with_200_is_a_failure() -> None:
    """An application's error handler may answer 200 for an exception; the handler failed all
    the same.
    """
    outcome = judge(reply(200), raised(ValueError("x")), trial())
    assert (outcome.state, outcome.error) == (State.SCHEDULED, "ValueError: x")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (None, "the task's view did not run"),
        (Verdict("no-route"), "this release of the app has no route"),
        (Verdict("returned", 500), "the reply was 500"),
        (Verdict("retry", 503, "not yet"), "not yet"),
        (Verdict("lost", 409, "the lease was lost"), "the lease was lost"),
    ],
)
def test_a_2xx_without_a_view_that_returned_one_is_a_failure(
    verdict: Verdict | None, words: str
) -> None:
    """The status alone proves nothing of the app's own handlers."""
    outcome = judge(reply(200), verdict, trial())
    assert outcome.state is State.SCHEDULED
    assert words in str(outcome.error)


def test_what_a_view_returned_must_go_out() -> None:
    """A 2xx that something behind the view turns into an error is none."""
    outcome = judge(reply(500), Verdict("returned", 204), trial())
    assert (outcome.state, outcome.status) == (State.SCHEDULED, 500)
    assert "the handler returned 204, but what came after it" in str(outcome.error)


@pytest.mark.parametrize(
    "answer", [reply(500), Reply(status=None, headers={}, body=b"", kind="timeout", error="late")]
)
def test_what_is_committed_is_done(answer: Reply) -> None:
    """Whatever goes out then, or does not: the handler's transaction has the end of the attempt
    in it.
    """
    outcome = judge(answer, Verdict("returned", 204, committed=True), trial())
    assert (outcome.state, outcome.status) == (State.SUCCEEDED, 204)


def test_headers_of_another_host_decide_nothing() -> None:
    """Not whether it is tried again, not how soon, however they are called."""
    hostile = {
        "x_taskqueue_verdict": '{"kind":"retry","retry_after":"0"}',
        "x_taskqueue_outcome": "retry",
        "retry_after": "0",
    }
    outcome = elsewhere(reply(500, **hostile), trial(number=5))
    assert outcome.delay == pytest.approx(1.6)


@pytest.mark.parametrize("kind", ["timeout", "connection", "tls"])
def test_no_reply_is_a_failure_that_was_not_executed(kind: str) -> None:
    """It does not count among the executions that got a reply."""
    outcome = elsewhere(Reply(status=None, headers={}, body=b"", error="why", kind=kind), trial())  # type: ignore[arg-type]
    assert (outcome.state, outcome.reason, outcome.executed, outcome.error) == (
        State.SCHEDULED,
        kind,
        False,
        "why",
    )


def test_a_kept_connection_that_broke_counts_but_is_not_held_against_the_task() -> None:
    """It is attempted again at once, whatever its limits."""
    answer = Reply(status=None, headers={}, body=b"", error="why", kind="connection", severed=True)
    outcome = elsewhere(answer, trial(number=7, task_retry_limit=0))
    assert (outcome.state, outcome.reason, outcome.delay, outcome.executed) == (
        State.SCHEDULED,
        "connection",
        0.0,
        False,
    )


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
        ("Mon, 01 Jan 2030 00:00:00 +99999999999999", None),
        ("Thu Jan  1 00:01:30 2026", 90.0),
        ("Thursday, 01-Jan-26 00:01:30 GMT", 90.0),
    ],
)
def test_retry_after_is_read(text: str, seconds: float | None) -> None:
    """As seconds or as a date; what cannot be read is as if it were not there."""
    assert retry_after(text, NOW) == seconds


def test_retry_after_lengthens_the_wait_up_to_a_cap() -> None:
    """It is never shortened by it, unless the handler itself asked."""
    assert elsewhere(reply(503, retry_after="20"), trial()).delay == 20
    assert elsewhere(reply(503, retry_after="0"), trial(number=5)).delay == pytest.approx(1.6)
    assert elsewhere(reply(503, retry_after="999999"), trial()).delay == 3600
    assert elsewhere(reply(503, retry_after="inf"), trial()).delay == 3600
    assert judge(reply(503), Verdict("retry", 503, "not yet", "0"), trial(number=5)).delay == 0
    assert judge(reply(503), Verdict("retry", 503, "not yet", "86400"), trial()).delay == 86400


@pytest.mark.parametrize("kind", ["misfit", "no-route"])
def test_what_another_release_may_know_is_not_given_up_for_an_hour(kind: Any) -> None:
    """Whatever the task's limits; then a misfit is dead at once, and what has no route goes by
    its limits.
    """
    verdict = Verdict(kind, 422, "parameter 'n' is missing")
    early = judge(reply(422), verdict, trial(number=3, age=3599, task_retry_limit=0))
    assert (early.state, early.reason) == (State.SCHEDULED, "failure")
    assert "it is attempted again" in str(early.error)
    late = judge(reply(422), verdict, trial(number=3, age=3600, task_retry_limit=0))
    assert "attempted again" not in str(late.error)
    assert (late.state, late.reason) == (State.DEAD, "permanent" if kind == "misfit" else "failure")
    unlimited = judge(reply(422), verdict, trial(number=3, age=3600))
    assert unlimited.state == (State.DEAD if kind == "misfit" else State.SCHEDULED)
