"""The outcome of an attempt, judged by its reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from werkzeug.http import parse_date

from ..retry import RetryOptions
from ..states import Record, State
from ..times import LONGEST, plural
from ..urls import redacted
from .verdict import Reply, Verdict

RETRY_AFTER_CAP = 3600.0
"""The longest Retry-After that is honoured, in seconds.

Retry options with longer waits of their own raise it.
"""

_LONGEST_ASKED = 365 * 86_400.0
_LONGEST_RETRY_AFTER = 100
"""The number of characters that are read; a date has thirty."""

ROLL_OUT = timedelta(hours=1)
"""The longest time until a release has reached every process.

Until then, a task that this release does not know may belong to the other one.
"""

HTTPS_REMEDY = (
    "set TASKQUEUE_BASE_URL to its https address; in process PREFERRED_URL_SCHEME = 'https' is "
    "enough"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attempt, to be recorded.

    ``delay`` is in seconds from the end of the attempt, for a task that is tried again.
    ``retry_after`` is the number of seconds that a 429 or 503 named: its receiver asks for less of
    everything. ``receiver_works`` tells whether the receiver answered as one that works, with any
    status below 500; it is None if the attempt does not show it.
    """

    state: State
    reason: str
    status: int | None = None
    error: str | None = None
    delay: float | None = None
    executed: bool = True
    retry_after: float | None = None
    receiver_works: bool | None = None


Death = tuple[Record, Outcome]
"""A task that gave up, and how it ended."""

_USUAL = {
    403: ". Over HTTP the reason may be that the web processes have another SECRET_KEY, or a clock "
    "more than five minutes off",
    429: " (Flask-Limiter: @limiter.request_filter on a function that returns "
    "tasks.is_task_request())",
}
"""What else is usual, by the status that something other than the view has sent."""

_HOPES = {
    "no-route": ", because another release may have one",
    "misfit": " for an hour, because the handler of another release may be one that it fits",
}
"""Why a task that this release cannot run is attempted again, by the kind of the verdict."""


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """The facts about an attempt, beside its reply, that `judge` needs.

    ``number`` counts from 1; ``age`` is the time since the first attempt began.
    """

    number: int
    age: timedelta
    retry: RetryOptions
    now: datetime
    random: Callable[[], float]


def judge(reply: Reply, verdict: Verdict | None, attempt: AttemptContext) -> Outcome:
    """Return the outcome of a delivery, by its reply and by the verdict on its view.

    It is a success if the view returned a 2xx and a 2xx went out, or if the handler's transaction
    is committed, whatever went out. Everything else is a failed attempt, even a 2xx without a
    verdict. App Engine's retry policy decides what follows a failed attempt (see `RetryOptions`).
    """
    succeeded = judge_success(reply, verdict)
    if succeeded is not None:
        return succeeded
    is_misfit = verdict is not None and verdict.kind == "misfit" and attempt.age >= ROLL_OUT
    if verdict is not None and (verdict.kind == "permanent" or is_misfit) and reply.kind == "reply":
        return Outcome(State.DEAD, "permanent", status=verdict.status, error=verdict.error)
    if reply.kind == "refused":
        return Outcome(State.DEAD, "permanent", error=reply.error, executed=False)
    return _failed(reply, verdict, attempt)


def judge_success(reply: Reply, verdict: Verdict | None) -> Outcome | None:
    """Return the outcome of a delivery that succeeded; None if it did not."""
    if verdict is None:
        return None
    if verdict.committed:
        return success(verdict.status)
    went_out = reply.kind == "reply" and reply.status is not None and 200 <= reply.status < 300
    return success(reply.status) if went_out and verdict.is_success else None


@lru_cache(maxsize=128)
def success(status: int | None) -> Outcome:
    """Return the outcome of a success."""
    return Outcome(State.SUCCEEDED, "success", status=status, receiver_works=True)


def permanent(error: str) -> Outcome:
    """Return the outcome of a task that cannot be delivered at all."""
    return Outcome(State.DEAD, "permanent", error=error, executed=False)


