"""What a reply means for its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

from .reply import Reply
from .retry import RetryOptions
from .states import State
from .urls import redacted

VERDICT_HEADER = "x-taskqueue-outcome"
ERROR_HEADER = "x-taskqueue-error"
RETRY_AFTER_CAP = 3600.0
"""The longest Retry-After that is honoured, in seconds, unless the retry options wait longer themselves."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be recorded of an attempt.

    ``delay`` is in seconds from the end of the attempt, for a task that is tried again. ``slows``
    says that the reply asked for less of everything in the queue: 429 or 503, with Retry-After.
    """

    state: State
    reason: str
    status: int | None = None
    error: str | None = None
    delay: float | None = None
    executed: bool = True
    slows: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """What `judge` needs to know of an attempt beside its reply.

    ``number`` counts from 1; ``age`` is the time since the first attempt began.
    """

    number: int
    age: timedelta
    retry: RetryOptions
    now: datetime
    random: Callable[[], float]


def judge(reply: Reply, trial: Trial) -> Outcome:
    """The outcome of a reply: any 2xx is success, all else a failed attempt.

    Redirects are failures: they were never followed. The law of what follows a failed attempt is
    App Engine's (see `RetryOptions`).
    """
    if is_success(reply):
        return success(reply)
    verdict = reply.headers.get(VERDICT_HEADER)
    if verdict == "permanent" or reply.kind == "refused":
        return Outcome(State.DEAD, "permanent", status=reply.status, error=explain(reply), executed=reply.status is not None)
    return _failed(reply, trial, asked=verdict == "retry")


def is_success(reply: Reply) -> bool:
    """Whether a reply is a 2xx that its handler meant."""
    return reply.kind == "reply" and reply.status is not None and 200 <= reply.status < 300 and VERDICT_HEADER not in reply.headers


def success(reply: Reply) -> Outcome:
    """The outcome of a success."""
    return _success(reply.status)


@lru_cache(maxsize=128)
def _success(status: int | None) -> Outcome:
    return Outcome(State.SUCCEEDED, "success", status=status)


def permanent(error: str) -> Outcome:
    """The outcome of a task that cannot be delivered at all."""
    return Outcome(State.DEAD, "permanent", error=error, executed=False)


def _failed(reply: Reply, trial: Trial, *, asked: bool) -> Outcome:
    reason = "failure" if reply.kind == "reply" else reply.kind
    error = explain(reply)
    if not trial.retry.allows(trial.number, trial.age):
        gave_up = f"{error} (gave up after {trial.number} attempt{'s' if trial.number > 1 else ''})"
        return Outcome(State.DEAD, reason, reply.status, gave_up, executed=reply.status is not None)
    delay = trial.retry.delay(trial.number, trial.random).total_seconds()
    wanted = retry_after(reply.headers, trial.now)
    if wanted is not None:
        wanted = min(wanted, max(RETRY_AFTER_CAP, trial.retry.max_backoff_seconds))
        delay = wanted if asked else max(delay, wanted)
    slows = wanted is not None and not asked and reply.status in (429, 503)
    return Outcome(State.SCHEDULED, reason, reply.status, error, delay, executed=reply.status is not None, slows=slows)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds a Retry-After header asks for (RFC 9110, 10.2.3); None without one that can be read."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (TypeError, ValueError):
        return None


def explain(reply: Reply) -> str:
    """One sentence that says why a reply is not a success."""
    if reply.error is not None:
        return reply.error
    told = reply.headers.get(ERROR_HEADER)
    if told:
        return told
    if reply.status is not None and 300 <= reply.status < 400:
        place = redacted(reply.headers.get("location", "elsewhere"))
        return (
            f"the reply was {reply.status}, a redirect to {place}: redirects are not followed. If a "
            "before_request hook (a login, say) caused it, exempt tasks there: if tasks.is_task_request(): return"
        )
    return f"the reply was {reply.status}"
