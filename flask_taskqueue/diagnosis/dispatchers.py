"""Whether dispatchers are there for every queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ..api.queue import statistics
from ..core.counts import count
from ..core.dispatcher_info import DispatcherInfo
from ..core.errors import TablesMissingError, TransientError
from ..core.finding import Finding
from ..core.spans import relative
from ..runtime import Runtime

_ANCHOR = "troubleshooting#nothing-runs"


def look(runtime: Runtime) -> Iterator[Finding]:
    """Whether one is alive, none is there twice, and each queue has one."""
    store = runtime.store
    try:
        queues = {one.queue: one for one in statistics(runtime)}
        with store.reading() as connection:
            known = store.dispatchers.list(connection)
    except (TransientError, TablesMissingError):
        return  # which the look at the database tells
    waiting = sum(one.tasks for one in queues.values())
    yield from judge_dispatchers(known, waiting, sorted(runtime.settings.queues))
    for one in queues.values():
        if one.paused_at is not None and one.scheduled:
            by = f" by {one.paused_by}" if one.paused_by else ""
            text = f"queue {one.queue} is paused{by}, and {one.scheduled:,} of its tasks {'waits' if one.scheduled == 1 else 'wait'}"
            yield Finding("warning", text, f"resume it: flask taskqueue resume {one.queue}", _ANCHOR)


def judge_dispatchers(known: Sequence[DispatcherInfo], waiting: int, queues: Sequence[str]) -> Iterator[Finding]:
    """What the dispatchers that are known mean, where so many tasks have not ended."""
    alive = [one for one in known if one.is_alive]
    if not alive:
        text = "no dispatcher is alive" + (f", and {count(waiting, 'task')} {'waits' if waiting == 1 else 'wait'}" if waiting else "")
        yield Finding("error" if waiting else "warning", text, "start one: flask taskqueue run", _ANCHOR)
        return
    for one in alive:
        yield Finding("ok", f"dispatcher {one.host}:{one.pid} was seen {relative(one.seen_at, max(each.seen_at for each in alive))}")
    processes = Counter((one.host, one.pid) for one in alive)
    for (host, pid), number in processes.items():
        if number > 1:
            yield Finding(
                "warning",
                f"process {host}:{pid} has {number} dispatchers: the application was made, or started, more than once in it",
                "make the application once per process, and do not start the dispatcher by hand where it starts by itself",
                "troubleshooting#does-not-start",
            )
    for queue in queues:
        if not any(one.queues is None or queue in one.queues for one in alive):
            text = f"no dispatcher takes from queue {queue}"
            yield Finding("warning", text, f"run one with it: flask taskqueue run --queues {queue}", _ANCHOR)
