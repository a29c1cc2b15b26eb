"""``flask taskqueue purge``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from flask.cli import with_appcontext

from ..api.bulk import change_matching, forget_matching
from ..api.queue import Queue
from ..core.clock import to_micros
from ..core.counts import count
from ..core.ids import first_id
from ..core.states import State
from ..engine.janitor import Retention
from ..runtime import Runtime
from ..store import Action, Filter
from .current import current_runtime
from .options import Duration, dry_run_option, json_option, yes_option
from .output import confirm, echo_changes, progress

_STATE = "Only those in this state; what has ended is not cancelled, but forgotten."


@click.command("purge")
@click.argument("queue")
@click.option("--state", type=click.Choice([state.value for state in State]), help=_STATE)
@click.option("--older-than", type=Duration(), help="Only those added so long ago, such as 7d.")
@dry_run_option
@yes_option
@json_option
@with_appcontext
def purge(queue: str, state: str | None, older_than: timedelta | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Cancel every task of QUEUE that has not ended; with --state dead, say, forget those that are dead."""
    runtime = current_runtime()
    cutoff = None if older_than is None else first_id(max(0, to_micros(datetime.now(UTC) - older_than)))
    name = Queue(queue, runtime).name
    wanted = Filter(state=None if state is None else State(state), queue=name, before=cutoff)
    forgets = wanted.state is not None and wanted.state.is_finished
    verb, past = ("forget", "Forgot") if forgets else ("cancel", "Cancelled")
    what = f"{state} task" if state else "task"
    matched, changed = _count(runtime, wanted, forgets), 0
    if matched and not dry_run:
        confirm(f"This will {verb} {count(matched, what)} of queue {queue}. Continue?", yes=yes)
        with progress(matched, "purge") as told:
            changed = forget_matching(runtime, wanted, told) if forgets else change_matching(runtime, Action.DELETE, wanted, told)
    echo_changes("purge", matched=matched, changed=changed, dry_run=dry_run, as_json=as_json, verb=verb, past=past, what=what)


def _count(runtime: Runtime, wanted: Filter, forgets: bool) -> int:
    store = runtime.store
    with store.reading() as connection:
        if forgets:
            return store.history.count_some(connection, wanted, Retention.of(runtime.settings).tombstones)
        return store.tasks.count(connection, wanted, Action.DELETE)
