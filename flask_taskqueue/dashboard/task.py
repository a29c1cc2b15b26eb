"""The page of a task, and the actions on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urljoin

import sqlalchemy as sa
from flask import g, request, url_for
from werkzeug.exceptions import BadRequest, Forbidden

from .. import diagnosis
from ..api.adding import add_task
from ..api.tasks import Tasks
from ..core.delivery.verdict import stored_headers
from ..core.errors import InvalidTaskError
from ..core.queues.rate_keys import is_rate_key, split_rate_key
from ..core.security.redaction import Redaction
from ..core.states import Record
from ..core.tasks.request import curl
from ..core.tasks.spec import TaskOptions, TaskSpec
from ..core.tasks.task import Task
from ..core.urls import is_absolute
from ..runtime import Runtime
from .rendering import Page, PlannedAction
from .tasks import instant, line, sight

_NO_REPLY = {
    "reply_headers": None,
    "reply_body": None,
    "reply_size": None,
    "reply_truncated": None,
    "traceback": None,
}
_HIDDEN = {"headers": None, "body": None, "content_type": "", "curl": None}


def page(runtime: Runtime, task_id: str) -> Page:
    """Show everything about a task: what it waits for, its attempts, its request."""
    store = runtime.store
    with store.reading() as connection:
        record = store.tasks.get(connection, task_id)
        is_lost = bool(store.tasks.lost(connection, [task_id]))
        rows = store.finished_tasks.attempts(connection, task_id)
        dispatchers = {
            dispatcher.id: f"{dispatcher.host}:{dispatcher.pid}"
            for dispatcher in store.dispatchers.list(connection)
        }
    redaction = Redaction(runtime.settings.redact)
    may_see = g.taskqueue_access.may("view_payload")
    data = {
        **_facts(runtime, record, is_lost=is_lost),
        "held_by": record.held_by and dispatchers.get(record.held_by, record.held_by),
        **(
            _request(runtime, runtime.encryption.decrypt_record(record), redaction)
            if may_see
            else _HIDDEN
        ),
        "tried": [
            _attempt(row, dispatchers, _reply(runtime, row, redaction) if may_see else _NO_REPLY)
            for row in rows
        ],
    }
    return Page(
        template="task.html",
        title=f"Task {task_id}",
        data=data,
        extra={"queues": sorted(runtime.settings.queues)},
    )


def _facts(runtime: Runtime, record: Record, *, is_lost: bool) -> dict[str, Any]:
    """Return what the page says of the task itself."""
    task = Task.of(record, Tasks.of(runtime))
    return {
        **line(runtime, record, is_lost=is_lost),
        "why": " ".join(diagnosis.why(runtime, record.id).sentences),
        **{
            name: getattr(task, name)
            for name in (
                "unique_key",
                "serial_key",
                "concurrency_key",
                "rate_key",
                "batch_id",
                "expires_at",
                "crashes",
            )
        },
        "target": record.target and sight(runtime).url(record.target),
        "deadline": runtime.settings.deadline_of(record.queue, record.deadline),
        "retry": None if record.retry is None else json.loads(record.retry),
        "progress": task.progress,
    }


def requeue(runtime: Runtime, task_id: str) -> PlannedAction:
    """Requeue the task."""
    return PlannedAction("requeue", task_id, partial(Tasks.of(runtime).requeue, task_id))


def run(runtime: Runtime, task_id: str) -> PlannedAction:
    """Run the task now."""
    return PlannedAction("run", task_id, partial(Tasks.of(runtime).run_now, task_id))


def delete(runtime: Runtime, task_id: str) -> PlannedAction:
    """Cancel the task."""
    return PlannedAction("delete", task_id, partial(Tasks.of(runtime).delete, task_id))


def copy(runtime: Runtime, task_id: str) -> PlannedAction:
    """Add a changed copy, as ``tasks.add`` would; the task itself stays as it is."""
    if not g.taskqueue_access.may("view_payload"):
        raise Forbidden(
            "A copy shows the contents of the task, so it also requires the permission "
            "'view_payload'."
        )
    store = runtime.store
    with store.reading() as connection:
        record = runtime.encryption.decrypt_record(store.tasks.get(connection, task_id))
    headers = json.loads(record.headers or "{}")
    options = _options(record, request.form)
    options["headers"] = headers
    body = request.form.get("body")
    if body is not None:
        try:
            restored = Redaction(runtime.settings.redact).restore(
                body.replace("\r\n", "\n"), bytes(record.body), _content_type(headers)
            )
        except ValueError as error:
            raise InvalidTaskError(f"the body is not valid JSON: {error}") from error
        options["payload"] = restored or None
    elif record.body:
        options["payload"] = bytes(record.body)
    url = request.form.get("url") or record.url
    spec = TaskSpec(_url(url, record, runtime), **options)
    return PlannedAction(
        "copy",
        lambda added: f"{task_id} as {added[0].id}",
        partial(add_task, runtime, spec, transactional=None),
        lambda new: url_for(".task", task_id=new.id),
    )


def _options(record: Record, form: Mapping[str, str]) -> TaskOptions:
    options: TaskOptions = {
        "method": record.method,
        "queue": form.get("queue") or record.queue,
        "priority": record.priority,
    }
    if is_rate_key(record.lock_key) and options["queue"] == record.queue:
        options["rate_key"] = split_rate_key(record.lock_key or "")[1]
    if record.deadline is not None:
        options["deadline"] = record.deadline
    if record.retry is not None:
        options["retry"] = json.loads(record.retry)
    if record.target is not None:
        options["target"] = record.target
    if countdown := form.get("countdown", "").strip():
        options["countdown"] = countdown
    return options


def _url(url: str, record: Record, runtime: Runtime) -> str:
    """Return the URL of a form, or the task's own if the form has it as it is shown."""
    if len(url) > 5000:
        raise BadRequest("The URL is too long.")
    return record.url if url == Redaction(runtime.settings.redact).url(record.url) else url


