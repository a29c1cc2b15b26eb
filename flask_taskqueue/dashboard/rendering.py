"""Rendering: a page as HTML, or its twin as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from flask import Response, g, request, url_for
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..api.audit import changed_by
from ..api.statistics import capped
from ..core.queues.rates import rate_text
from ..core.security.redaction import HIDDEN
from ..core.times import duration, plural, relative
from ..core.version import __version__
from ..runtime import Runtime

NONE = "\N{EN DASH}"

NOBODY = "someone on the dashboard"
"""The name of whoever paused something, if the app does not say who uses the dashboard."""


def number(value: object) -> str:
    """Format a number with separators; a dash for None, and as it is what was written by hand."""
    return NONE if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def percent(part: int, whole: int) -> str:
    """Format a share; it is 100 % only if it is all."""
    if not whole:
        return NONE
    return "100 %" if part == whole else f"{min(part / whole * 100, 99.9):.1f} %"


def seconds(value: float | timedelta | None) -> str:
    """Format a duration; a dash for None."""
    if value is None:
        return NONE
    return duration(value.total_seconds() if isinstance(value, timedelta) else value)


def clock(instant: datetime, now: datetime) -> str:
    """Format an instant in UTC: its time, and its day unless that is today."""
    return f"{instant:%H:%M:%S}" if instant.date() == now.date() else f"{instant:%Y-%m-%d %H:%M}"


def rate(per_second: float | None) -> str:
    """Format a queue's rate; a dash for no limit."""
    return NONE if per_second is None else rate_text(per_second)


WORDS = {
    "due": "Can run now. It waits for a dispatcher with a free slot, or for the limits of its "
    "queue.",
    "running": "A dispatcher holds a lease on it and makes the request.",
    "lost": "Its lease ran out, because the process that ran it died or lost the database. Another "
    "dispatcher takes it over.",
    "scheduled": "Waits for its eta, the earliest time it may run.",
    "retrying": "Failed at least once and waits for its next attempt.",
    "waiting": "Waits for its key: others with the same key come first, or its rate is reached.",
    "forwarded": "Cloud Tasks, the engine of its queue, has it and delivers it in its time.",
    "succeeded": "Received a 2xx response. Forgotten after TASKQUEUE_KEEP_SUCCEEDED.",
    "dead": "Gave up: no attempts left, too old, failed permanently, or its process kept dying. It "
    "is kept and can be requeued.",
    "cancelled": "Deleted, replaced or expired before it ended.",
    "attempt": "One delivery of a task, which is one request. Counted from 1.",
    "failed": "An attempt without a 2xx response. The task is retried, unless it is dead.",
    "oldest due": "How long the task that has been due longest has waited, in a queue that is not "
    "paused.",
    "p95": "95 of 100 attempts that succeeded took no longer. On the overview, of the latest 1,000 "
    "tasks.",
    "rate": "How many tasks of the queue may start per second (s), "
    "minute (m), hour (h) or day (d).",
    "lease": "The right to attempt a task, for 30 seconds unless it is renewed.",
}

REASONS = {
    "failure": ("failed", "The reply was not 2xx."),
    "permanent": (
        "permanent failure",
        "The handler raised PermanentFailure, or the request could not be made at all.",
    ),
    "timeout": ("timeout", "No reply came within the deadline."),
    "connection": (
        "no connection",
        "The connection could not be made, or broke before the reply was complete.",
    ),
    "tls": ("not trusted", "The certificate of the server was not accepted."),
    "crash": (
        "process died",
        "The process died during the attempt, or lost the database until its lease ran out.",
    ),
    "late": (
        "too late",
        "It ended after its lease was lost, because another attempt had taken over or the task "
        "was deleted, so it changed nothing.",
    ),
    "withdrawn": (
        "withdrawn",
        "The task was deleted, or given back at a stop, while its handler ran.",
    ),
    "refused": ("not sent", "Tasks may not go to this host."),
    "expired": ("expired", "It had not started when it expired."),
    "replaced": ("replaced", "Another task was added in its place."),
}
"""By the reason of an attempt: a short label for its outcome, and what happened."""