def _failed(reply: Reply, verdict: Verdict | None, attempt: AttemptContext) -> Outcome:
    answered = reply.kind == "reply"
    status = _status(reply, verdict) if answered else None
    reason, error = "failure" if answered else reply.kind, explain(reply, verdict)
    works = answered and reply.status is not None and reply.status < 500
    failed = Outcome(
        State.SCHEDULED,
        reason,
        status,
        error,
        executed=status is not None,
        receiver_works=works,
    )
    if reply.severed:  # never twice in a row, because a new connection is made after this
        return replace(failed, status=None, delay=0.0, executed=False, receiver_works=None)
    asked = answered and verdict is not None and verdict.kind == "retry"
    wait = retry_after(_retry_after(reply, verdict), attempt.now) if answered else None
    if wait is not None and status in (429, 503) and not asked:
        failed = replace(
            failed, retry_after=min(wait, _LONGEST_ASKED), receiver_works=works or None
        )
    if not (_is_rolling_out(verdict, attempt) or attempt.retry.allows(attempt.number, attempt.age)):
        gave_up = f"{error} (gave up after {plural(attempt.number, 'attempt')})"
        return replace(failed, state=State.DEAD, error=gave_up)
    if verdict is not None and verdict.kind in _HOPES:
        failed = replace(failed, error=f"{error}; it is attempted again{_HOPES[verdict.kind]}")
    if asked and wait is not None:
        return replace(failed, delay=wait)
    delay = attempt.retry.delay(attempt.number, attempt.random).total_seconds()
    if wait is not None:
        delay = max(delay, min(wait, max(RETRY_AFTER_CAP, attempt.retry.max_backoff_seconds)))
    return replace(failed, delay=delay)


def _is_rolling_out(verdict: Verdict | None, attempt: AttemptContext) -> bool:
    """Return whether the task may belong to another release that is not everywhere yet."""
    return verdict is not None and verdict.kind in _HOPES and attempt.age < ROLL_OUT


def _status(reply: Reply, verdict: Verdict | None) -> int | None:
    """Return the status that explains the failure.

    It is the view's own, unless the view succeeded and something else went out.
    """
    if verdict is None or verdict.status is None or verdict.is_success:
        return reply.status
    return verdict.status


def _retry_after(reply: Reply, verdict: Verdict | None) -> str:
    by_view = (
        verdict is not None and verdict.kind in ("returned", "retry") and not verdict.is_success
    )
    given = (
        verdict.retry_after if verdict is not None and by_view else reply.headers.get("retry-after")
    )
    return given or ""


def retry_after(text: str, now: datetime) -> float | None:
    """Return the seconds a Retry-After asks for (RFC 9110, 10.2.3); None if it cannot be read."""
    text = text.strip()[:_LONGEST_RETRY_AFTER]
    if not text:
        return None
    try:
        return min(max(0.0, float(text)), LONGEST)
    except ValueError:
        pass
    try:
        at = parse_date(text)
    except OverflowError:
        return None
    return None if at is None else max(0.0, (at - now).total_seconds())


def explain(reply: Reply, verdict: Verdict | None) -> str:
    """Return a sentence that says why a delivery is not a success."""
    if reply.kind != "reply":
        return reply.error or f"no reply: {reply.kind}"
    if verdict is None:
        return _unseen(reply)
    if verdict.kind == "no-route":
        elsewhere = f", only at {redacted(verdict.error)}" if verdict.error else ""
        return (
            f"this release of the app has no route for the task{elsewhere} (the reply was "
            f"{reply.status})"
        )
    if verdict.is_success:
        what = reply.error or verdict.error or f"the reply that went out was {reply.status}"
        return (
            f"the handler returned {verdict.status}, but what came after it (after_request, the "
            f"session, middleware) failed: {what}"
        )
    return verdict.error or _of_status(reply, verdict.status)


def _unseen(reply: Reply) -> str:
    """Return why nothing shows that the view ran."""
    if reply.error is not None:
        return reply.error
    status = reply.status or 0
    if 300 <= status < 400:
        secure = reply.headers.get("location", "").startswith("https://")
        return (
            f"{_of_status(reply, status)}. If a before_request hook (a login, say) caused it, "
            "exempt tasks there: if tasks.is_task_request(): return"
        ) + (f". If the app sends plain requests to https, {HTTPS_REMEDY}" if secure else "")
    if not 200 <= status < 300 and not 400 <= status < 500:
        return _of_status(reply, status)
    return (
        f"the reply was {status}, but the task's view did not run: a before_request hook, an "
        "error handler or something in front "
        "of the app answered in its place. Let tasks pass there: if "
        f"tasks.is_task_request(): return{_USUAL.get(status, '')}"
    )


def _of_status(reply: Reply, status: int | None) -> str:
    place = reply.headers.get("location")
    if status is not None and 300 <= status < 400 and place is not None:
        return (
            f"the reply was {status}, a redirect to {redacted(place)}: redirects are not followed"
        )
    return f"the reply was {status}"
