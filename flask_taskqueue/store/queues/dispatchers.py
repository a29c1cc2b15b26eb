"""Dispatchers: which ones exist, and when each was last seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ...core.dispatchers import DispatcherInfo
from ...core.names import dispatcher_id
from ...core.states import State
from ...core.times import duration_micros, to_datetime
from ..database.dialects import Dialect
from ..database.dialects.claims import counted, is_state
from ..database.lease_ends import is_lost
from ..database.prepared import Prepared
from ..database.tables import Tables

ALIVE = 30.0
"""The seconds after which a dispatcher that is not seen counts as gone."""
_FORGET = 3600.0
_NEVER = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherEntry:
    """The facts that a dispatcher reports about itself."""

    id: str
    host: str
    pid: int
    version: str
    transport: str
    queues: Sequence[str] | None
    concurrency: int
    in_flight: int
    replaced: int = 0
    """The number of worn processes that were replaced before it."""
    replaced_for: str | None = None
    """The reason for which the last of them was worn."""
    fingerprint: str | None = None
    """The fingerprint of its app's newest secret (see `core.ownership`)."""


class Dispatchers:
    """A store of dispatchers; each method joins its connection's transaction."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._dispatcher = tables.dispatcher
        self._task = tables.task
        self._now = dialect.now
        self._is_lost = is_lost(tables, dialect.now)
        mine = (
            tables.dispatcher.c.id == sa.bindparam("id"),
            tables.dispatcher.c.asked != tables.dispatcher.c.answered,
        )
        self._question = Prepared(sa.select(tables.dispatcher.c.asked).where(*mine))

    def see(self, connection: sa.Connection, sighting: DispatcherEntry) -> None:
        """Note that a dispatcher is there now; store it if it was not known or was forgotten."""
        dispatcher = self._dispatcher
        known = sa.update(dispatcher).where(dispatcher.c.id == sighting.id)
        if connection.execute(
            known.values(seen_at=self._now, in_flight=sighting.in_flight)
        ).rowcount:
            return
        queues = None if sighting.queues is None else ",".join(sighting.queues)
        row = asdict(sighting) | {"queues": queues, "started_at": self._now, "seen_at": self._now}
        connection.execute(sa.insert(dispatcher).values(row))

    def remove(self, connection: sa.Connection, dispatcher_id: str) -> bool:
        """Forget a dispatcher that has ended; return whether it was known."""
        return (
            connection.execute(
                sa.delete(self._dispatcher).where(self._dispatcher.c.id == dispatcher_id)
            ).rowcount
            == 1
        )

    def rival(self, connection: sa.Connection, fingerprints: Sequence[str]) -> str | None:
        """Return where a dispatcher with other fingerprints than these is alive, or None."""
        dispatcher = self._dispatcher
        alive = sa.and_(
            dispatcher.c.seen_at >= self._now - duration_micros(ALIVE),
            dispatcher.c.fingerprint.not_in(fingerprints),
        )
        row = connection.execute(
            sa.select(dispatcher.c.host, dispatcher.c.pid).where(alive).limit(1)
        ).one_or_none()
        return None if row is None else f"{row.host}:{row.pid}"

    def newest(self, connection: sa.Connection) -> str | None:
        """Return the id of the dispatcher that started last, of those that are alive."""
        dispatcher = self._dispatcher
        found: str | None = connection.scalar(
            sa.select(dispatcher.c.id)
            .where(dispatcher.c.seen_at >= self._now - duration_micros(ALIVE))
            .order_by(dispatcher.c.started_at.desc(), dispatcher.c.id.desc())
            .limit(1)
        )
        return found

    def ask(self, connection: sa.Connection) -> dict[str, int]:
        """Ask every dispatcher to begin nothing more of paused queues.

        Returns the number of the question for each, by their ids. A dispatcher that reads the
        question also reads everything that was committed before it was asked.
        """
        dispatcher = self._dispatcher
        connection.execute(
            sa.update(dispatcher)
            .where(dispatcher.c.seen_at != _NEVER)
            .values(asked=counted(dispatcher.c.asked))
        )
        rows = connection.execute(
            sa.select(dispatcher.c.id, dispatcher.c.asked).where(dispatcher.c.seen_at != _NEVER)
        )
        return {row.id: row.asked for row in rows}

    def question(self, connection: sa.Connection, dispatcher_id: str) -> int | None:
        """Return the number of the question that a dispatcher still has to answer, or None."""
        number: int | None = self._question.execute(connection, {"id": dispatcher_id}).scalar()
        return number

    def answer(self, connection: sa.Connection, dispatcher_id: str, number: int) -> None:
        """Answer all questions up to this one.

        The dispatcher has given back the tasks of paused queues that it had leased.
        """
        connection.execute(
            sa.update(self._dispatcher)
            .where(self._dispatcher.c.id == dispatcher_id)
            .values(answered=number)
        )

    def silent(self, connection: sa.Connection, asked: Mapping[str, int], queue: str) -> list[str]:
        """Return where dispatchers are that have not answered and may begin tasks of a queue.

        They are alive, or hold leases of the queue.
        """
        dispatcher, task = self._dispatcher, self._task
        holds = sa.exists().where(
            is_state(task, State.LEASED),
            task.c.queue == queue,
            ~self._is_lost,
            task.c.held_by == dispatcher.c.id,
        )
        there = sa.or_(dispatcher.c.seen_at >= self._now - duration_micros(ALIVE), holds)
        columns = (dispatcher.c.id, dispatcher.c.host, dispatcher.c.pid, dispatcher.c.answered)
        rows = connection.execute(sa.select(*columns).where(there).order_by(dispatcher.c.id)).all()
        return [f"{row.host}:{row.pid}" for row in rows if row.answered < asked.get(row.id, 0)]

    def prune(self, connection: sa.Connection) -> int:
        """Forget dispatchers that have not been seen for an hour; return how many."""
        gone = self._dispatcher.c.seen_at < self._now - duration_micros(_FORGET)
        return connection.execute(sa.delete(self._dispatcher).where(gone)).rowcount

    def list(self, connection: sa.Connection) -> Sequence[DispatcherInfo]:
        """Return the known dispatchers, the oldest first."""
        dispatcher = self._dispatcher
        known = dispatcher.c.seen_at != _NEVER
        alive = sa.case(
            (dispatcher.c.seen_at >= self._now - duration_micros(ALIVE), 1), else_=0
        ).label("alive")
        statement = (
            sa.select(dispatcher, alive)
            .where(known)
            .order_by(dispatcher.c.started_at, dispatcher.c.id)
        )
        return [_info(row) for row in connection.execute(statement)]

    def is_any_alive(self, connection: sa.Connection) -> bool:
        """Return whether there is a dispatcher that is alive."""
        return any(dispatcher.is_alive for dispatcher in self.list(connection))

    def add_probe_row(self, connection: sa.Connection) -> str:
        """Store a row that belongs to no dispatcher; return its id.

        Because it has never been seen, it is forgotten even if it is not removed.
        """
        name = dispatcher_id()
        sighting = DispatcherEntry(
            id=name,
            host="",
            pid=0,
            version="",
            transport="",
            queues=None,
            concurrency=0,
            in_flight=0,
        )
        connection.execute(
            sa.insert(self._dispatcher).values(
                asdict(sighting) | {"started_at": self._now, "seen_at": _NEVER}
            )
        )
        return name

    def sees_probe_row(self, connection: sa.Connection, name: str) -> bool:
        """Return whether the connection leads to the table that the row is in."""
        return (
            connection.scalar(sa.select(self._dispatcher.c.id).where(self._dispatcher.c.id == name))
            is not None
        )


def _info(row: sa.Row[Any]) -> DispatcherInfo:
    return DispatcherInfo(
        id=row.id,
        host=row.host,
        pid=row.pid,
        version=row.version,
        transport=row.transport,
        queues=None if row.queues is None else tuple(row.queues.split(",")),
        concurrency=row.concurrency,
        in_flight=row.in_flight,
        started_at=to_datetime(row.started_at),
        seen_at=to_datetime(row.seen_at),
        is_alive=bool(row.alive),
        replaced=row.replaced,
        replaced_for=row.replaced_for,
    )
