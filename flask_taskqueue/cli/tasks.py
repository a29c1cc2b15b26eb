"""``flask taskqueue list``."""

from __future__ import annotations

import click
import sqlalchemy as sa
from flask.cli import with_appcontext

from ..api.tasks import Tasks
from ..core.errors import UnknownTaskError
from ..core.states import State
from ..core.tasks.task import Task
from ..core.times import plural
from ..core.urls import redacted
from ..runtime import Runtime
from ..store import OF_STATE, SEARCHED, Filter, SearchResult
from .options import LARGEST, current_runtime, filter_options, json_option, utc_option
from .output import chatter, echo_json, echo_json_line, echo_table, moment, task_document

_CANDIDATES = 10


def task_id_of(runtime: Runtime, text: str) -> str:
    """Return the task id that begins with ``text``.

    Raises `UnknownTaskError` if there is none, UsageError with the candidates if several do.
    """
    prefix = text.strip().upper()
    store = runtime.store
    ids = store.read(
        lambda connection: (
            store.tasks.ids_like(connection, prefix, _CANDIDATES + 1)
            if prefix.isalnum() and prefix.isascii()
            else []
        )
    )
    if not ids:
        raise UnknownTaskError(
            f"there is no task whose id begins with {text!r}; it never existed, or has been pruned"
        )
    if len(ids) > 1:
        more = " and more" if len(ids) > _CANDIDATES else ""
        raise click.UsageError(
            f"the ids of several tasks begin with {text!r}: {', '.join(ids[:_CANDIDATES])}{more}"
        )
    return ids[0]


def explain_no_match(runtime: Runtime, task_filter: Filter | None) -> None:
    """Say that no task matches; for an unknown queue, list the queues that exist."""
    message = "No tasks match."
    if task_filter is not None and task_filter.queue is not None:
        known = runtime.store.read(
            lambda connection: sorted(
                {
                    *runtime.settings.queues,
                    *(row.name for row in runtime.store.queues.rows(connection)),
                }
            )
        )
        if task_filter.queue not in known:
            message += f" There is no queue {task_filter.queue!r}; there are {', '.join(known)}."
    chatter(message)


_COLOURS = {State.DEAD: "red", State.SUCCEEDED: "green", State.LEASED: "cyan"}
_ERROR_LENGTH = 40


@click.command("list")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, LARGEST),
    default=50,
    show_default=True,
    help="Show at most this many, the newest.",
)
@click.option("--deep", is_flag=True, help=f"Search all tasks, not only the newest {SEARCHED:,}.")
@json_option
@click.option(
    "--jsonl", "as_lines", is_flag=True, help="Print one JSON document per line and task."
)
@utc_option
@with_appcontext
def list_tasks(
    task_filter: Filter | None, limit: int, deep: bool, as_json: bool, as_lines: bool, in_utc: bool
) -> None:
    """List the tasks that match, newest first."""
    runtime = current_runtime()
    found = runtime.store.read(
        lambda connection: _find(runtime, connection, task_filter or Filter(), limit + 1, deep)
    )
    tasks = [Task.of(record, Tasks.of(runtime)) for record in found.records[:limit]]
    if len(found.records) > limit:
        chatter(f"There are more; these are the newest {limit:,} (--limit).")
    if found.is_partial:
        chatter(_partial_note(task_filter or Filter()))
    if as_json:
        echo_json([task_document(task) for task in tasks])
    elif as_lines:
        for task in tasks:
            echo_json_line(task_document(task))
    elif tasks:
        _show(tasks, in_utc)
        chatter(f"{plural(len(tasks), 'task')}. Details: flask taskqueue show {tasks[0].id}")
    else:
        explain_no_match(runtime, task_filter)


def _find(
    runtime: Runtime, connection: sa.Connection, task_filter: Filter, limit: int, deep: bool
) -> SearchResult:
    newest = runtime.store.search
    return (
        SearchResult(newest.find(connection, task_filter, limit))
        if deep
        else newest.look(connection, task_filter, limit)
    )


def _partial_note(task_filter: Filter) -> str:
    ended = task_filter.state is not None and task_filter.state.is_finished
    seen = (
        f"the last {OF_STATE:,} that are {task_filter.state}"
        if ended
        else f"the newest {SEARCHED:,} tasks"
    )
    return f"Only {seen} were searched; --deep searches all."


def _show(tasks: list[Task], in_utc: bool) -> None:
    head = ("ID", "QUEUE", "URL", "STATE", "ATTEMPTS", "STATUS", "CREATED", "DUE/ENDED")
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
    """Say in a few words how the last attempt ended."""
    if task.last_status is not None:
        return str(task.last_status)
    words = (
        task.last_error
        if task.last_error and len(task.last_error) <= _ERROR_LENGTH
        else task.last_reason
    )
    return words or "-"
