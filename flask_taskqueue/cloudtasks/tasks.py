"""The rpcs about tasks. Only tasks that have not ended exist for Cloud Tasks' clients."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import sqlalchemy as sa

from ..api.adding import store_new
from ..api.tasks import Tasks
from ..core.delivery.surface import Surface
from ..core.errors import TaskQueueError
from ..core.names import is_task_id
from ..core.retry import RetryOptions
from ..core.rpc.messages import Fields
from ..core.rpc.resource_names import QueueName, TaskName, task_name
from ..core.rpc.status import Code, RpcError, invalid, of_reply
from ..core.rpc.wire import data_text, duration_text, timestamp_text
from ..core.states import LIVE, Record, State
from ..core.tasks.request import PULL
from ..core.times import to_micros
from ..core.urls import is_absolute, leads_out
from ..runtime import session_view
from .context import NOT_FOUND, Context, Reply, required
from .new_tasks import new_task, own_url
from .retry_config import retry_config

_MOST = 1000
_MOST_FULL = 100
"""The most tasks of a page with their bodies."""
_SECOND = 1_000_000

T = TypeVar("T")


def create(context: Context, fields: Fields) -> Reply:
    """Add a task, and return it as it was stored."""
    queue = context.queue_of(fields, "parent")
    task = required(fields, "task")
    runtime = context.runtime
    record, _ = store_new(
        runtime,
        lambda: new_task(runtime, queue, task, context.find_queue),
        context.transactional,
    )
    return shown_task(context, queue, record, fields.get("responseView"))


def get(context: Context, fields: Fields) -> Reply:
    """Return a task."""
    name = task_name(required(fields, "name"))
    record, store = find(context, name), context.runtime.store
    ended = store.read(lambda connection: store.finished_tasks.latest(connection, [record.id]))
    return shown_task(context, name.queue, record, fields.get("responseView"), ended)


def list_some(context: Context, fields: Fields) -> Reply:
    """Return a page of tasks, the oldest first."""
    queue = context.queue_of(fields, "parent")
    size = page_size(fields, _MOST_FULL if fields.get("responseView") == "FULL" else _MOST)
    store = context.runtime.store
    with store.reading() as connection:
        records = store.search.live(
            connection, queue.queue, _after(fields.get("pageToken", "")), size + 1
        )
        ended = store.finished_tasks.latest(connection, [record.id for record in records])
    view = fields.get("responseView")
    tasks = [shown_task(context, queue, record, view, ended) for record in records[:size]]
    more = {"nextPageToken": page_token(records[size - 1].id)} if len(records) > size else {}
    return {"tasks": tasks, **more} if tasks else {}


def delete(context: Context, fields: Fields) -> Reply:
    """Cancel a task."""
    name = task_name(required(fields, "name"))
    delete_named(context, name)
    return {}


def delete_named(context: Context, name: TaskName) -> None:
    """Cancel a task. Raises `RpcError` if it does not exist, or has just ended."""
    record = find(context, name)
    actions = Tasks.of(context.runtime)
    deleted = context.change(
        "delete",
        f"task {record.id}",
        lambda: actions.delete(record.id, transactional=context.transactional),
    )
    if not deleted:
        raise RpcError(Code.NOT_FOUND, NOT_FOUND)


def run(context: Context, fields: Fields) -> Reply:
    """Run a task now, even if its queue is paused, at its rate or full, and return it.

    A task that runs already is returned as it is. Raises `BadTaskStateError` for a task that waits
    for its key.
    """
    name = task_name(required(fields, "name"))
    record, runtime = find(context, name), context.runtime
    if record.state == State.SCHEDULED:
        run_now = partial(
            Tasks.of(runtime).run_now, record.id, force=True, transactional=context.transactional
        )
        task = context.change("run now", f"task {record.id}", run_now)
        if task.due_at is not None:
            record = record._replace(due_at=to_micros(task.due_at))
    return shown_task(context, name.queue, record, fields.get("responseView"))


def find(context: Context, name: TaskName) -> Record:
    """Return the row of a task that has not ended, by its name or, without one, by its id.

    It is committed, or a part of the transaction that the call joins. Raises `RpcError`.
    """
    context.existing(name.queue, NOT_FOUND)
    record = context.runtime.store.read(lambda connection: _live(context, connection, name))
    if record is None:
        with session_view(context.runtime, context.transactional) as joined:
            record = None if joined is None else _live(context, joined, name)
    if record is None:
        raise RpcError(Code.NOT_FOUND, NOT_FOUND)
    return record


def _live(context: Context, connection: sa.Connection, name: TaskName) -> Record | None:
    tasks = context.runtime.store.tasks
    ids = tasks.ids_of(connection, name.queue.queue, [name.task])
    found = tasks.get_all(connection, list(ids.values()))
    return found[0] if found and found[0].state in LIVE else None


def page_size(fields: Fields, most: int) -> int:
    """Return how many items a page may have. Raises `RpcError`."""
    size: int = fields.get("pageSize", 0)
    if size < 0:
        raise invalid(f"pageSize is {size}; it must be 0 (as many as there can be) or more.")
    return min(size or most, most)


def page_token(after: str) -> str:
    """Return the token of the page that begins after an item."""
    return base64.urlsafe_b64encode(after.encode()).decode().rstrip("=")


def page_start(token: str) -> str:
    """Return the item after which a page begins, "" for the first. Raises `RpcError`."""
    try:
        padded = token + "=" * (-len(token) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except ValueError as error:
        raise invalid("pageToken is none that this service has given.") from error


def _after(token: str) -> str:
    found = page_start(token)
    if found and not is_task_id(found):
        raise invalid("pageToken is none that this service has given.")
    return found


def shown_task(
    context: Context,
    queue: QueueName,
    record: Record,
    view: str | None,
    ended: Mapping[str, sa.Row[Any]] | None = None,
) -> Reply:
    """Return a task as its clients see it; its body only in the view FULL."""
    reply: Reply = {
        "name": queue.task(record.name or record.id),
        **_request(context, record, full=view == "FULL"),
        "scheduleTime": timestamp_text(_scheduled(record)),
        "createTime": timestamp_text(record.created_at // _SECOND * _SECOND),
        "dispatchDeadline": duration_text(
            context.runtime.settings.deadline_of(context.settings_of(queue), record.deadline)
        ),
        "dispatchCount": record.attempts,
        "responseCount": record.executions,
        "view": view or "BASIC",
    }
    retry = record.retry
    if retry is not None and (options := _readable(lambda: RetryOptions.from_json(retry))):
        reply["retryConfig"] = retry_config(options)
    return reply | _attempts(record, (ended or {}).get(record.id))


def _scheduled(record: Record) -> int:
    """Return when a task may next begin, or when it began if it runs."""
    if record.state == State.LEASED and record.started_at is not None:
        return record.started_at
    return record.eta if record.due_at is None else record.due_at


def _request(context: Context, record: Record, *, full: bool) -> Reply:
    """Return the request in the form in which it was given; none of a pull queue's task."""
    if record.method == PULL:
        return {}
    encryption = context.runtime.encryption
    stored = record.surface
    surface = None if stored is None else _readable(lambda: Surface.stored(stored))
    kind = None if surface is None else surface.kind
    request: Reply = {"httpMethod": record.method}
    if headers := _readable(lambda: _headers(encryption.decrypt_text(record.headers))):
        request["headers"] = headers
    if full and (body := _readable(lambda: encryption.decrypt(bytes(record.body)))):
        request["body"] = data_text(body)
    if kind == "appengine" or (kind is None and not leads_out(record.url, record.target)):
        host = record.target or own_url(context.runtime)
        routing = {} if host is None else {"appEngineRouting": {"host": urlsplit(host).netloc}}
        return {"appEngineHttpRequest": {"relativeUri": record.url, **routing, **request}}
    request["url"] = _whole_url(context, record)
    if surface is not None and surface.oidc is not None:
        request["oidcToken"] = {
            "serviceAccountEmail": surface.oidc.get("email", ""),
            "audience": surface.oidc.get("audience", request["url"]),
        }
    return {"httpRequest": request}


