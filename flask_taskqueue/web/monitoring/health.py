"""Health checks, which say whether the queue can do its work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from ...core.diagnosis.facts import Finding
from ...core.errors import TaskQueueError
from ...core.queues.lanes import Lanes
from ...core.times import SECOND, utc
from ...process.threads import NoThreadError, signals_blocked_in_uwsgi, start_thread
from ...runtime import Runtime
from ..problems import find_problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The result of a health check.

    ``problems`` are sentences, none if all is well. ``warnings`` are sentences about what goes
    wrong although the queue works, such as failing tasks or a dispatcher that has died. ``reached``
    says whether the database answered and, if dispatchers were looked for, whether one is alive.
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
        """The result as an object for JSON."""
        found = {"status": "ok" if self.ok else "failing", "problems": list(self.problems)}
        if self.dispatchers is None:
            return found
        return found | {
            "warnings": list(self.warnings),
            "dispatchers": self.dispatchers,
            "oldest_due_seconds": self.oldest_due_seconds,
        }


def ready(runtime: Runtime) -> Health:
    """Check whether tasks can be stored.

    They can if the database answers, and its tables are this application's and work with this
    version.
    """
    try:
        return Health(problems=runtime.store.read(lambda reader: _unfit(runtime, reader)))
    except TaskQueueError as error:
        return Health(problems=(str(error),), reached=False)


def dispatching(runtime: Runtime, max_latency: float, *, in_detail: bool = False) -> Health:
    """Check whether tasks are attempted.

    They are if a dispatcher is alive for every queue, and no task that may start has been due for
    more than ``max_latency`` seconds. If this process has a dispatcher of its own, the database
    must not refuse it either, and it must look for tasks while some are due. The database's message
    about that, and the ways in which tasks fail, may name hosts and users, so they are included
    only with ``in_detail``.
    """
    store, outage = runtime.store, _outage(runtime, in_detail)
    try:
        alive, lanes, taken, found, since = store.read(partial(_seen, runtime))
    except TaskQueueError as error:
        return Health(problems=(str(error), *outage), reached=False)
    if lanes.due():
        outage += _stall(runtime)
    waited = max(0, lanes.now - since) / SECOND
    bad = [
        str(problem)
        for number, problem in enumerate(found)
        if problem.level == "error" or (number == 0 and not alive)
    ]
    problems = [*taken, *outage, *bad]
    warnings = [str(problem) for problem in found if str(problem) not in bad]
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


def _seen(
    runtime: Runtime, connection: sa.Connection
) -> tuple[int, Lanes, tuple[str, ...], list[Finding], int]:
    """Return what `dispatching` looks at, and since when the task waits that is due longest."""
    store = runtime.store
    alive = sum(dispatcher.is_alive for dispatcher in store.dispatchers.list(connection))
    lanes = store.claims.lanes(connection)
    taken = _taken(runtime, connection)
    found = list(find_problems(runtime, connection))
    waits = [
        store.backlog.due_since(connection, lane.queue, lane.priority, lanes.now)
        for lane in lanes.due()
    ]
    since = min((since for since in waits if since is not None), default=lanes.now)
    return alive, lanes, taken, found, since


def _unfit(runtime: Runtime, connection: sa.Connection) -> tuple[str, ...]:
    runtime.store.schedules.now(connection)  # a question that the database has to answer
    return _taken(runtime, connection)


def _taken(runtime: Runtime, connection: sa.Connection) -> tuple[str, ...]:
    """Return the problem that the tables belong to another application, if they do.

    The log and ``flask taskqueue doctor`` say which application it is.
    """
    found = runtime.store.ownership.look(connection)
    return (
        ()
        if found is None or found.level != "error"
        else ("the tables belong to another application; see flask taskqueue doctor",)
    )


def _outage(runtime: Runtime, in_detail: bool) -> list[str]:
    """Return what keeps this process's dispatcher from working."""
    scheduler = runtime.scheduler
    health = None if scheduler is None else scheduler.dispatcher.health
    if health is None or health.refusing_since is None:
        return []
    why = health.last_error if in_detail else "the log says why"
    return [
        "the database has refused the dispatcher of this process since "
        f"{utc(health.refusing_since)}: {why}"
    ]


def _stall(runtime: Runtime) -> list[str]:
    """Return that this process's dispatcher does not look for tasks, if so."""
    scheduler = runtime.scheduler
    seconds = None if scheduler is None else scheduler.dispatcher.stalled_for
    if seconds is None:
        return []
    return [
        f"the dispatcher of this process has not looked for tasks for {seconds:.0f} s: its thread "
        "hangs or has died; look at the log, and restart the process"
    ]


TIMEOUT = 5.0
"""Seconds after which a check is given up and the database counts as not answering."""


class Probe:
    """A health probe of one application, which makes one check at a time.

    A silent database therefore costs one thread and one connection, however often the probe is
    asked.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._turn = threading.Semaphore()

    def ask(self, look: Callable[[], Health]) -> Health:
        """Return what ``look`` finds, run in a thread, or a failure after `TIMEOUT` seconds.

        The time includes waiting for a check that is under way. The failure says that the database
        does not answer.
        """
        if self._runtime.store.database.in_memory:  # it has one connection, for one thread
            return look()
        limit = time.monotonic() + TIMEOUT
        if not self._turn.acquire(timeout=TIMEOUT):
            return _silent()
        found: list[Health] = []
        try:
            with signals_blocked_in_uwsgi():
                thread = start_thread(self._look, look, found, name="taskqueue-health")
        except NoThreadError as error:
            self._turn.release()
            return Health(problems=(f"this process cannot start a thread: {error}",), reached=False)
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
