"""``flask taskqueue requeue``, ``run-now``, ``delete``, ``prune`` and ``purge``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import click
import sqlalchemy as sa
from flask.cli import with_appcontext

from ..api.bulk import change_matching, forget_matching
from ..api.queue import Queue
from ..api.tasks import Tasks
from ..core.errors import BadTaskStateError
from ..core.names import first_id, task_id
from ..core.states import State
from ..core.times import duration, plural, to_micros
from ..engine.maintenance import Retention, tombstones_of
from ..runtime import Runtime
from ..store import Action, Filter
from .audit import entry_of, logged, subject_of_filter, subject_of_ids
from .options import (
    FAILED,
    Duration,
    current_runtime,
    dry_run_option,
    filter_options,
    json_option,
    yes_option,
)
from .output import Changes, chatter, confirm, progress
from .tasks import explain_no_match, task_id_of


@dataclass(frozen=True, slots=True)
class _Verb:
    """An action of a command on tasks, and the words for it; ``{}`` stands for their number.

    ``logged`` is what the audit log calls it, as for an action of the dashboard.
    """

    name: str
    logged: str
    present: str
    past: str
    action: Action
    change: Callable[..., Any]


def _command(verb: _Verb, help_text: str) -> click.Command:
    @click.command(verb.name, help=help_text)
    @click.argument("task_ids", metavar="[ID]...", nargs=-1)
    @filter_options
    @click.option("--all", "everything", is_flag=True, help="Every task that the filters match.")
    @dry_run_option
    @yes_option
    @json_option
    @with_appcontext
    def command(
        task_ids: Sequence[str],
        task_filter: Filter | None,
        everything: bool,
        dry_run: bool,
        yes: bool,
        as_json: bool,
        force: bool = False,
    ) -> None:
        _check(task_ids, task_filter, everything)
        if force and everything:
            raise click.UsageError("--force is for tasks that are given by their ids")
        runtime = current_runtime()
        chosen = replace(verb, change=partial(verb.change, force=True)) if force else verb
        if task_ids:
            ids = list(dict.fromkeys(task_id_of(runtime, task_id) for task_id in task_ids))
            matched, changed = (
                (_matching(runtime, verb, Filter(ids=ids)), 0)
                if dry_run
                else (len(ids), _change_each(runtime, chosen, ids))
            )
        else:
            matched, changed = _change_all(runtime, verb, task_filter or Filter(), dry_run, yes)
        if not matched and not as_json:
            explain_no_match(runtime, task_filter)
        else:
            Changes(verb.name, verb.present, verb.past, matched, changed, dry_run).echo(as_json)
        if task_ids and not dry_run and changed < matched:
            raise click.exceptions.Exit(FAILED)

    return command


def _check(ids: Sequence[str], task_filter: Filter | None, everything: bool) -> None:
    if ids and (task_filter is not None or everything):
        raise click.UsageError("give either ids, or filters with --all, but not both")
    if not ids and not everything:
        raise click.UsageError("give ids, or --all for every task that the filters match")


def _change_each(runtime: Runtime, verb: _Verb, ids: Sequence[str]) -> int:
    changed = 0
    with logged(runtime, verb.logged, subject_of_ids(ids)):
        for task_id in ids:
            try:
                done = verb.change(Tasks.of(runtime), task_id)
            except BadTaskStateError as error:
                chatter(f"{error}.")
                continue
            if done is False:
                chatter(f"task {task_id} had already ended.")
                continue
            changed += 1
    return changed


def _change_all(
    runtime: Runtime, verb: _Verb, task_filter: Filter, dry_run: bool, yes: bool
) -> tuple[int, int]:
    asked_for = replace(task_filter, before=task_id())  # what is added meanwhile is not
    matched = _matching(runtime, verb, asked_for)
    if not matched or dry_run:
        return matched, 0
    question = verb.present.format(plural(matched, "task"))
    confirm(f"This will {question}. Continue?", yes=yes)
    subject = subject_of_filter(runtime, task_filter)
    with progress(matched, verb.name) as on_progress, logged(runtime, verb.logged, subject):
        return matched, change_matching(runtime, verb.action, asked_for, on_progress)


def _matching(runtime: Runtime, verb: _Verb, task_filter: Filter) -> int:
    return runtime.store.read(
        lambda connection: runtime.store.tasks.count(connection, task_filter, verb.action)
    )


requeue: click.Command = _command(
    _Verb("requeue", "requeue", "requeue {}", "Requeued {}.", Action.REQUEUE, Tasks.requeue),
    "Schedule dead tasks again, starting from their first attempt. Give their IDs, or --all with "
    "filters.",
)


@click.command("retry", hidden=True, params=requeue.params, help="The former name of requeue.")
@click.pass_context
def retry(context: click.Context, /, **_: Any) -> None:
    """Requeue under the command's former name, which one release keeps."""
    chatter(
        "Deprecated: flask taskqueue retry is now flask taskqueue requeue; "
        "the next release drops the old name."
    )
    context.forward(requeue)