def _request(runtime: Runtime, record: Record, redaction: Redaction) -> dict[str, Any]:
    headers = json.loads(record.headers or "{}")
    shown = redaction.headers(headers)
    body = redaction.body(bytes(record.body), _content_type(headers))
    url = redaction.url(record.url)
    absolute = (
        url
        if is_absolute(url)
        else urljoin(record.target or runtime.settings.base_url or request.host_url, url)
    )
    return {
        "headers": shown,
        "content_type": _content_type(headers),
        "body": body,
        "curl": None if body is None else curl(record.method, absolute, shown, body.encode()),
    }


def _reply(runtime: Runtime, row: sa.Row[Any], redaction: Redaction) -> dict[str, Any]:
    headers, truncated = stored_headers(runtime.encryption.decrypt_text(row.reply_headers))
    body = runtime.encryption.decrypt(bytes(row.reply_body or b""))
    return {
        "reply_headers": redaction.headers(headers),
        "reply_body": redaction.body(body, _content_type(headers)),
        "reply_size": len(body),
        "reply_truncated": truncated,
        "traceback": runtime.encryption.decrypt_text(row.traceback),
    }


def _attempt(
    row: sa.Row[Any], dispatchers: Mapping[str, str], reply: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an attempt that has ended, with as much of its reply as the user may see."""
    return {
        "number": row.number,
        "started_at": instant(row.started_at),
        "finished_at": instant(row.finished_at),
        "seconds": (row.finished_at - row.started_at) / 1_000_000,
        "reason": row.reason,
        "status": row.status,
        "error": row.error,
        "held_by": row.held_by and dispatchers.get(row.held_by, row.held_by),
        **reply,
    }


def _content_type(headers: Mapping[str, str]) -> str:
    return next((value for name, value in headers.items() if name.lower() == "content-type"), "")
