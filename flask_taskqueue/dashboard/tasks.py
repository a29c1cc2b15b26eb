"""The tasks page, and the actions on many tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from flask import g, request, url_for
from werkzeug.exceptions import BadRequest

from ..api.audit import printable
from ..api.bulk import change_ids
from ..api.changes import make_change
from ..api.statistics import queue_counts, total
from ..core.errors import DecryptionError, shown
from ..core.json_text import shown_json
from ..core.names import is_task_id
from ..core.security.redaction import Redaction, UrlRedaction
from ..core.states import Record
from ..core.times import to_datetime
from ..runtime import Runtime
from ..store import CAP, Action, ListKind, QueueCounts
from ..web.handlers import handler_of
from .errors import ids_of
from .rendering import Page, PlannedAction
from .saved import saved_filters
from .selection import TaskSelection

MAX_IMMEDIATE = 100
"""The most tasks that an action on a whole list changes itself; dispatchers change more."""

_VERBS = {Action.REQUEUE: "requeue", Action.RUN_NOW: "run", Action.DELETE: "delete"}


def page(runtime: Runtime) -> Page:
    """Show a list of tasks, filtered, page by page."""
    selection = selection_of(runtime, request.args)
    store = runtime.store
    runtime.see_queues()
    size = runtime.settings.dashboard_page_size
    with store.reading() as connection:
        listing = store.listings.page(
            connection, selection.kind, selection.filter, selection.after, size, selection.visible
        )
        tasks = _lines(runtime, connection, listing.ids)
        counts = _counts_shown(runtime, connection, selection)
        queues = [row.name for row in store.queues.rows(connection)]
    data = {
        "state": selection.kind.value,
        "filters": dict(selection.given),
        "problems": selection.problems,
        "counts": counts,
        "tasks": tasks,
        "next": None if listing.next is None else str(listing.next),
        "is_partial": listing.is_partial,
    }
    return Page(
        template="tasks.html",
        title="Tasks",
        data=data,
        extra={
            "selection": selection,
            "queues": queues,
            "kinds": _kinds(runtime, selection.kind),
            "cap": CAP,
            "saved": saved_filters(),
        },
    )


def requeue(runtime: Runtime) -> PlannedAction:
    """Requeue the dead ones of the selected tasks."""
    return _change(runtime, Action.REQUEUE)


def run(runtime: Runtime) -> PlannedAction:
    """Run the scheduled ones of the selected tasks now."""
    return _change(runtime, Action.RUN_NOW)


def delete(runtime: Runtime) -> PlannedAction:
    """Cancel the selected tasks that have not ended."""
    return _change(runtime, Action.DELETE)


def sight(runtime: Runtime) -> UrlRedaction:
    """Return how much of a URL the user may see."""
    return UrlRedaction(g.taskqueue_access.may("view_payload"), runtime.settings.redact)


def line(runtime: Runtime, record: Record, *, is_lost: bool) -> dict[str, Any]:
    """Return what every page shows of a task; ``is_lost`` says that its lease has run out.

    ``handler`` is the name of the function that answers it in this release, if one does.
    """
    handler = None if record.target else handler_of(runtime.app, record.url, record.method)
    instants = {
        name: instant(getattr(record, name))
        for name in ("created_at", "eta", "due_at", "started_at", "finished_at")
    }
    texts = (
        "id",
        "name",
        "queue",
        "method",
        "priority",
        "state",
        "attempts",
        "last_status",
        "last_reason",
        "last_error",
        "schedule",
    )
    return {
        **{name: getattr(record, name) for name in texts},
        "is_lost": is_lost,
        "url": sight(runtime).url(record.url),
        "handler": handler and handler.name,
        "is_function": handler is not None and handler.is_function,
        **instants,
    }


def arguments_of(runtime: Runtime, record: Record) -> str | None:
    """Return what a task is called with, in one short line, as far as the user may see it.

    A long or binary body is described by its size.
    """
    if not g.taskqueue_access.may("view_payload"):
        return None
    try:
        record = runtime.encryption.decrypt_record(record)
    except DecryptionError:
        return "encrypted with a key that is not here"
    content_type = content_type_of(shown_json(record.headers, dict))
    body = record.shown_body
    shown = Redaction(runtime.settings.redact).line(body, content_type)
    return f"{len(body):,} bytes" if shown is None else shown


def content_type_of(headers: Mapping[str, str]) -> str:
    """Return the content type that headers name; "" if they name none."""
    return next(
        (str(value) for name, value in headers.items() if name.lower() == "content-type"), ""
    )


def _lines(runtime: Runtime, connection: sa.Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return what a list shows of these tasks, without those that are gone."""
    lost = runtime.store.tasks.lost(connection, ids)
    records = {record.id: record for record in runtime.store.search.get_all(connection, ids)}
    return [
        {
            **line(runtime, records[task_id], is_lost=task_id in lost),
            "arguments": arguments_of(runtime, records[task_id]),
        }
        for task_id in ids
        if task_id in records
    ]


