"""Dispatchers for every queue, and whether their attempts succeed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..api.statistics import capped, queue_counts, statistics
from ..core.diagnosis.facts import Finding
from ..core.dispatchers import DispatcherInfo
from ..core.errors import TablesMissingError, TransientError
from ..core.queues.statistics import QueueStatistics
from ..core.times import plural, relative
from ..runtime import Runtime
from ..web.problems import find_problems

_ANCHOR = "troubleshooting#nothing-runs"


def check(runtime: Runtime) -> Iterator[Finding]:
    """Check that each queue has a live dispatcher, none runs twice, and not every task fails."""
    store = runtime.store
    try:
        queues = statistics(runtime)
        with store.reading() as connection:
            counts = queue_counts(runtime, connection)
            dispatchers = store.dispatchers.list(connection)
            findings = list(find_problems(runtime, connection))
            others = store.queues.outdated(connection, runtime.settings.queues.values())
    except (TransientError, TablesMissingError):
        return  # the check of the database reports it
    yield from findings
    yield from _alive([dispatcher for dispatcher in dispatchers if dispatcher.is_alive])
    yield from _limited_otherwise([queue.name for queue in others])
    yield from _paused(queues, {name: found.unclaimed for name, found in counts.items()})


def _limited_otherwise(queues: Sequence[str]) -> Iterator[Finding]:
    for queue in queues:
        yield Finding(
            "warning",
            f"queue {queue} has the limits that another release configures, because the dispatcher "
            "that started last is one of that release, or none of this one has started",
            "start a dispatcher of this release, or end those of the other",
            "queues#limits-roll-out",
        )


def _paused(queues: Sequence[QueueStatistics], waiting: Mapping[str, int]) -> Iterator[Finding]:
    for queue in queues:
        number = waiting.get(queue.queue, 0)
        if queue.is_paused and number:
            by = f" by {queue.paused_by}" if queue.paused_by else ""
            how = f"is paused{by}" if queue.paused_at is not None else "has the rate 0"
            text = (
                f"queue {queue.queue} {how}, and {capped(number)} of its tasks "
                f"{'waits' if number == 1 else 'wait'}"
            )
            resume = "resume" if queue.paused_at is not None else "configure --rate 5/s"
            yield Finding(
                "warning", text, f"let it run: flask taskqueue {resume} {queue.queue}", _ANCHOR
            )


def _alive(alive: Sequence[DispatcherInfo]) -> Iterator[Finding]:
    for dispatcher in alive:
        now = max(other.seen_at for other in alive)
        name = f"dispatcher {dispatcher.host}:{dispatcher.pid}"
        yield Finding("ok", f"{name} was seen {relative(dispatcher.seen_at, now)}")
        if dispatcher.replaced:
            yield Finding(
                "info",
                f"{name} was started {relative(dispatcher.started_at, now)} in the place of "
                f"another, which was replaced because {dispatcher.replaced_for} (--max-tasks, "
                f"--max-memory); {plural(dispatcher.replaced, 'process', 'processes')} so far",
            )
    for (host, pid), number in Counter(
        (dispatcher.host, dispatcher.pid) for dispatcher in alive
    ).items():
        if number > 1:
            yield Finding(
                "warning",
                f"process {host}:{pid} has {number} dispatchers: the application was made, "
                "or started, more than once in it",
                "make the application once per process, and do not start the dispatcher by "
                "hand where it starts by itself",
                "troubleshooting#does-not-start",
            )
