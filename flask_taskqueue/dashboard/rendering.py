"""Rendering: a page as HTML, or its twin as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from flask import Response, g, request, url_for
from jinja2 import Environment, PackageLoader, StrictUndefined

from .._version import __version__
from ..core.humanize import count, relative, span
from ..core.queues.rates import rate_text
from ..runtime import Runtime
from ..store import CAP
from . import rendering as formats

NONE = "\N{EN DASH}"

__all__ = ["capped", "number", "percent", "rate", "relative", "seconds"]


def number(value: int | float | None) -> str:
    """A count, with separators; a dash for none."""
    return NONE if value is None else f"{value:,}"


def capped(value: int) -> str:
    """A count that ends somewhere."""
    return f"{CAP:,}+" if value >= CAP else f"{value:,}"


def percent(part: int, whole: int) -> str:
    """A share; never 100 % unless it is all."""
    if not whole:
        return NONE
    return "100 %" if part == whole else f"{min(part / whole * 100, 99.9):.1f} %"


def seconds(value: float | timedelta | None) -> str:
    """A duration; a dash for none."""
    if value is None:
        return NONE
    return span(value.total_seconds() if isinstance(value, timedelta) else value)


def rate(per_second: float | None) -> str:
    """A queue's rate; a dash for no limit."""
    return NONE if per_second is None else rate_text(per_second)


WORDS = {
    "due": "May be taken now; waits for a free slot of a dispatcher, or for its queue to let it "
    "through.",
    "running": "A dispatcher holds a lease on it and makes the request.",
    "lost": "Its lease ran out: the process that ran it died, or was cut off from the database. "
    "Another one takes it over.",
    "scheduled": "Waits for its eta, the earliest time asked for.",
    "retrying": "Failed at least once and waits for its next attempt.",
    "waiting": "Waits for its key: other tasks with the same key come first.",
    "succeeded": "Got a 2xx. Forgotten after TASKQUEUE_KEEP_SUCCEEDED.",
    "dead": "Gave up: out of attempts, too old, refused for good, or its process kept dying. Kept, "
    "and can be requeued.",
    "cancelled": "Deleted, replaced or expired before it ended.",
    "attempt": "One delivery of a task: one request. Counted from 1.",
    "failed": "Said of an attempt: no 2xx. The task is tried again, unless it is dead.",
    "oldest due": "How long the task that has been due longest has waited.",
    "p95": "95 of 100 attempts of the latest 1,000 tasks to succeed took no longer.",
    "rate": "How many tasks of the queue may start per second (s), "
    "minute (m), hour (h) or day (d).",
    "lease": "The right to attempt a task, for 30 seconds unless it is renewed.",
}

REASONS = {
    "failure": ("failed", "The reply was no 2xx."),
    "permanent": (
        "refused for good",
        "The handler raised PermanentFailure, or the request could not be made at all.",
    ),
    "timeout": ("timeout", "No reply came within the deadline."),
    "connection": (
        "no connection",
        "No connection could be made, or it broke before the reply was whole.",
    ),
    "tls": ("not trusted", "The certificate of the server was not accepted."),
    "crash": (
        "process died",
        "The process died while the attempt ran, or was cut off from the database until its "
        "lease ran out.",
    ),
    "late": (
        "too late",
        "It ended after its lease was lost, to another attempt or because the task was "
        "deleted: it changed nothing.",
    ),
    "withdrawn": (
        "taken away",
        "The task was deleted, or given back at a stop, while its handler ran.",
    ),
    "refused": ("not sent", "The host is not one that tasks may go to."),
    "expired": ("expired", "It had not begun when it expired."),
    "replaced": ("replaced", "Another task was added in its place."),
}
"""What an attempt came to, in words, and what happened then."""


SENTENCES = {
    "pause": "The queue is paused.",
    "resume": "The queue goes on.",
    "configure": "The limits are changed.",
    "pause-cron": "The schedule is paused.",
    "resume-cron": "The schedule fires again.",
    "run-cron": "Its task is added.",
    "copy": "This is the copy.",
    "bulk-requeue": "The tasks are scheduled again in the background.",
    "bulk-run": "The tasks are made due in the background.",
    "bulk-delete": "The tasks are cancelled in the background.",
}
_COUNTED = {
    "requeue": "scheduled again",
    "run": "made due",
    "delete": "cancelled",
    "purge": "cancelled",
}


@dataclass(frozen=True, slots=True)
class Deed:
    """An action that is decided and not yet done: nothing is changed but by ``do``, whose changes
    are noted in the audit log.

    ``subject`` says on what, perhaps by the result of the change in its transaction; ``place`` is
    the page that follows, if it is a certain one, perhaps by what ``do`` returns. What ``do`` and
    its changes return says how much was changed, unless it is an order for later, which ``changes``
    nothing yet.
    """

    action: str
    subject: str | Callable[[Any], str]
    do: Callable[[], Any]
    place: str | Callable[[Any], str] | None = None
    changes: bool = True

    def count(self, result: Any) -> int:
        """How much a result says was changed: the number it is, or one thing."""
        if not self.changes:
            return 0
        return int(result) if isinstance(result, int) else 1


@dataclass(frozen=True, slots=True)
class Done:
    """An action that is over: what it was, how much it changed, and the page that follows, if
    it is a certain one.
    """

    action: str
    changed: int
    place: str | None = None


def message(arguments: Mapping[str, str]) -> str | None:
    """The sentence for what the redirect after an action carries. Anybody can write such a
    link, so only known words count.
    """
    action, given = arguments.get("did", ""), arguments.get("count", "")
    changed = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if action in _COUNTED:
        return f"{count(changed, 'task')} {_COUNTED[action]}."
    if not changed and action in ("pause", "resume", "pause-cron", "resume-cron"):
        return "Nothing had to be changed."
    return SENTENCES.get(action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page shows. ``data`` is what its JSON twin consists of, ``extra`` what only its
    template needs.
    """

    template: str
    title: str
    data: Mapping[str, Any]
    extra: Mapping[str, Any] | None = None
    status: int = 200


def wants_json() -> bool:
    """Whether the request asks for the twin: by its path, or by preferring JSON to HTML."""
    accepts = request.accept_mimetypes
    return request.path.endswith(".json") or accepts["application/json"] > accepts["text/html"]


def respond(runtime: Runtime, page: Page, sections: Mapping[str, str]) -> Response:
    """The response of a page; ``sections`` maps the endpoints in its navigation to their names."""
    if wants_json():
        return Response(
            json.dumps(page.data, default=_plain, indent=2),
            page.status,
            mimetype="application/json",
        )
    store = runtime.store
    now, dead = datetime.now(UTC), 0
    if page.status != 503:  # which says that the database is away
        with store.reading() as connection:
            now = store.schedules.now(connection)
            dead = sum(one.dead for one in store.counters.ended(connection).values())
    layout = {
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
    text = (
        environment()
        .get_template(page.template)
        .render({**layout, **page.data, **(page.extra or {})})
    )
    return Response(text, page.status, mimetype="text/html")


@cache
def environment() -> Environment:
    """Jinja of our own: an application's may have other delimiters, globals or no autoescaping."""
    made = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"url_for": url_for, "request": request, "words": WORDS, "reasons": REASONS}
    made.filters |= {
        name: getattr(formats, name)
        for name in ("number", "capped", "percent", "seconds", "relative", "rate")
    }
    return made


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
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
            one.name: getattr(value, one.name)
            for one in fields(value)
            if not one.name.startswith("_")
        }
    raise TypeError(f"a {type(value).__name__} has no place in JSON")
