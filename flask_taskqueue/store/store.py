"""The store: the tables of one application and everything that is done with them."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import sqlalchemy as sa

from .database import Database
from .history import History
from .leases import Leases
from .queues import Queues
from .tasks import Tasks
from .unreachable import end_unreachable


class Store:
    """A database and, by noun, the statements that run in its transactions.

    ``queues`` are the names that must have a row before a task of theirs is stored or taken.
    """

    def __init__(self, database: Database, queues: Collection[str]) -> None:
        self.database = database
        self.transact = database.transact
        self.reading = database.reading
        self.tasks = Tasks(database.tables, database.dialect)
        self.leases = Leases(database.tables, database.dialect)
        self.queues = Queues(database.tables, database.dialect)
        self.history = History(database.tables, database.dialect)
        self._unseen = frozenset(queues)

    def end_unreachable(self, connection: sa.Connection) -> int:
        """End rows as dead that no claim will ever find; how many."""
        return end_unreachable(connection, self.database.tables, self.database.dialect.now)

    def ensure_queues(self, connection: sa.Connection | None = None) -> None:
        """See, once per process, that each configured queue has its row.

        Given a connection, the rows become part of its transaction: it may hold the only write
        lock there is, and it may be rolled back, so then they are looked for again next time.
        """
        if not self._unseen:
            return
        if connection is not None:
            self.queues.ensure(connection, self.queues.missing(connection, self._unseen))
            return
        with self.reading() as reader:
            missing = self.queues.missing(reader, self._unseen)
        if missing:
            self.transact(partial(self.queues.ensure, names=missing))
        self._unseen = frozenset()
