"""A ping: a delivery that shows whether a worker route is reached, without calling its handler."""

from __future__ import annotations

from ..delivery.outcome import HTTPS_REMEDY
from ..delivery.verdict import Reply, Verdict
from ..states import Record
from .facts import Finding, Level

PING = "__ping__"
"""The queue that a ping claims to belong to.

The name of a real queue has no underscore, so no signature of a ping fits a delivery, or the other
way round.
"""


def ping_record(method: str, url: str) -> Record:
    """Return the row that a ping would have; it is never stored."""
    blank: dict[str, None] = dict.fromkeys(Record._fields)
    given = {
        "id": "ping",
        "queue": PING,
        "method": method,
        "url": url,
        "body": b"",
        "state": "leased",
    }
    numbers = dict.fromkeys(
        (
            "priority",
            "eta",
            "created_at",
            "keep_result",
            "executions",
            "answered",
            "crashes",
            "pardons",
            "for_worker",
        ),
        0,
    )
    return Record(**{**blank, **numbers, **given, "attempts": 1})  # type: ignore[arg-type]


def judge_ping(
    route: str, reply: Reply, verdict: Verdict | None, *, certain: bool = True
) -> Finding:
    """Return what the reply to a ping, and the verdict on it, say about a route.

    The answer is not ``certain`` if the values in the path were made up, because the app may then
    have its reasons to refuse them.
    """
    if verdict is not None and verdict.kind == "ping":
        return Finding("ok", f"{route} is reached by tasks")
    level: Level = "error" if certain else "warning"
    text, remedy, anchor = _explain(reply)
    return Finding(
        level, f"{route} is not reached by tasks: {text}", remedy, f"troubleshooting#{anchor}"
    )


def _explain(reply: Reply) -> tuple[str, str, str]:
    status = reply.status
    if status is None:
        return (
            reply.error or "no reply",
            "set TASKQUEUE_BASE_URL to where the application answers, and start it",
            "not-found",
        )
    if 300 <= status < 400:
        return _redirect(status, reply.headers.get("location", ""))
    if status == 400 and b"csrf" in reply.body.lower():
        return (
            "the reply was 400, of a CSRF check",
            "let tasks pass: if tasks.is_task_request(): return",
            "bad-request",
        )
    return _EXPLAINED.get(status, _by_hook)(status, reply)


def _redirect(status: int, location: str) -> tuple[str, str, str]:
    place = location.partition("?")[0]
    if place.startswith("https://"):
        return f"the reply was {status}, a redirect to {place}", HTTPS_REMEDY, "redirected-to-https"
    remedy = "let tasks pass in the before_request hook: if tasks.is_task_request(): return"
    return f"the reply was {status}, a redirect to {place}", remedy, "redirected"


def _by_hook(status: int, reply: Reply) -> tuple[str, str, str]:
    if status < 300:
        text = f"something before the handler answered {status}, so tasks are attempted in vain"
        return (
            text,
            "let tasks pass in the before_request hook: if tasks.is_task_request(): return",
            "redirected",
        )
    error = f" ({reply.error})" if reply.error else ""
    return (
        f"the reply was {status}{error}",
        "look at what answers before the handler: hooks, middleware",
        "forbidden",
    )


def _bad_request(status: int, _: Reply) -> tuple[str, str, str]:
    return (
        f"the reply was {status}",
        "see that TRUSTED_HOSTS has the host of TASKQUEUE_BASE_URL",
        "bad-request",
    )


def _not_found(status: int, _: Reply) -> tuple[str, str, str]:
    return (
        f"the reply was {status}",
        "see that the route is on the host of TASKQUEUE_BASE_URL and takes this method",
        "not-found",
    )


def _forbidden(status: int, _: Reply) -> tuple[str, str, str]:
    remedy = (
        "give every process the same SECRET_KEY or TASKQUEUE_SECRET, and let tasks pass in "
        "hooks: if tasks.is_task_request(): return"
    )
    return f"the reply was {status}", remedy, "forbidden"


_EXPLAINED = {400: _bad_request, 404: _not_found, 405: _not_found, 401: _forbidden, 403: _forbidden}
