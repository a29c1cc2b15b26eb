"""Problems found in the tables and in the routes of this release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import sqlalchemy as sa

from ..core.diagnosis.facts import Finding
from ..core.diagnosis.problems import (
    AttemptCounts,
    judge_dead_tasks,
    judge_dispatchers,
    judge_missing_routes,
    judge_queues,
)
from ..core.urls import redacted
from ..runtime import Runtime
from ..store import MOST_DEAD
from .routes import answers

_LATEST = 100
"""How many of the latest failed attempts are examined for the errors of queues."""


def find_problems(runtime: Runtime, connection: sa.Connection) -> Iterator[Finding]:
    """Yield what keeps tasks from being done.

    If no dispatcher is alive, that comes first. Pull queues need none, and no route either.
    """
    store = runtime.store
    pulled = store.queues.pulled(connection)
    queues = sorted({*runtime.settings.queues, *store.added_queues.names(connection)} - pulled)
    now = store.schedules.now(connection)
    waiting = {
        queue: live.unfinished
        for queue, live in store.backlog.of(connection).items()
        if queue not in pulled
    }
    yield from judge_dispatchers(store.dispatchers.list(connection), queues, waiting, now)
    nowhere: Counter[str] = Counter()
    for (method, url), number in store.diagnostics.next_places(connection, queues).items():
        if not answers(runtime.app, url, method):
            nowhere[f"{method} {redacted(url)}"] += number
    yield from judge_missing_routes(nowhere)
    minutes = {
        queue: [AttemptCounts(counts.attempts, counts.failures) for counts in of_queue]
        for queue, of_queue in store.charts.last_hour(connection).items()
    }
    yield from judge_queues(minutes, store.failures.latest(connection, _LATEST))
    dead = store.diagnostics.dead(connection)
    yield from judge_dead_tasks(dead, more=len(dead) == MOST_DEAD)
