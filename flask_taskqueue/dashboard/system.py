"""The system page: checks, dispatchers, background changes and the audit log."""

from __future__ import annotations

from dataclasses import asdict

from flask import g, request

from .. import diagnosis
from ..api.audit import without_urls
from ..core.times import to_datetime
from ..runtime import Runtime
from .rendering import Page

_SHOWN = 50


def page(runtime: Runtime) -> Page:
    """Show the dispatchers, background changes, audit log and, when asked, the checks."""
    store = runtime.store
    with store.reading() as connection:
        dispatchers = list(store.dispatchers.list(connection))
        bulks = [row._asdict() for row in store.bulk_changes.latest(connection, 10)]
        audit = [row._asdict() for row in store.audit.latest(connection, _SHOWN)]
    for row in [*bulks, *audit]:
        for name in ("at", "created_at", "finished_at"):
            if row.get(name) is not None:
                row[name] = to_datetime(row[name])
        for name in ("told", "subject"):
            if row.get(name) is not None and not g.taskqueue_access.may("view_payload"):
                row[name] = without_urls(row[name])
        row.pop("wanted", None)
        row.pop("place", None)
    findings = None
    if request.args.get("doctor"):  # only when asked, because it pings each worker route
        findings = [asdict(finding) for finding in diagnosis.findings(runtime)]
    data = {
        "findings": findings,
        "dispatchers": [asdict(dispatcher) for dispatcher in dispatchers],
        "bulks": bulks,
        "audit": audit,
    }
    return Page(template="system.html", title="System", data=data)
