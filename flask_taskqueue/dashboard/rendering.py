"""Rendering: a page as HTML, or its twin as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from flask import Response, g, request, url_for
from jinja2 import Environment, PackageLoader, StrictUndefined

from .._version import __version__
from ..runtime import Runtime
from . import formats
from .done import message
from .words import REASONS, WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page shows. ``data`` is what its JSON twin consists of, ``extra`` what only its template needs."""

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
        return Response(json.dumps(page.data, default=_plain, indent=2), page.status, mimetype="application/json")
    store = runtime.store
    now, dead = datetime.now(UTC), 0
    if page.status != 503:  # which says that the database is away
        with store.reading() as connection:
            now = store.schedules.now(connection)
            dead = sum(row.dead for row in store.tally.totals(connection))
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
    text = environment().get_template(page.template).render({**layout, **page.data, **(page.extra or {})})
    return Response(text, page.status, mimetype="text/html")


@cache
def environment() -> Environment:
    """Jinja of our own: an application's may have other delimiters, globals or no autoescaping."""
    made = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals |= {"url_for": url_for, "request": request, "words": WORDS, "reasons": REASONS}
    made.filters |= {name: getattr(formats, name) for name in ("number", "capped", "percent", "seconds", "relative", "rate")}
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
        return {one.name: getattr(value, one.name) for one in fields(value) if not one.name.startswith("_")}
    raise TypeError(f"a {type(value).__name__} has no place in JSON")
