"""Whether dispatchers are there for every queue, and whether what they attempt succeeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ..api.statistics import statistics
from ..core.diagnosis.finding import Finding
from ..core.dispatchers import DispatcherInfo
from ..core.errors import TablesMissingError, TransientError
from ..core.humanize import relative
from ..runtime import Runtime
from ..web.troubles import troubles

_ANCHOR = "troubleshooting#nothing-runs"


def look(runtime: Runtime) -> Iterator[Finding]:
    """Whether one is alive, none is there twice, each queue has one, and tasks do not fail all
    the time.
    """
    store = runtime.store
    try:
        queues = {one.queue: one for one in statistics(runtime)}
        with store.reading() as connection:
            known = store.dispatchers.list(connection)
            found = list(troubles(runtime, connection))
    except (TransientError, TablesMissingError):
        return  # which the look at the database tells
    yield from found
    yield from _alive([one for one in known if one.is_alive])
    for one in queues.values():
        if one.is_paused and one.scheduled:
            by = f" by {one.paused_by}" if one.paused_by else ""
            how = f"is paused{by}" if one.paused_at is not None else "has the rate 0"
            text = (
                f"queue {one.queue} {how}, and {one.scheduled:,} of its tasks "
                f"{'waits' if one.scheduled == 1 else 'wait'}"
            )
            resume = "resume" if one.paused_at is not None else "configure --rate 5/s"
            yield Finding(
                "warning", text, f"let it run: flask taskqueue {resume} {one.queue}", _ANCHOR
            )


def _alive(alive: Sequence[DispatcherInfo]) -> Iterator[Finding]:
    for one in alive:
        yield Finding(
            "ok",
            f"dispatcher {one.host}:{one.pid} was seen "
            f"{relative(one.seen_at, max(each.seen_at for each in alive))}",
        )
    for (host, pid), number in Counter((one.host, one.pid) for one in alive).items():
        if number > 1:
            yield Finding(
                "warning",
                f"process {host}:{pid} has {number} dispatchers: the application was made, "
                "or started, more than once in it",
                "make the application once per process, and do not start the dispatcher by "
                "hand where it starts by itself",
                "troubleshooting#does-not-start",
            )
