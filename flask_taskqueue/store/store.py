"""The store: the tables of one application and everything that is done with them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

import sqlalchemy as sa

from ..core.ownership import Application
from ..core.security.encryption import Encryption
from ..core.settings.app import KEEP_ATTEMPTS
from ..core.settings.queue import QueueSettings
from .adding.batches import Batches
from .adding.inserts import Inserts
from .adding.schedules import Schedules
from .audit import Audit
from .counters.charts import Charts
from .counters.counters import Tally
from .counters.failures import Failures, Troubles
from .counters.metrics import Readings
from .counters.statistics import Statistics
from .database.database import Database, Wait
from .database.refusals import LockedError
from .encryption import Sealed
from .leases.attempts import AttemptLog
from .leases.claims import Claims
from .leases.completions import Completions
from .leases.finish import Endings
from .leases.freed_places import Vacancies
from .leases.holds import Holds
from .leases.leases import Leases
from .leases.slowdowns import Slowdowns
from .ownership import Ownership
from .queues.dispatchers import Dispatchers
from .queues.locks import Locks
from .queues.queues import Queues
from .retention import History, end_unreachable
from .task_facts import Surroundings
from .tasks.background import Bulks
from .tasks.backlog import LiveCounts
from .tasks.changes import Tasks
from .tasks.listings import Listings
from .tasks.search import Newest


class Store:
    """A database and, by noun, the statements that run in its transactions.

    ``queues`` must have a row, with these limits, before a task of theirs is stored or taken. What
    tasks hold is encrypted by ``encryption`` where it is inserted; rows come back as stored.
    ``application`` says whose tables they have to be; without it they may be anybody's.
    """

    def __init__(
        self,
        database: Database,
        queues: Collection[QueueSettings],
        *,
        keep_attempts: float = KEEP_ATTEMPTS,
        encryption: Encryption | None = None,
        application: Callable[[], Application] | None = None,
    ) -> None:
        tables, dialect = database.tables, database.dialect
        encryption = encryption or Encryption()
        self.database = database
        self.transact = database.transact
        self.reading = database.reading
        self.tally = Tally(tables, dialect)
        self.locks = Locks(tables, dialect)
        self.inserts = Inserts(tables, dialect, encryption)
        self.batches = Batches(tables, dialect, self.inserts, encryption)
        vacancies = Vacancies(
            tables,
            dialect,
            lambda connection: database.in_memory or connection.engine is database.engine,
        )
        endings = Endings(self.tally, self.locks, self.batches, self.inserts, encryption, vacancies)
        self.inserts.replaced = endings.replaced
        log = AttemptLog(tables, dialect, endings, keep_attempts)
        self.holds = Holds(tables, dialect, endings)
        self.tasks = Tasks(tables, dialect, endings, self.tally, log, self.holds)
        self.queues = Queues(tables, dialect)
        self.completions = Completions(tables, dialect, endings)
        self.slowdowns = Slowdowns(tables, dialect)
        self.claims = Claims(
            tables, dialect, self.queues, self.locks, endings, log, self.completions, self.slowdowns
        )
        self.leases = Leases(
            tables, dialect, self.slowdowns, endings, log, self.completions, self.holds
        )
        self.statistics = Statistics(tables, dialect, self.tally)
        self.readings = Readings(tables, dialect)
        self.schedules = Schedules(tables, dialect, self.inserts, encryption)
        self.history = History(tables, dialect, self.tally)
        self.dispatchers = Dispatchers(tables, dialect)
        self.ownership = Ownership(database, self.dispatchers, application)
        self.surroundings = Surroundings(
            tables, dialect, self.queues, self.dispatchers, self.slowdowns
        )
        self.live_counts = LiveCounts(tables, dialect)
        self.charts = Charts(tables, dialect)
        self.troubles = Troubles(tables, dialect)
        self.failures = Failures(tables)
        self.audit = Audit(tables, dialect)
        self.sealed = Sealed(tables, encryption)
        self.newest = Newest(tables)
        self.listings = Listings(tables, self.live_counts)
        self.bulks = Bulks(tables, dialect, self.listings, self.tasks)
        self._unseen = tuple(queues)

    def end_unreachable(self, connection: sa.Connection) -> int:
        """End rows as dead that no claim will ever find; how many."""
        return end_unreachable(
            connection, self.database.tables, self.database.dialect.now, self.tally
        )

    def let_go(self) -> None:
        """Let go what waits for places that are vacant: left so by a transaction of the
        application, or by a process that died.

        What somebody has locked meanwhile is let go next time.
        """
        with self.reading() as reader:
            if not self.holds.have_lapsed(reader):
                return
        with suppress(LockedError):
            self.transact(self.holds.lapse, wait=Wait.BRIEFLY)

    def ensure_queues(self, connection: sa.Connection | None = None) -> None:
        """See that the tables are ours and, once per process, that each configured queue has its
        row, with the limits configured now.

        Given a connection, the rows become part of its transaction: it may hold the only write
        lock there is, and it may be rolled back, so they are looked for again until `committed`
        is called. Raises `ConfigurationError` for tables that are another application's.
        """
        self.ownership.ensure(connection if self.database.dialect.locks_by_writing else None)
        if connection is None:
            self.database.mark()
        if not self._unseen:
            return
        if connection is not None:
            self.queues.ensure(connection, self.queues.outdated(connection, self._unseen))
            return
        with self.reading() as reader:
            outdated = self.queues.outdated(reader, self._unseen)
        if outdated:
            self.transact(partial(self.queues.ensure, queues=outdated))
        self._unseen = ()

    def committed(self) -> None:
        """A transaction that `ensure_queues` was part of is committed."""
        self.ownership.confirm()
        self._unseen = ()

    def see_queues(self) -> None:
        """As `ensure_queues` for who only looks: tables that are not ours stay as they are."""
        if self._unseen:
            with self.reading() as reader:
                found = self.ownership.look(reader)
            if found is None:
                self.ensure_queues()
