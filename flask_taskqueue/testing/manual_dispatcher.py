"""A dispatcher that a test steps by hand: one task at a time, in the thread of the test."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import sqlalchemy as sa

from ..api.tasks import Tasks
from ..core.names import dispatcher_id, lease_id
from ..core.states import Record
from ..core.tasks.task import Task
from ..core.times import SECOND, to_micros
from ..engine.attempt import Attempts
from ..engine.claimer import Claimed, Claimer
from ..engine.outgoing_requests import Routes
from ..runtime import Runtime
from ..store import DatabaseForTests, Store, Waiting
from .attempts import Attempt
from .script import NoNetwork, Script, Scripted

_LEASE = 3600.0
"""Seconds; a test may be stopped in a debugger for long."""


class ManualDispatcher:
    """A dispatcher with one slot that does each step when it is called."""

    def __init__(self, runtime: Runtime, database: DatabaseForTests, script: Script) -> None:
        self._runtime = runtime
        self._database = database
        self._script = script
        self._id = dispatcher_id()
        self._actions = Tasks.of(runtime)
        routes = runtime.routes(None, "wsgi")
        scripted = Routes(
            Scripted(routes.own, script), routes.own_url, partial(Scripted, NoNetwork(), script)
        )
        self._attempts = Attempts(
            runtime.settings,
            runtime.targets,
            scripted,
            runtime.keys,
            runtime.encryption,
            runtime.begun,
            runtime.store.known_queues,
        )
        self._claimer = Claimer(
            runtime.store.claims,
            runtime.store.added_queues,
            queues=None,
            held_by=self._id,
            lease=_LEASE,
            slots=1,
        )

    def next(self) -> Record | None:
        """Lease the next due task; return None if there is none."""

        def take(connection: sa.Connection) -> Claimed:
            lanes = self._claimer.last_look.look_anew(connection)
            return self._claimer.take(connection, lanes, 1, [])

        while True:
            claimed = self._store.transact(take)
            for result in claimed.ended:
                self._runtime.observe(result, False)
            if claimed.records or not claimed.again:  # unless others were put off
                return claimed.records[0] if claimed.records else None

    def take(self, task_id: str) -> Record | None:
        """Lease a task, whatever it waits for; return None if it is not scheduled, or is pulled."""
        record = self._database.take(task_id, lease_id=lease_id(), held_by=self._id, lease=_LEASE)
        if record is not None and record.queue not in self._runtime.settings.queues:
            with self._store.reading() as connection:
                self._store.added_queues.note(connection, record.queue)
        return record

    def release(self, records: Sequence[Record]) -> None:
        """Give tasks back as if they had never been leased."""
        leases = [record.lease for record in records]
        if leases:
            self._store.transact(lambda connection: self._store.leases.release(connection, leases))

    def attempt(self, record: Record) -> Attempt:
        """Deliver a leased task and record the outcome."""
        (delivery,) = self._attempts.begin([record])
        self._script.begin()
        result = self._attempts.make(delivery)
        if self._script.crashed:
            self._store.transact(
                lambda connection: self._store.leases.renew(connection, [delivery.lease], 0.0)
            )
            self._database.end_lease(delivery.lease)
            return Attempt(
                task=self._task(record),
                status=None,
                outcome="crash",
                error="the dispatcher's process died, as the test asked",
            )
        recorded = self._store.transact(
            lambda connection: self._store.recording.record(connection, [result])
        )
        result, lost = recorded.results[0], recorded.lost
        self._runtime.observe(result, record.id in lost)
        reply, outcome = self._script.reply, result.outcome
        return Attempt(
            task=self._task(record),
            status=outcome.status,
            outcome="late" if record.id in lost else outcome.reason,
            error=outcome.error,
            retry_in=outcome.delay,
            headers={} if reply is None else reply.headers,
            body=b"" if reply is None else reply.body,
            truncated=reply is not None and reply.truncated,
            exception=self._script.exception,
        )

    def next_event(self, looked_at: int, *, run: bool) -> int | None:
        """Return the microseconds until a schedule fires or, with ``run``, a task may be leased.

        Returns None if neither is ahead. A schedule that was due when schedules were ``looked_at``
        waits for one of its tasks.
        """
        names = self._runtime.cron.declare()
        now = self._database.now()
        with self._store.reading() as connection:
            waits = [
                to_micros(schedule.next_at) - now
                for name, schedule in Waiting.of(self._store.schedules.rows(connection)).items()
                if (schedule.is_added or name in names) and to_micros(schedule.next_at) > looked_at
            ]
            next_in = self._store.claims.lanes(connection).next_in() if run else None
        waits += [] if next_in is None else [int(next_in * SECOND)]
        return max(1, min(waits)) if waits else None

    def close(self) -> None:
        """Close the connections."""
        self._attempts.close()

    @property
    def _store(self) -> Store:
        return self._runtime.store

    def _task(self, record: Record) -> Task:
        return self._actions.get(record.id)
