"""The store: the tables of one app and everything that is done with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial

import sqlalchemy as sa

from ..core.ownership import Application
from ..core.security.encryption import Encryption
from ..core.settings.added_queue import KnownQueues
from ..core.settings.app import KEEP_ATTEMPTS, MAX_BODY
from ..core.settings.queue import QueueSettings
from ..core.states import Lease
from .adding.added_schedules import AddedSchedules
from .adding.batches import Batches
from .adding.conflicts import Conflicts
from .adding.declared_schedules import DeclaredSchedules
from .adding.inserts import Inserts
from .adding.schedules import Schedules
from .audit import Audit
from .counters.charts import Charts, Diagnostics, Failures
from .counters.counters import Counters
from .counters.ended_attempts import EndedAttempts
from .counters.metrics import Metrics
from .counters.statistics import Statistics
from .database.database import TRIES, Database, Result, Work
from .database.transaction import Wait
from .encryption import KeyRotation
from .in_parts import do_in_parts, renew
from .leases.attempts import AttemptLog
from .leases.circuits import Circuits
from .leases.claims import Claims
from .leases.completions import Completions
from .leases.deliveries import DeliveredLeases
from .leases.finish import Finish
from .leases.follow_ups import FollowUps
from .leases.forwarding import Forwarding
from .leases.freed_places import FreedPlaces
from .leases.holds import Holds
from .leases.leases import Leases
from .leases.pulls import Pulls
from .leases.recording import Recording
from .leases.slowdowns import Slowdowns
from .leases.tracebacks import Tracebacks
from .ownership import Ownership
from .queues.added_queues import AddedQueues
from .queues.dispatchers import Dispatchers
from .queues.locks import Locks
from .queues.queues import Queues
from .retention import FinishedTasks, end_unreachable
from .task_facts import TaskFacts
from .tasks.background import BulkChanges
from .tasks.backlog import Backlog
from .tasks.changes import Tasks
from .tasks.filters import Filter
from .tasks.listings import Listings
from .tasks.search import Search


class Store:
    """A database and, by noun, the statements that run in its transactions.

    ``queues`` must have a row, with these limits, before a task of theirs is stored or taken.
    ``encryption`` encrypts the contents of tasks where they are inserted; rows come back as they
    are stored. ``application`` names the app that must own the tables; without it they may be
    anybody's.
    """

    def __init__(
        self,
        database: Database,
        queues: Collection[QueueSettings],
        *,
        keep_attempts: float = KEEP_ATTEMPTS,
        max_body: int = MAX_BODY,
        encryption: Encryption | None = None,
        application: Callable[[], Application] | None = None,
    ) -> None:
        tables, dialect = database.tables, database.dialect
        encryption = encryption or Encryption()
        self.database = database
        self.counters: Counters = Counters(tables, dialect)
        self.locks: Locks = Locks(tables, dialect)
        conflicts = Conflicts(tables, dialect, encryption)
        self.inserts: Inserts = Inserts(tables, dialect, encryption, conflicts)
        self.batches: Batches = Batches(tables, dialect, self.inserts, encryption)
        freed_places = FreedPlaces(
            tables,
            dialect,
            lambda connection: database.in_memory or connection.engine is database.engine,
        )
        follow_ups = FollowUps(tables, encryption, max_body)
        finish = Finish(
            self.counters, self.locks, self.batches, self.inserts, follow_ups, freed_places
        )
        conflicts.replaced, conflicts.put_off = finish.replaced, finish.put_off
        log = AttemptLog(tables, dialect, finish, keep_attempts)
        self.tracebacks: Tracebacks = Tracebacks(database, encryption)
        self.holds: Holds = Holds(tables, dialect, finish)
        self.tasks: Tasks = Tasks(tables, dialect, finish, self.counters, log, self.holds)
        self.queues: Queues = Queues(tables, dialect)
        self.known_queues: KnownQueues = KnownQueues({queue.name: queue for queue in queues})
        self.added_queues: AddedQueues = AddedQueues(tables, dialect, self.known_queues)
        self.completions: Completions = Completions(tables, dialect, finish)
        self.circuits: Circuits = Circuits(tables, dialect)
        self.slowdowns: Slowdowns = Slowdowns(tables, dialect, self.circuits)
        self.claims: Claims = Claims(
            tables, dialect, self.queues, self.locks, finish, log, self.completions, self.slowdowns
        )
        self.pulls: Pulls = Pulls(tables, dialect, finish)
        self.forwarding: Forwarding = Forwarding(tables, dialect, finish)
        self.delivered: DeliveredLeases = DeliveredLeases(
            tables, dialect, finish, log, self.completions
        )
        self.leases: Leases = Leases(tables, dialect, finish, log, self.completions, self.holds)
        self.recording: Recording = Recording(
            tables, dialect, self.slowdowns, self.circuits, finish, log, self.holds
        )
        self.statistics: Statistics = Statistics(tables, dialect, self.counters)
        self.metrics: Metrics = Metrics(tables, dialect)
        self.schedules: Schedules = Schedules(tables, dialect, self.inserts, encryption)
        self.added_schedules: AddedSchedules = AddedSchedules(
            tables, dialect, self.schedules, encryption
        )
        self.declared_schedules: DeclaredSchedules = DeclaredSchedules(
            tables, dialect, self.schedules, encryption
        )
        self.finished_tasks: FinishedTasks = FinishedTasks(tables, dialect, self.counters)
        self.dispatchers: Dispatchers = Dispatchers(tables, dialect)
        self.ownership: Ownership = Ownership(database, self.dispatchers, application)
        self.task_facts: TaskFacts = TaskFacts(
            tables,
            dialect,
            self.queues,
            self.dispatchers,
            self.slowdowns,
            self.circuits,
            self.locks,
        )
        self.backlog: Backlog = Backlog(tables, dialect)
        self.charts: Charts = Charts(tables, dialect)
        self.ended_attempts: EndedAttempts = EndedAttempts(tables, dialect)
        self.diagnostics: Diagnostics = Diagnostics(tables, dialect)
        self.failures: Failures = Failures(tables)
        self.audit: Audit = Audit(tables, dialect)
        self.key_rotation: KeyRotation = KeyRotation(tables, encryption)
        self.search: Search = Search(tables)
        self.listings: Listings = Listings(tables, self.backlog)
        self.bulk_changes: BulkChanges = BulkChanges(tables, dialect, self.listings, self.tasks)
        self._unseen = tuple(queues)

    def transact(
        self,
        work: Work[Result],
        *,
        tries: int = TRIES,
        wait: Wait = Wait.PATIENTLY,
        done: Work[Result | None] = lambda _: None,
    ) -> Result:
        """Run ``work`` in a transaction and commit; see `Database.transact`."""
        return self.database.transact(work, tries=tries, wait=wait, done=done)

    def read(self, work: Work[Result]) -> Result:
        """Run ``work``, which only reads; see `Database.read`."""
        return self.database.read(work)

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection to read from; see `Database.reading`."""
        return self.database.reading()

    def end_unreachable(self, connection: sa.Connection) -> int:
        """End rows as dead that no claim will ever find; return how many."""
        return end_unreachable(
            connection, self.database.tables, self.database.dialect.now, self.counters
        )

    def cancel_of_deleted(self, connection: sa.Connection, queue: str) -> int:
        """Cancel some tasks of a queue if it is deleted; return how many."""
        if not self.added_queues.lock_deleted(connection, queue):
            return 0
        return self.tasks.delete_some(connection, Filter(queue=queue), "queue_deleted")

    def free_lapsed_places(self) -> None:
        """Let tasks go that wait for places that are vacant.

        A transaction of the app, or a process that died, has left the places vacant. If somebody
        has locked a waiting task meanwhile, it is let go next time, and nobody else waits for it.
        """
        do_in_parts(self.database, self.holds.lapse, self.read(self.holds.lapsed))

    def free_left_places(self, leases: Collection[Lease]) -> None:
        """Let tasks go that wait for the places of attempts that are over, as far as possible now.

        What is locked becomes free once nobody renews it.
        """
        do_in_parts(self.database, self.holds.end, leases)

    def free_unused_keys(self) -> None:
        """Let tasks go that wait for a key that nobody has, in case something was missed."""
        found = self.read(self.locks.waited_for)
        do_in_parts(
            self.database,
            lambda connection, keys: self.locks.free(connection, {key: found[key] for key in keys}),
            list(found),
        )

    def renew(
        self, held: Collection[Lease], lease: float, *, tries: int = TRIES
    ) -> tuple[set[Lease], set[Lease]]:
        """Renew leases for a number of seconds; return the renewed and the lost ones."""
        return renew(self.database, self.leases, held, lease, tries)

    def ensure_queues(self, connection: sa.Connection | None = None) -> None:
        """Check that the tables are ours and that each configured queue has a row.

        Limits that another release has configured stay, because only dispatchers change them (see
        `configure_queues`). This is done once per process. Given a connection that may hold the
        only write lock, the rows become part of its transaction: that may be rolled back, so the
        rows are checked again until `committed` is called. Where there are several writers, nobody
        has to wait for that transaction. Raises `ConfigurationError` for tables of another app.
        """
        if not self.database.dialect.locks_by_writing:
            connection = None
        self.ownership.ensure(connection)
        if connection is None:
            self.database.mark()
        if not self._unseen:
            return
        if connection is not None:
            self._ensure(connection, self.queues.unknown(connection, self._unseen))
            return
        unknown = self.read(lambda reader: self.queues.unknown(reader, self._unseen))
        if unknown:
            self.transact(partial(self._ensure, outdated=unknown))
        self._unseen = ()

    def configure_queues(self, dispatcher_id: str | None = None) -> None:
        """Give each configured queue the limits that are configured here.

        A dispatcher does so when it starts. Later, given its id, it does so only while it is the
        one that started last, of those that are alive: so the limits of a release that has gone
        leave with it.
        """
        with self.reading() as reader:
            if dispatcher_id is not None and dispatcher_id != self.dispatchers.newest(reader):
                return
            outdated = self.queues.outdated(reader, self.known_queues.configured.values())
        if outdated:
            wait = Wait.PATIENTLY if dispatcher_id is None else Wait.BRIEFLY
            self.transact(partial(self._ensure, outdated=outdated), wait=wait)

    def _ensure(self, connection: sa.Connection, outdated: Sequence[QueueSettings]) -> None:
        self.queues.ensure(connection, outdated)
        for queue in outdated:
            self.locks.rates.restart(connection, queue.name)

    def committed(self) -> None:
        """Note that a transaction that `ensure_queues` was part of is committed."""
        self.ownership.confirm()
        self._unseen = ()

    def see_queues(self) -> None:
        """Check as `ensure_queues` does, but leave tables that are not ours as they are.

        This is for callers that only look.
        """
        if self._unseen:
            found = self.read(self.ownership.look)
            if found is None:
                self.ensure_queues()
