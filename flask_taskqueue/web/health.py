"""Health: whether the queue can do its work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..core.clock import SECOND
from ..core.errors import TaskQueueError
from ..core.humanize import utc
from ..process.threads import signals_blocked_in_uwsgi, start_thread
from ..runtime import Runtime
from .troubles import troubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was found. ``problems`` are sentences, none when all is well; ``reached`` is whether
    anybody is there to work.

    ``warnings`` are sentences about what goes wrong though the queue works: tasks fail, a
    dispatcher has died.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    reached: bool = True
    dispatchers: int | None = None
    oldest_due_seconds: float | None = None

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.problems

    @property
    def document(self) -> dict[str, Any]:
        """The same for JSON."""
        found = {"status": "ok" if self.ok else "failing", "problems": list(self.problems)}
        if self.dispatchers is None:
            return found
        return found | {
            "warnings": list(self.warnings),
            "dispatchers": self.dispatchers,
            "oldest_due_seconds": self.oldest_due_seconds,
        }


def ready(runtime: Runtime) -> Health:
    """Whether tasks can be stored: the database answers, and the tables are this application's,
    and those that this version works with.
    """
    try:
        with runtime.store.reading() as connection:
            runtime.store.schedules.now(connection)
            return Health(problems=_taken(runtime, connection))
    except TaskQueueError as error:
        return Health(problems=(str(error),), reached=False)


def dispatching(runtime: Runtime, max_latency: float, *, in_detail: bool = False) -> Health:
    """Whether tasks are attempted: a dispatcher is alive for every queue, and nothing that may
    start has been due for so many seconds.

    The database must not refuse this process's own dispatcher, if it has one. What the database
    says of that, and how tasks fail, which may name hosts and users, is told only ``in_detail``.
    """
    store, outage = runtime.store, _outage(runtime, in_detail)
    try:
        with store.reading() as connection:
            alive = sum(one.is_alive for one in store.dispatchers.list(connection))
            lanes = store.claims.lanes(connection)
            taken = _taken(runtime, connection)
            found = list(troubles(runtime, connection))
            since = min((lane.due_at or 0 for lane in lanes.due()), default=lanes.now)
            if lanes.now - since > max_latency * SECOND:  # by an eta of the past, perhaps
                since = store.metrics.waits_since(connection, lanes.due()) or lanes.now
    except TaskQueueError as error:
        return Health(problems=(str(error), *outage), reached=False)
    waited = max(0, lanes.now - since) / SECOND
    bad = [
        str(one)
        for number, one in enumerate(found)
        if one.level == "error" or (number == 0 and not alive)
    ]
    problems, warnings = [*taken, *outage, *bad], [str(one) for one in found if str(one) not in bad]
    if waited > max_latency:
        problems.append(
            f"the task that is due longest has waited {waited:.0f} s, more than {max_latency:g}"
        )
    return Health(
        problems=tuple(problems),
        warnings=tuple(warnings) if in_detail else (),
        reached=bool(alive),
        dispatchers=alive,
        oldest_due_seconds=round(waited, 3),
    )


def _taken(runtime: Runtime, connection: sa.Connection) -> tuple[str, ...]:
    """That the tables are another application's; which, the log and the doctor say."""
    found = runtime.store.ownership.look(connection)
    return (
        ()
        if found is None or found.level != "error"
        else ("the tables belong to another application; see flask taskqueue doctor",)
    )


def _outage(runtime: Runtime, in_detail: bool) -> list[str]:
    """What keeps the dispatcher of this process from working."""
    scheduler = runtime.scheduler
    health = None if scheduler is None else scheduler.dispatcher.health
    if health is None or health.refusing_since is None:
        return []
    why = health.last_error if in_detail else "the log says why"
    return [
        "the database has refused the dispatcher of this process since "
        f"{utc(health.refusing_since)}: {why}"
    ]


TIMEOUT = 5.0
"""Seconds within which a look is over, or the database does not answer."""


class Probe:
    """Of one application. One look at a time, so that a silent database costs one thread and
    one connection, however often it is asked.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._turn = threading.Semaphore()

    def ask(self, look: Callable[[], Health]) -> Health:
        """What ``look`` finds, run in a thread; after `TIMEOUT`, waiting for one that is under
        way included, that nothing answers.
        """
        if self._runtime.store.database.in_memory:  # one connection, for one thread
            return look()
        limit = time.monotonic() + TIMEOUT
        if not self._turn.acquire(timeout=TIMEOUT):
            return _silent()
        found: list[Health] = []
        with signals_blocked_in_uwsgi():
            thread = start_thread(self._look, look, found, name="taskqueue-health")
        thread.join(max(0.0, limit - time.monotonic()))
        if thread.is_alive():
            return _silent()
        return (
            found[0]
            if found
            else Health(problems=("the health check failed; the log says why",), reached=False)
        )

    def _look(self, look: Callable[[], Health], found: list[Health]) -> None:
        try:
            found.append(look())
        finally:
            self._turn.release()


def _silent() -> Health:
    return Health(problems=(f"the database has not answered for {TIMEOUT:g} s",), reached=False)
