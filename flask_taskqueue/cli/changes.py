"""``flask taskqueue retry``, ``run-now`` and ``delete``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from flask.cli import with_appcontext

from ..api.bulk import change_matching, forget_matching
from ..api.queue import Queue
from ..api.tasks import Tasks
from ..core.clock import to_micros
from ..core.errors import BadTaskStateError
from ..core.humanize import count
from ..core.ids import first_id
from ..core.states import State
from ..engine.maintenance import Retention
from ..runtime import Runtime
from ..store import Action, Filter
from .options import (
    FAILED,
    Duration,
    current_runtime,
    dry_run_option,
    filter_options,
    json_option,
    yes_option,
)
from .output import chatter, confirm, echo_changes, progress
from .tasks import task_id_of, tell_nothing


@dataclass(frozen=True, slots=True)
class _Verb:
    """What a command does, in words and in deed."""

    name: str
    past: str
    action: Action
    one: Callable[[Tasks, str], Any]


def _command(verb: _Verb, help_text: str) -> click.Command:
    @click.command(verb.name, help=help_text)
    @click.argument("task_ids", metavar="[ID]...", nargs=-1)
    @filter_options
    @click.option("--all", "everything", is_flag=True, help="Each task that the filters leave.")
    @dry_run_option
    @yes_option
    @json_option
    @with_appcontext
    def command(
        task_ids: Sequence[str],
        wanted: Filter | None,
        everything: bool,
        dry_run: bool,
        yes: bool,
        as_json: bool,
    ) -> None:
        _check(verb, task_ids, wanted, everything)
        runtime = current_runtime()
        if task_ids:
            ids = list(dict.fromkeys(task_id_of(runtime, one) for one in task_ids))
            matched, changed = len(ids), 0 if dry_run else _change_each(runtime, verb, ids)
        else:
            matched, changed = _change_all(runtime, verb, wanted or Filter(), dry_run, yes)
        _report(runtime, verb, wanted, matched, changed, dry_run, as_json)
        if task_ids and not dry_run and changed < matched:
            raise click.exceptions.Exit(FAILED)

    return command


def _check(verb: _Verb, ids: Sequence[str], wanted: Filter | None, everything: bool) -> None:
    if ids and (wanted is not None or everything):
        raise click.UsageError(
            "tasks are named by their ids, or by filters with --all, not by both"
        )
    if not ids and not everything:
        raise click.UsageError(
            f"name the tasks by their ids, or {verb.name} each that filters leave, with --all"
        )


def _change_each(runtime: Runtime, verb: _Verb, ids: Sequence[str]) -> int:
    changed = 0
    for one in ids:
        try:
            done = verb.one(Tasks.of(runtime), one)
        except BadTaskStateError as error:
            chatter(f"{error}.")
            continue
        if done is False:
            chatter(f"task {one} had ended already.")
            continue
        changed += 1
    return changed


def _change_all(
    runtime: Runtime, verb: _Verb, wanted: Filter, dry_run: bool, yes: bool
) -> tuple[int, int]:
    with runtime.store.reading() as connection:
        matched = runtime.store.tasks.count(connection, wanted, verb.action)
    if not matched or dry_run:
        return matched, 0
    confirm(f"This will {verb.name} {count(matched, 'task')}. Continue?", yes=yes)
    with progress(matched, verb.name) as told:
        return matched, change_matching(runtime, verb.action, wanted, told)


def _report(
    runtime: Runtime,
    verb: _Verb,
    wanted: Filter | None,
    matched: int,
    changed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    if not matched and not as_json:
        tell_nothing(runtime, wanted)
    else:
        echo_changes(
            verb.name,
            matched=matched,
            changed=changed,
            dry_run=dry_run,
            as_json=as_json,
            verb=verb.name,
            past=verb.past,
        )


retry = _command(
    _Verb("retry", "Retried", Action.REQUEUE, Tasks.requeue),
    "Schedule dead tasks again, from their first attempt: those with these IDs, or each that "
    "the filters leave, with --all.",
)
run_now = _command(
    _Verb("run-now", "Made due", Action.RUN_NOW, Tasks.run_now),
    "Make scheduled tasks due: those with these IDs, or each that the filters leave, with --all.",
)
delete = _command(
    _Verb("delete", "Deleted", Action.DELETE, Tasks.delete),
    "Cancel tasks that have not ended: those with these IDs, or each that the filters leave, "
    "with --all.",
)


@click.command("prune")
@click.option(
    "--older-than",
    type=Duration(),
    help="Those that ended so long ago, such as 7d.  [default: as the settings keep them]",
)
@dry_run_option
@yes_option
@json_option
@with_appcontext
def prune(older_than: timedelta | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Forget finished tasks with their attempts, as the janitor does, or those that ended longer
    ago than you say.

    A name that is kept from being taken again (tombstone_ttl) stays as long as its queue says.
    """
    runtime = current_runtime()
    keep = None if older_than is None else older_than.total_seconds()
    kept = Retention.of(runtime.settings, keep=keep)
    with runtime.store.reading() as connection:
        matched = runtime.store.history.count(
            connection,
            keep_succeeded=kept.succeeded,
            keep_dead=kept.dead,
            tombstones=kept.tombstones,
        )
    forgotten = 0
    if matched and not dry_run:
        confirm(f"This will forget {count(matched, 'finished task')}. Continue?", yes=yes)
        with progress(matched, "prune") as told:
            for some in runtime.prune(keep=keep):
                forgotten += some
                told(some)
    echo_changes(
        "prune",
        matched=matched,
        changed=forgotten,
        dry_run=dry_run,
        as_json=as_json,
        verb="forget",
        past="Forgot",
    )


_STATE = "Only those in this state; what has ended is not cancelled, but forgotten."


@click.command("purge")
@click.argument("queue")
@click.option("--state", type=click.Choice([state.value for state in State]), help=_STATE)
@click.option("--older-than", type=Duration(), help="Only those added so long ago, such as 7d.")
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
    """Cancel every task of QUEUE that has not ended; with --state dead, say, forget those that
    are dead.
    """
    runtime = current_runtime()
    cutoff = (
        None if older_than is None else first_id(max(0, to_micros(datetime.now(UTC) - older_than)))
    )
    name = Queue(queue, runtime).name
    wanted = Filter(state=None if state is None else State(state), queue=name, before=cutoff)
    forgets = wanted.state is not None and wanted.state.is_finished
    verb, past = ("forget", "Forgot") if forgets else ("cancel", "Cancelled")
    what = f"{state} task" if state else "task"
    matched, changed = _count(runtime, wanted, forgets), 0
    if matched and not dry_run:
        confirm(f"This will {verb} {count(matched, what)} of queue {queue}. Continue?", yes=yes)
        with progress(matched, "purge") as told:
            changed = (
                forget_matching(runtime, wanted, told)
                if forgets
                else change_matching(runtime, Action.DELETE, wanted, told)
            )
    echo_changes(
        "purge",
        matched=matched,
        changed=changed,
        dry_run=dry_run,
        as_json=as_json,
        verb=verb,
        past=past,
        what=what,
    )


def _count(runtime: Runtime, wanted: Filter, forgets: bool) -> int:
    store = runtime.store
    with store.reading() as connection:
        if forgets:
            return store.history.count_some(
                connection, wanted, Retention.of(runtime.settings).tombstones
            )
        return store.tasks.count(connection, wanted, Action.DELETE)
