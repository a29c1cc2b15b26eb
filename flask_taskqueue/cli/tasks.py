"""``flask taskqueue list``."""

from __future__ import annotations

import click
import sqlalchemy as sa
from flask.cli import with_appcontext

from ..api.tasks import Tasks
from ..core.errors import UnknownTaskError
from ..core.humanize import count
from ..core.states import State
from ..core.tasks.task import Task
from ..core.urls import redacted
from ..runtime import Runtime
from ..store import OF_STATE, SEARCHED, Filter, Found
from .options import current_runtime, filter_options, json_option, utc_option
from .output import chatter, echo_json, echo_json_line, echo_table, moment, task_document

_CANDIDATES = 10


def task_id_of(runtime: Runtime, text: str) -> str:
    """The id that begins so. Raises `UnknownTaskError` if there is none, UsageError with the
    candidates if there are several.
    """
    prefix = text.strip().upper()
    store = runtime.store
    with store.reading() as connection:
        found = (
            store.tasks.ids_like(connection, prefix, _CANDIDATES + 1)
            if prefix.isalnum() and prefix.isascii()
            else []
        )
    if not found:
        raise UnknownTaskError(
            f"there is no task whose id begins with {text!r}; it never was, or has been pruned"
        )
    if len(found) > 1:
        more = " and more" if len(found) > _CANDIDATES else ""
        raise click.UsageError(
            f"the ids of several tasks begin with {text!r}: {', '.join(found[:_CANDIDATES])}{more}"
        )
    return found[0]


def tell_nothing(runtime: Runtime, wanted: Filter | None) -> None:
    """Say that no task matches; and if there is no such queue at all, which there are."""
    told = "No tasks match."
    if wanted is not None and wanted.queue is not None:
        with runtime.store.reading() as connection:
            known = sorted(
                {
                    *runtime.settings.queues,
                    *(row.name for row in runtime.store.queues.rows(connection)),
                }
            )
        if wanted.queue not in known:
            told += f" There is no queue {wanted.queue!r}; there are {', '.join(known)}."
    chatter(told)


_COLOURS = {State.DEAD: "red", State.SUCCEEDED: "green", State.LEASED: "cyan"}
_ERROR_LENGTH = 40


@click.command("list")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="At most so many, the newest.",
)
@click.option(
    "--deep", is_flag=True, help=f"Look through every task, not only the newest {SEARCHED:,}."
)
@json_option
@click.option("--jsonl", "as_lines", is_flag=True, help="A JSON document per line and task.")
@utc_option
@with_appcontext
def list_tasks(
    wanted: Filter | None, limit: int, deep: bool, as_json: bool, as_lines: bool, in_utc: bool
) -> None:
    """Show the newest tasks that fit, newest first."""
    runtime = current_runtime()
    with runtime.store.reading() as connection:
        found = _look(runtime, connection, wanted or Filter(), limit, deep)
    tasks = [Task.of(record, Tasks.of(runtime)) for record in found.records]
    if found.is_partial:
        chatter(_partly(wanted or Filter()))
    if as_json:
        echo_json([task_document(task) for task in tasks])
    elif as_lines:
        for task in tasks:
            echo_json_line(task_document(task))
    elif tasks:
        _show(tasks, in_utc)
        chatter(f"{count(len(tasks), 'task')}. Details: flask taskqueue show {tasks[0].id}")
    else:
        tell_nothing(runtime, wanted)


def _look(
    runtime: Runtime, connection: sa.Connection, wanted: Filter, limit: int, deep: bool
) -> Found:
    newest = runtime.store.newest
    return (
        Found(newest.find(connection, wanted, limit))
        if deep
        else newest.look(connection, wanted, limit)
    )


def _partly(wanted: Filter) -> str:
    ended = wanted.state is not None and wanted.state.is_finished
    seen = (
        f"the last {OF_STATE:,} that are {wanted.state}"
        if ended
        else f"the newest {SEARCHED:,} tasks"
    )
    return f"Only {seen} were looked through; --deep looks through all."


def _show(tasks: list[Task], in_utc: bool) -> None:
    head = ("ID", "QUEUE", "URL", "STATE", "TRY", "STATUS", "CREATED", "DUE, ENDED")
    rows = [
        (
            task.id,
            task.queue,
            redacted(task.url),
            task.state.value,
            str(task.attempts),
            status_text(task),
            moment(task.created_at, in_utc),
            moment(task.finished_at or task.due_at, in_utc),
        )
        for task in tasks
    ]
    echo_table(head, rows, right=[4], colours={3: [_COLOURS.get(task.state) for task in tasks]})


def status_text(task: Task) -> str:
    """What the last attempt came to, in a few words."""
    if task.last_status is not None:
        return str(task.last_status)
    words = (
        task.last_error
        if task.last_error and len(task.last_error) <= _ERROR_LENGTH
        else task.last_reason
    )
    return words or "-"