def instant(micros: int | None) -> Any:
    """Return a row's time in microseconds as a datetime; None stays None."""
    return None if micros is None else to_datetime(micros)


def counts_of(runtime: Runtime, connection: sa.Connection, queue: str | None) -> dict[str, int]:
    """Count the tasks of each list, in one queue or in all.

    Tasks that have not ended are counted up to the cap.
    """
    found = queue_counts(runtime, connection)
    counts = total(found, ()) if queue is None else found.get(queue, QueueCounts())
    return {
        kind.value: getattr(counts, kind.value) for kind in ListKind if kind is not ListKind.ALL
    }


def _kinds(runtime: Runtime, shown: ListKind) -> list[ListKind]:
    """Return the lists to choose from; that of forwarded tasks only where a queue has an engine."""
    has_engine = any(queue.engine is not None for queue in runtime.settings.queues.values())
    return [
        kind
        for kind in ListKind
        if kind is not ListKind.FORWARDED or has_engine or shown is ListKind.FORWARDED
    ]


def _counts_shown(
    runtime: Runtime, connection: sa.Connection, selection: TaskSelection
) -> dict[str, int]:
    """Return the counts of the lists if a selection filters by queue at most."""
    if not selection.only_queue:
        return {}
    return counts_of(runtime, connection, selection.filter.queue)


def selection_of(runtime: Runtime, arguments: Mapping[str, str]) -> TaskSelection:
    """Read a selection from arguments, and look up the tasks of its group of errors."""
    selection = TaskSelection.of(arguments, sight(runtime))
    if "group" not in selection.given:
        return selection
    return selection.among(ids_of(runtime, selection.given["group"]))


def _change(runtime: Runtime, action: Action) -> PlannedAction:
    if request.form.get("scope") == "all":
        return _change_matching(runtime, action, selection_of(runtime, request.form))
    ids = request.form.getlist("id")[: runtime.settings.dashboard_page_size]
    for task_id in ids:
        if not is_task_id(task_id):
            raise BadRequest(f"{shown(task_id)} is not the id of a task.")
    return PlannedAction(
        _VERBS[action],
        f"{len(ids)} selected: {', '.join(ids)}",
        partial(change_ids, runtime, action, ids),
    )


def _change_matching(runtime: Runtime, action: Action, selection: TaskSelection) -> PlannedAction:
    """Change every task of a list: here if they are few, otherwise in the background.

    A filter that cannot be used matches nothing.
    """
    label = selection.label()
    if selection.problems:
        return PlannedAction(_VERBS[action], label, partial(int, 0))
    store = runtime.store
    with store.reading() as connection:
        listing = store.listings.page(
            connection, selection.kind, selection.filter, None, MAX_IMMEDIATE, selection.visible
        )
        counts = _counts_shown(runtime, connection, selection)
    if listing.next is None:
        return PlannedAction(
            _VERBS[action], label, partial(change_ids, runtime, action, listing.ids)
        )
    order = partial(
        store.bulk_changes.add,
        action=action,
        kind=selection.kind,
        filter=selection.filter,
        visible=selection.visible,
        by=g.taskqueue_access.user,
        label=printable(label, 1000),
        total=counts.get(selection.kind.value),
    )
    return PlannedAction(
        f"bulk-{_VERBS[action]}",
        label,
        partial(make_change, runtime, order, None, wakes=False),
        url_for(".system"),
        changes=False,
    )