run_now: click.Command = _command(
    _Verb("run-now", "run", "run {} now", "{} will run now.", Action.RUN_NOW, Tasks.run_now),
    "Run scheduled tasks now, without waiting for their eta or retry. Give their IDs, or --all "
    "with filters.",
)
run_now.params.append(
    click.Option(
        ["--force"],
        is_flag=True,
        help="Even if their queues are paused, at their rate or full.",
    )
)
delete: click.Command = _command(
    _Verb("delete", "delete", "delete {}", "Deleted {}.", Action.DELETE, Tasks.delete),
    "Cancel tasks that have not ended. Give their IDs, or --all with filters.",
)


@click.command("prune")
@click.option(
    "--older-than",
    type=Duration(),
    help="Only tasks that ended this long ago, such as 7d.  [default: as the settings keep them]",
)
@dry_run_option
@yes_option
@json_option
@with_appcontext
def prune(older_than: timedelta | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Forget finished tasks and their attempts, by the settings or by --older-than.

    The janitor of a dispatcher does the same by the settings. A name that must not be taken again
    yet (tombstone_ttl) stays as long as its queue says.
    """
    runtime = current_runtime()
    keep = None if older_than is None else older_than.total_seconds()
    kept = Retention.of(runtime.settings, keep=keep)
    times: Any = {"keep_succeeded": kept.succeeded, "keep_dead": kept.dead}
    matched, named = _count_forgettable(
        runtime, kept, partial(runtime.store.finished_tasks.count, **times)
    )
    forgotten = 0
    if matched and not dry_run:
        confirm(f"This will forget {plural(matched, 'finished task')}. Continue?", yes=yes)
        age = "" if older_than is None else f", ended {duration(older_than.total_seconds())} ago"
        entry = entry_of(runtime, "prune", f"finished tasks{age}")
        with progress(matched, "prune") as on_progress:
            entry.add(0)
            for step in runtime.prune(keep=keep):
                entry.add(step)
                forgotten += step
                on_progress(step)
    Changes("prune", "forget {}", "Forgot {}.", matched, forgotten, dry_run, kept=named).echo(
        as_json
    )


_STATE = "Only tasks in this state. Tasks that have ended are forgotten, not cancelled."


@click.command("purge")
@click.argument("queue")
@click.option("--state", type=click.Choice([state.value for state in State]), help=_STATE)
@click.option("--older-than", type=Duration(), help="Only tasks added this long ago, such as 7d.")
@dry_run_option
@yes_option
@json_option
@with_appcontext
def purge(
    queue: str,
    state: str | None,
    older_than: timedelta | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Cancel every task of QUEUE that has not ended, or forget those that have.

    With --state succeeded, dead or cancelled it forgets the tasks that ended so.
    """
    runtime = current_runtime()
    task_filter = _purge_filter(runtime, queue, state, older_than)
    forgets = task_filter.state is not None and task_filter.state.is_finished
    verb, past = ("forget {}", "Forgot {}.") if forgets else ("cancel {}", "Cancelled {}.")
    noun = f"{state} task" if state else "task"
    (matched, named), changed = _count(runtime, task_filter, forgets), 0
    if matched and not dry_run:
        question = f"{verb.format(plural(matched, noun))} of queue {queue}"
        confirm(f"This will {question}. Continue?", yes=yes)
        subject = queue if state is None else f"{queue}: {state} tasks"
        with progress(matched, "purge") as on_progress, logged(runtime, "purge", subject):
            changed = (
                forget_matching(runtime, task_filter, on_progress)
                if forgets
                else change_matching(runtime, Action.DELETE, task_filter, on_progress)
            )
    Changes("purge", verb, past, matched, changed, dry_run, noun, named).echo(as_json)


def _purge_filter(
    runtime: Runtime, queue: str, state: str | None, older_than: timedelta | None
) -> Filter:
    """Return the filter that purge's options make. Raises `UnknownQueueError`.

    Without a time it matches what has been added until now.
    """
    cutoff = (
        task_id()
        if older_than is None
        else first_id(max(0, to_micros(datetime.now(UTC) - older_than)))
    )
    return Filter(
        state=None if state is None else State(state),
        queue=Queue(queue, runtime).name,
        before=cutoff,
    )


def _count(runtime: Runtime, task_filter: Filter, forgets: bool) -> tuple[int, int]:
    """Return how many tasks purge changes, and how many it keeps for their names."""
    store = runtime.store
    if forgets:
        count = partial(store.finished_tasks.count_some, filter=task_filter)
        return _count_forgettable(runtime, Retention.of(runtime.settings), count)
    return store.read(lambda reader: store.tasks.count(reader, task_filter, Action.DELETE)), 0


def _count_forgettable(
    runtime: Runtime, retention: Retention, count: Callable[..., int]
) -> tuple[int, int]:
    """Return how many tasks can be forgotten, and how many could be but for their names."""

    def both(connection: sa.Connection) -> tuple[int, int]:
        kept = tombstones_of(runtime.store, retention, connection)
        matched = count(connection, tombstones=kept)
        return matched, count(connection, tombstones={}) - matched

    return runtime.store.read(both)
