"""The page of a task, and the actions on it."""

from __future__ import annotations

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
from ..core.delivery.verdict import shown_headers
from ..core.errors import DecryptionError, InvalidTaskError
from ..core.json_text import shown_json
from ..core.queues.rate_keys import is_rate_key, split_rate_key
from ..core.security.redaction import HIDDEN, Redaction
from ..core.settings.queue import QueueSettings
from ..core.states import Record
from ..core.tasks.request import PULL, curl
from ..core.tasks.spec import TaskOptions, TaskSpec
from ..core.tasks.task import Task
from ..core.urls import is_absolute, leads_out
from ..runtime import QueueLookup, Runtime
from .rendering import Page, PlannedAction
from .tasks import content_type_of, instant, line, sight

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
        record = store.search.get(connection, task_id)
        is_lost = bool(store.tasks.lost(connection, [task_id]))
        rows = store.finished_tasks.attempts(connection, task_id)
        dispatchers = {
            dispatcher.id: f"{dispatcher.host}:{dispatcher.pid}"
            for dispatcher in store.dispatchers.list(connection)
        }
        queue = store.added_queues.now(connection, record.queue)
        added = store.added_queues.names(connection)
    redaction = Redaction(runtime.settings.redact)
    unreadable, shown, replies = None, _HIDDEN, [_NO_REPLY] * len(rows)
    if g.taskqueue_access.may("view_payload"):
        try:
            shown = _request(runtime, runtime.encryption.decrypt_record(record), redaction)
            replies = [_reply(runtime, row, redaction) for row in rows]
        except DecryptionError as error:
            unreadable = str(error)
    data = {
        **_facts(runtime, record, queue, is_lost=is_lost),
        "held_by": record.held_by and dispatchers.get(record.held_by, record.held_by),
        **shown,
        "unreadable": unreadable,
        "tried": [
            _attempt(row, dispatchers, reply) for row, reply in zip(rows, replies, strict=True)
        ],
    }
    return Page(
        template="task.html",
        title=f"Task {task_id}",
        data=data,
        extra={"queues": sorted({*runtime.settings.queues, *added})},
    )


def _facts(
    runtime: Runtime, record: Record, queue: QueueSettings | None, *, is_lost: bool
) -> dict[str, Any]:
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
        "is_pulled": record.method == PULL or (queue is not None and queue.is_pulled),
        "target": record.target and sight(runtime).url(record.target),
        "deadline": runtime.settings.deadline_of(queue, record.deadline),
        "retry": shown_json(record.retry, dict) or None,
        "progress": task.progress,
    }


def requeue(runtime: Runtime, task_id: str) -> PlannedAction:
    """Requeue the task."""
    return PlannedAction("requeue", task_id, partial(Tasks.of(runtime).requeue, task_id))


def run(runtime: Runtime, task_id: str) -> PlannedAction:
    """Run the task now, or whatever its queue if the form says so."""
    force = "force" in request.form
    subject = f"{task_id}, forced" if force else task_id
    return PlannedAction("run", subject, partial(Tasks.of(runtime).run_now, task_id, force=force))


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
    record = store.read(
        lambda connection: runtime.encryption.decrypt_record(store.search.get(connection, task_id))
    )
    spec = _edited(runtime, record, request.form)
    return PlannedAction(
        "copy",
        lambda added: f"{task_id} as {added[0].id}",
        partial(add_task, runtime, spec, transactional=None),
        lambda new: url_for(".task", task_id=new.id),
    )


def _edited(runtime: Runtime, record: Record, form: Mapping[str, str]) -> TaskSpec:
    """Return the task of a form, in which hidden values stand for those of the record.

    They do so only where the task goes to the same place: whoever edits it could otherwise send
    them to where they are seen. Raises InvalidTaskError if values that are needed are missing.
    """
    redaction = Redaction(runtime.settings.redact)
    options, own = _options(record, form), shown_json(record.headers, dict)
    shown_url = redaction.url(record.url)
    url = form.get("url") or shown_url
    if len(url) > 5000:
        raise BadRequest("The URL is too long.")
    moves = url != shown_url or _target(runtime, record, options.get("queue")) != record.target
    headers = {
        name: form.get(f"header {name}", HIDDEN) if redaction.hides(name) else value
        for name, value in own.items()
    }
    body = _body(record, form, redaction, content_type_of(own), moves=moves)
    if moves:
        texts = {"the URL": url, **{f"the header {name}": headers[name] for name in headers}}
        texts["the body"] = HIDDEN if body is None else body.decode()
        if lacking := [name for name, text in texts.items() if HIDDEN in text]:
            raise InvalidTaskError(
                f"hidden values ({HIDDEN}) are kept only where the copy has the URL and the target "
                f"of its task: enter them in {', '.join(lacking)}"
            )
    else:
        url = record.url
        headers = {name: own[name] if text == HIDDEN else text for name, text in headers.items()}
    options["headers"] = {name: value for name, value in headers.items() if value}
    options["payload"] = body or None
    return TaskSpec(url, **options)


def _target(runtime: Runtime, record: Record, queue: str | None) -> str | None:
    """Return the target of a record's copy in a queue."""
    if leads_out(record.url, record.target):
        return record.target
    return QueueLookup(runtime)(queue or record.queue).target


def _body(
    record: Record, form: Mapping[str, str], redaction: Redaction, content_type: str, *, moves: bool
) -> bytes | None:
    """Return the body of a form, with the record's hidden values unless the task ``moves``.

    Returns None for a body that is not text of a task that moves, because it may hold any values.
    """
    own = record.shown_body
    shown = redaction.body(own, content_type)
    if shown is None:
        return None if moves and redaction.parts else own
    edited = form.get("body", shown).replace("\r\n", "\n")
    try:
        return redaction.restore(edited, shown.encode() if moves else own, content_type)
    except ValueError as error:
        raise InvalidTaskError(f"the body is not valid JSON: {error}") from error


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
    if retry := shown_json(record.retry, dict):
        options["retry"] = retry
    if record.target is not None:
        options["target"] = record.target
    if countdown := form.get("countdown", "").strip():
        options["countdown"] = countdown
    return options


def _request(runtime: Runtime, record: Record, redaction: Redaction) -> dict[str, Any]:
    headers = shown_json(record.headers, dict)
    shown, content_type = redaction.headers(headers), content_type_of(headers)
    body = redaction.body(record.shown_body, content_type)
    url = redaction.url(record.url)
    absolute = (
        url
        if is_absolute(url)
        else urljoin(record.target or runtime.settings.base_url or request.host_url, url)
    )
    return {
        "headers": shown,
        "content_type": content_type,
        "body": body,
        "curl": None if body is None else curl(record.method, absolute, shown, body.encode()),
    }


def _reply(runtime: Runtime, row: sa.Row[Any], redaction: Redaction) -> dict[str, Any]:
    headers, truncated = shown_headers(runtime.encryption.decrypt_text(row.reply_headers))
    body = runtime.encryption.decrypt(bytes(row.reply_body or b""))
    return {
        "reply_headers": redaction.headers(headers),
        "reply_body": redaction.body(body, content_type_of(headers)),
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
