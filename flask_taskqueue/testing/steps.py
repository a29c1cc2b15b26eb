"""Steps: tasks attempted one at a time, in the thread that asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ..api.tasks import Tasks
from ..core.ids import dispatcher_id, lease_id
from ..core.record import Record
from ..core.tasks.task import Task
from ..engine.attempt import Attempts, Routes
from ..engine.claimer import Taking
from ..runtime import Runtime
from ..store import Rehearsal, Store
from .attempts import Attempt
from .script import Script, Scripted

_LEASE = 3600.0
"""Seconds; a test may stand still in a debugger."""


class Steps:
    """Does what a dispatcher with one slot would do, step by step."""

    def __init__(self, runtime: Runtime, rehearsal: Rehearsal, script: Script) -> None:
        self._runtime = runtime
        self._rehearsal = rehearsal
        self._script = script
        self._id = dispatcher_id()
        self._actions = Tasks.of(runtime)
        routes = runtime.routes(None, "wsgi")
        scripted = Routes(
            Scripted(routes.own, script), routes.own_url, Scripted(routes.remote, script)
        )
        self._attempts = Attempts(
            runtime.settings, runtime.targets, scripted, runtime.keys, runtime.vault, runtime.begun
        )
        self._taking = Taking(
            runtime.store.claims, queues=None, held_by=self._id, lease=_LEASE, slots=1
        )

    def next(self) -> Record | None:
        """Lease the task whose turn it is; None if nothing is due."""

        def take(connection: sa.Connection) -> list[Record]:
            return self._taking.take(
                connection, self._taking.look(connection, afresh=True), 1, []
            ).records

        taken = self._store.transact(take)
        for result in self._taking.ended():
            self._runtime.observe(result, False)
        return taken[0] if taken else None

    def take(self, task_id: str) -> Record | None:
        """Lease one task, whatever it waits for; None if it is not scheduled."""
        return self._rehearsal.take(task_id, lease_id=lease_id(), held_by=self._id, lease=_LEASE)

    def release(self, records: Sequence[Record]) -> None:
        """Give tasks back as if they had never been leased."""
        leases = [(record.id, record.lease_id or "") for record in records]
        if leases:
            self._store.transact(lambda connection: self._store.leases.release(connection, leases))

    def attempt(self, record: Record) -> Attempt:
        """Deliver a leased task and record what became of it."""
        delivery = self._attempts.begin(record)
        self._script.begin()
        result = self._attempts.make(delivery)
        if self._script.crashed:
            self._store.transact(
                lambda connection: self._store.leases.renew(connection, [delivery.lease], 0.0)
            )
            return Attempt(
                task=self._task(record),
                status=None,
                outcome="crash",
                error="the dispatcher's process died, as the test asked for",
            )
        recorded = self._store.transact(
            lambda connection: self._store.leases.record(connection, [result])
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

    def close(self) -> None:
        """Let go of connections."""
        self._attempts.close()

    @property
    def _store(self) -> Store:
        return self._runtime.store

    def _task(self, record: Record) -> Task:
        return self._actions.get(record.id)