SENTENCES = {
    "pause": "Paused the queue.",
    "resume": "Resumed the queue.",
    "close-circuit": "Closed the circuit.",
    "configure": "Changed the limits.",
    "add-queue": "Added the queue.",
    "change-queue": "Changed the queue.",
    "delete-queue": "Deleted the queue.",
    "pause-cron": "Paused the schedule.",
    "resume-cron": "Resumed the schedule.",
    "run-cron": "Added a task of the schedule.",
    "copy": "This is the copy.",
    "save-filter": "Saved the filter in this browser.",
    "forget-filter": "Forgot the filter.",
    "bulk-requeue": "Requeueing the tasks in the background.",
    "bulk-run": "The tasks will run now, started in the background.",
    "bulk-delete": "Cancelling the tasks in the background.",
}
_SWITCHES = ("pause", "resume", "pause-cron", "resume-cron", "close-circuit")
_COUNTED = {
    "requeue": "Requeued {}.",
    "run": "{} will run now.",
    "delete": "Cancelled {}.",
    "purge": "Cancelled {}.",
}


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """An action that was decided on but not carried out; only ``do`` changes anything.

    ``subject`` goes into the audit log and says what the action applies to; it may depend on the
    result of the change in its transaction. ``target`` is the page to show next, unless that is
    the page the action came from; it may depend on what ``do`` returns. ``changes`` is False for
    an order that dispatchers carry out later.
    """

    name: str
    subject: str | Callable[[Any], str]
    do: Callable[[], Any]
    target: str | Callable[[Any], str] | None = None
    changes: bool = True

    def count(self, result: Any) -> int:
        """Return how much a result of ``do`` changed: the result if it is a number, else 1."""
        return changed_by(result) if self.changes else 0


@dataclass(frozen=True, slots=True)
class CompletedAction:
    """An action that was carried out, with how much it changed and the page to show next."""

    name: str
    changed: int
    target: str | None = None


def message(arguments: Mapping[str, str]) -> str | None:
    """Return the sentence for the arguments of the redirect after an action.

    Anyone can write such a link, so only known words count.
    """
    action, text = arguments.get("did", ""), arguments.get("count", "")
    changed = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if action in _COUNTED:
        return _COUNTED[action].format(plural(changed, "task"))
    if not changed and action in _SWITCHES:
        return "There was nothing to change."
    return SENTENCES.get(action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The content of a page: ``data`` is also its JSON twin, ``extra`` is for its template."""

    template: str
    title: str
    data: Mapping[str, Any]
    extra: Mapping[str, Any] | None = None
    status: int = 200


def root_path() -> str:
    """Return the path of the dashboard, without what the app's ``url_defaults`` add to its URL."""
    return urlsplit(url_for(".overview")).path


def wants_json() -> bool:
    """Return whether the request asks for JSON, by its path or its Accept header."""
    accepts = request.accept_mimetypes
    return request.path.endswith(".json") or accepts["application/json"] > accepts["text/html"]


def respond(runtime: Runtime, page: Page, sections: Mapping[str, str]) -> Response:
    """Return the response of a page; ``sections`` maps endpoints to names in the navigation."""
    if wants_json():
        return Response(
            json.dumps(page.data, default=_plain, indent=2),
            page.status,
            mimetype="application/json",
        )
    text = (
        environment()
        .get_template(page.template)
        .render({**_layout(runtime, page, sections), **page.data, **(page.extra or {})})
    )
    return Response(text, page.status, mimetype="text/html")


def _layout(runtime: Runtime, page: Page, sections: Mapping[str, str]) -> dict[str, Any]:
    """Return what the frame around every page shows."""
    store = runtime.store
    now, dead = datetime.now(UTC), 0
    if page.status != 503:  # the database cannot be reached
        with store.reading() as connection:
            now = store.schedules.now(connection)
            dead = sum(counts.dead for counts in store.counters.ended(connection).values())
    return {
        "page": page,
        "sections": sections,
        "access": g.taskqueue_access,
        "title": runtime.settings.dashboard_title or runtime.app.name,
        "poll": int(runtime.settings.dashboard_poll),
        "database": store.database.engine.url.get_backend_name(),
        "version": __version__,
        "now": now,
        "all_dead": dead,
        "message": message(request.args),
        "took": lambda: time.perf_counter() - g.taskqueue_started,
    }


@cache
def environment() -> Environment:
    """Return a Jinja environment of our own, because the app's may be configured differently."""
    made = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"url_for": url_for, "request": request, "words": WORDS, "reasons": REASONS}
    made.globals["hidden"] = HIDDEN
    filters = (number, capped, percent, seconds, relative, clock, rate)
    made.filters |= {format.__name__: format for format in filters}
    return made


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Set | tuple):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: getattr(value, field.name)
            for field in fields(value)
            if not field.name.startswith("_")
        }
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