def _readable(read: Callable[[], T]) -> T | None:
    """Return what is read of a row; None if the row was written by hand and holds no such thing.

    It must not keep the other tasks of a list from being shown; its attempt says what is wrong.
    """
    try:
        return read()
    except (TaskQueueError, ValueError, RecursionError):
        return None


def _headers(stored: str | None) -> Mapping[str, str]:
    found = json.loads(stored) if stored else {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError
    return found


def _whole_url(context: Context, record: Record) -> str:
    if is_absolute(record.url):
        return record.url
    return f"{record.target or own_url(context.runtime) or ''}{record.url}"


def _attempts(record: Record, ended: sa.Row[Any] | None) -> Reply:
    if not record.attempts or record.first_tried_at is None:
        return {}
    last: Reply = {}
    if record.started_at is not None:
        last["dispatchTime"] = timestamp_text(record.started_at)
    if ended is not None:
        number, name = of_reply(ended.status or 504)
        text = "no response" if ended.status is None else f"HTTP status code {ended.status}"
        last["responseTime"] = timestamp_text(ended.finished_at)
        last["responseStatus"] = {"code": number, "message": f"{name}({number}): {text}"}
    return {
        "firstAttempt": {"dispatchTime": timestamp_text(record.first_tried_at)},
        "lastAttempt": last,
    }
