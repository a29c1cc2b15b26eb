"""``flask taskqueue show`` and ``why``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urljoin

import click
import sqlalchemy as sa
from flask.cli import with_appcontext

from .. import diagnosis
from ..api.tasks import Tasks
from ..core.errors import DecryptionError
from ..core.json_text import shown_json
from ..core.states import Record
from ..core.tasks.request import curl
from ..core.tasks.task import Task
from ..core.times import duration
from ..core.urls import is_absolute
from ..runtime import Runtime
from .options import current_runtime, json_option, utc_option
from .output import (
    attempt_document,
    attempt_facts,
    chatter,
    echo,
    echo_json,
    echo_table,
    moment,
    request_document,
    task_document,
)
from .tasks import task_id_of

_BODY_SHOWN = 2000


@click.command("show")
@click.argument("task_id", metavar="ID")
@click.option("--attempts", is_flag=True, help="Also show each attempt that has ended.")
@click.option(
    "--curl", "as_curl", is_flag=True, help="Print a curl command that sends the same request."
)
@json_option
@utc_option
@with_appcontext
def show(task_id: str, attempts: bool, as_curl: bool, as_json: bool, in_utc: bool) -> None:
    """Show the task whose id begins with ID: its request, its state, what it waits for."""
    if as_curl and (as_json or attempts or in_utc):
        raise click.UsageError("--curl prints a command and nothing else: give no other option")
    runtime = current_runtime()
    chosen = task_id_of(runtime, task_id)
    with runtime.store.reading() as connection:
        record = runtime.store.search.get(connection, chosen)
        ended = runtime.store.finished_tasks.attempts(connection, chosen)
    if as_curl:
        _show_curl(runtime, record)
    elif as_json:
        _show_json(runtime, record, ended if attempts else None)
    else:
        _show_lines(_facts(runtime, record, in_utc) | _request(runtime, record))
        if attempts and ended:
            echo()
            _show_attempts(ended)
        _show_traceback(runtime, ended)


def _show_curl(runtime: Runtime, record: Record) -> None:
    record = runtime.encryption.decrypt_record(record)
    url = record.url if record.target is None else record.target + record.url
    if not is_absolute(url):
        url = urljoin(runtime.settings.base_url or "http://127.0.0.1:5000", url)
        chatter("# Only the app's own dispatcher can call a worker route; anyone else gets 403.")
    echo(curl(record.method, url, shown_json(record.headers, dict), record.shown_body))


def _show_json(runtime: Runtime, record: Record, ended: list[sa.Row[Any]] | None) -> None:
    record = runtime.encryption.decrypt_record(record)
    document = {
        **task_document(Task.of(record, Tasks.of(runtime))),
        "request": request_document(record),
    }
    if ended is not None:
        document["tried"] = [attempt_document(row, runtime.encryption) for row in ended]
    echo_json(document)


def _show_lines(lines: dict[str, Any]) -> None:
    """Print what a task has, without what it does not have."""
    shown = {label: str(value) for label, value in lines.items() if value not in (None, "")}
    width = max(map(len, shown))
    for label, value in shown.items():
        echo(f"{label.ljust(width)}  {value}")


def _request(runtime: Runtime, record: Record) -> dict[str, Any]:
    """Return the lines about a task's headers and body, or why they cannot be shown."""
    try:
        record = runtime.encryption.decrypt_record(record)
    except DecryptionError as error:
        return {"body": f"cannot be shown: {error}"}
    request = request_document(record)
    body = (
        request["body"]
        if request["body"] is not None
        else f"{len(record.shown_body)} bytes that are not text"
    )
    return {
        **{f"header {name}": value for name, value in request["headers"].items()},
        "body": body
        if len(body) <= _BODY_SHOWN
        else f"{body[:_BODY_SHOWN]}… ({len(record.shown_body)} bytes)",
    }


def _facts(runtime: Runtime, record: Record, in_utc: bool) -> dict[str, Any]:
    """Return the lines about a task itself by their labels; None for what it does not have."""
    task = Task.of(record, Tasks.of(runtime))
    return {
        "task": task.id,
        "name": task.name,
        "request": f"{task.method} {record.target or ''}{task.url}",
        "queue": f"{task.queue}, priority {task.priority}",
        "state": task.state.value,
        "why": " ".join(diagnosis.why(runtime, task.id).sentences),
        "created": moment(task.created_at, in_utc),
        "eta": moment(task.eta, in_utc),
        "due": task.due_at and moment(task.due_at, in_utc),
        "ended": task.finished_at and moment(task.finished_at, in_utc),
        "expires": task.expires_at and moment(task.expires_at, in_utc),
        "attempts": f"{task.attempts}, of which {task.crashes} crashed"
        if task.crashes
        else str(task.attempts),
        "last status": task.last_status or task.last_reason,
        "last error": task.last_error,
        "unique key": task.unique_key,
        "serial key": task.serial_key,
        "concurrency key": task.concurrency_key,
        "rate key": task.rate_key,
        "batch": task.batch_id,
        "schedule": task.schedule,
    }


def _show_attempts(ended: list[sa.Row[Any]]) -> None:
    rows = [
        (
            str(attempt["number"]),
            moment(attempt["started_at"], True),
            duration(attempt["seconds"]),
            str(attempt["status"] or "-"),
            attempt["reason"],
            attempt["held_by"] or "-",
            attempt["error"] or "",
        )
        for attempt in map(attempt_facts, ended)
    ]
    echo_table(
        ("ATTEMPT", "STARTED", "TOOK", "STATUS", "OUTCOME", "DISPATCHER", "ERROR"), rows, right=[0]
    )


def _show_traceback(runtime: Runtime, ended: list[sa.Row[Any]]) -> None:
    """Print the traceback of the last attempt that has one."""
    for row in reversed(ended):
        if row.traceback is not None:
            try:
                traceback = runtime.encryption.decrypt_text(row.traceback)
            except DecryptionError as error:
                traceback = f"cannot be shown: {error}"
            echo(f"\ntraceback of attempt {row.number}\n{traceback}")
            return


@click.command("why")
@click.argument("task_id", metavar="ID")
@json_option
@with_appcontext
def why(task_id: str, as_json: bool) -> None:
    """Say what task ID waits for, most important cause first, or how it ended."""
    runtime = current_runtime()
    chosen = task_id_of(runtime, task_id)
    answer = diagnosis.why(runtime, chosen)
    if as_json:
        echo_json({"id": chosen, **asdict(answer), "also": answer.also})
    else:
        echo("\n".join(answer.sentences))
