"""Key rates: the token bucket of each rate key, and the line of tasks that wait for its tokens.

A task that finds no token is parked (see `KeyRows`). While tasks of a key are parked, the next one
in line is let go: it is due when the next token is there, which the key's row notes in ``next_id``.
So however many tasks of a key wait, claims see one of them, and other keys go on.

That also makes keys take turns: a key has only about as many tasks in a lane as its bucket holds
tokens. The others are parked even while there are tokens, and let go in the order of their ids as
those before them start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ...core.queues.rate_keys import RATE_KEYS, rate_keys_of, split_rate_key
from ...core.queues.rates import BUCKET_SIZE, Gate
from ...core.states import Record, State
from ...core.times import SECOND
from ..database.dialects import Dialect
from ..database.dialects.claims import candidates, is_state, waits_for_key
from ..database.tables import Tables
from .key_rows import KeyRows

_TOGETHER = 500
"""The number of tasks of a lane that are examined for those to be parked."""
_SLACK = SECOND
"""How long after the next token, in microseconds, the next in line may be due."""
_LOOK_AGAIN = 60 * SECOND
"""The microseconds after which to look again at a task of a key whose rate is 0."""
_MENDED = 1000
"""The most keys that one run of the janitor mends."""


@dataclass(frozen=True, slots=True)
class KeyBucket:
    """The bucket of a rate key at one instant, and the task that was let go as its next."""

    gate: Gate
    next_id: str | None

    def allowed(self, wanted: int) -> int:
        """Return how many of ``wanted`` tasks may start now.

        None may if somebody else has taken tokens meanwhile, of a time after they started.
        """
        return 0 if self.gate.is_overtaken else self.gate.allowed(wanted)

    def after(self, started: int) -> KeyBucket:
        """Return the bucket after a number of tasks took their tokens."""
        return replace(self, gate=self.gate.after(started))


class KeyRates:
    """A judge of rate keys; each method joins the transaction of the connection it is given.

    Whoever calls `admit`, `advance` or `start` has reserved the decision on the keys, so that no
    other transaction uses the same tokens.
    """

    def __init__(self, tables: Tables, dialect: Dialect, rows: KeyRows) -> None:
        self._task = tables.task
        self._lock = tables.lock
        self._queue = tables.queue
        self._now = dialect.now
        self._rows = rows
        self._first = candidates(tables.task, dialect.now).add_columns(tables.task.c.lock_key)

    def admit(
        self, connection: sa.Connection, claimed: Mapping[str, Sequence[Record]]
    ) -> list[Record]:
        """Return the claimed tasks for which there are tokens, which they take; park the others.

        ``claimed`` are the tasks of a lane by key. Of the next tasks of the lane, those for which
        there is no token either are parked too, and those that are more than a full bucket, so that
        they are not in the way of other keys.
        """
        if not claimed:
            return []
        started_at = min(
            record.started_at or 0 for records in claimed.values() for record in records
        )
        buckets = self.buckets(connection, claimed, started_at)
        admitted: list[Record] = []
        late: list[Record] = []
        after: dict[str, KeyBucket] = {}
        for key, records in claimed.items():
            let = buckets[key].allowed(len(records))
            admitted += records[:let]
            late += records[let:]
            after[key] = buckets[key].after(let) if let else buckets[key]
        self._charge(connection, {key: after[key] for key in after if after[key] != buckets[key]})
        self._rows.put_back(connection, late, sa.null())
        out_of_tokens = {record.lock_key for record in late}
        sizes = {
            key: 0 if key in out_of_tokens else bucket.gate.bucket_size
            for key, bucket in buckets.items()
        }
        first = next(iter(claimed.values()))[0]
        self._park_others(connection, first.queue, first.priority, sizes)
        self._advance(connection, after)
        return admitted

    def start(self, connection: sa.Connection, record: Record) -> int | None:
        """Take a token for a task that is to be taken over from a process that died.

        Returns when the task starts. If there is no token, or somebody else decides on the key,
        this puts off the end of its lease and returns None.
        """
        key = record.lock_key or ""
        due: Any = self._now + _SLACK
        if self._rows.decide(connection, [key], wait=False):
            bucket = self.buckets(connection, [key])[key]
            if bucket.gate.allowed(1):
                self._charge(connection, {key: bucket.after(1)})
                return bucket.gate.now
            opens_at = bucket.gate.opens_at()
            due = self._now + _LOOK_AGAIN if opens_at is None else opens_at
        mine = sa.and_(
            self._task.c.id == record.id,
            self._task.c.lease_id == record.lease_id,
            is_state(self._task, State.LEASED),
        )
        connection.execute(sa.update(self._task).where(mine).values(due_at=due))
        return None

    def advance(self, connection: sa.Connection, keys: Collection[str]) -> None:
        """Let the next task of each key go, unless one has been let go and still waits."""
        if keys:
            self._advance(connection, self.buckets(connection, keys))

    def buckets(
        self, connection: sa.Connection, keys: Collection[str], now: int | None = None
    ) -> dict[str, KeyBucket]:
        """Return the buckets of keys at an instant, or now; a key without a row has a full one."""
        lock, queue = self._lock, self._queue
        names = {split_rate_key(key)[0] for key in keys}
        limits = {
            row.name: (row.rate_per_key, row.bucket_size_per_key)
            for row in connection.execute(sa.select(queue).where(queue.c.name.in_(sorted(names))))
        }
        found = sa.select(lock).where(lock.c.lock_key.in_(sorted(keys)))
        rows = {row.lock_key: row for row in connection.execute(found)}
        if now is None:
            now = connection.scalar(sa.select(self._now)) or 0
        buckets = {}
        for key in keys:
            rate, size = limits.get(split_rate_key(key)[0], (None, BUCKET_SIZE))
            row = rows.get(key)
            tokens, filled_at, next_id = (
                (None, None, None) if row is None else (row.tokens, row.filled_at, row.next_id)
            )
            gate = Gate.stored(now, rate=rate, bucket_size=size, tokens=tokens, filled_at=filled_at)
            buckets[key] = KeyBucket(gate, next_id)
        return buckets

    def restart(self, connection: sa.Connection, queue: str) -> None:
        """Let the next task of each key of a queue be due now, because the rate has changed."""
        task, lock = self._task, self._lock
        theirs = sa.select(lock.c.next_id).where(
            _begins(lock.c.lock_key, rate_keys_of(queue)), lock.c.next_id.is_not(None)
        )
        ids = connection.scalars(theirs).all()
        waits = sa.and_(
            task.c.state == State.SCHEDULED.value,
            sa.or_(
                task.c.due_at.is_(None),
                sa.and_(task.c.due_at > self._now, task.c.eta <= self._now),
            ),
            task.c.id == sa.bindparam("next"),
        )
        if ids:
            connection.execute(
                sa.update(task).where(waits).values(due_at=self._now),
                [{"next": task_id} for task_id in sorted(ids)],
            )

    def mend(self, connection: sa.Connection) -> None:
        """Let the next task go of keys for which tasks wait, and none was let go."""
        task, lock = self._task, self._lock
        waiting = sa.select(task.c.id).where(waits_for_key(task, lock)).exists()
        next_in_line = (
            sa.select(task.c.id)
            .where(task.c.id == lock.c.next_id, is_state(task, State.SCHEDULED))
            .correlate(lock)
            .exists()
        )
        stuck = sa.select(lock.c.lock_key).where(is_rate_row(lock), waiting, ~next_in_line)
        keys = connection.scalars(stuck.limit(_MENDED)).all()
        if keys:
            self.advance(connection, self._rows.decide(connection, keys, wait=True))

    def may_forget(self, connection: sa.Connection) -> sa.ColumnElement[bool]:
        """Return whether a key's row holds nothing that a new row would not: its bucket is full."""
        lock, queue = self._lock, self._queue
        full: list[sa.ColumnElement[bool]] = [lock.c.filled_at.is_(None)]
        for row in connection.execute(sa.select(queue)):
            gate = Gate.stored(0, rate=row.rate_per_key, bucket_size=row.bucket_size_per_key)
            if gate.rate == 0:
                continue
            takes = gate.bucket_size / gate.rate if gate.rate else 0
            full.append(
                sa.and_(
                    _begins(lock.c.lock_key, rate_keys_of(row.name)),
                    lock.c.filled_at <= self._now - int(takes * SECOND) - SECOND,
                )
            )
        return sa.or_(*full)

    def _charge(self, connection: sa.Connection, buckets: Mapping[str, KeyBucket]) -> None:
        lock = self._lock
        rows = [
            {"key": key, "left": bucket.gate.tokens, "at": bucket.gate.filled_at}
            for key, bucket in sorted(buckets.items())
            if bucket.gate.rate is not None
        ]
        if rows:
            change = sa.update(lock).where(lock.c.lock_key == sa.bindparam("key"))
            connection.execute(
                change.values(tokens=sa.bindparam("left"), filled_at=sa.bindparam("at")), rows
            )

    def _park_others(
        self, connection: sa.Connection, queue: str, priority: int, sizes: Mapping[str, int]
    ) -> None:
        """Park what the first tasks of a lane have of each key beyond a number of tasks."""
        which = {"in_queue": queue, "in_priority": priority, "most": _TOGETHER}
        found: Counter[str] = Counter()
        more: list[str] = []
        for row in connection.execute(self._first, which):
            found[row.lock_key] += 1
            if found[row.lock_key] > sizes.get(row.lock_key, _TOGETHER):
                more.append(row.id)
        if not more:
            return
        task = self._task
        free = sa.and_(task.c.id.in_(sorted(more)), is_state(task, State.SCHEDULED))
        rows = sa.select(task.c.id).where(free).order_by(task.c.id)
        ids = connection.scalars(rows.with_for_update(skip_locked=True)).all()
        if ids:
            connection.execute(sa.update(task).where(task.c.id.in_(ids)).values(due_at=None))

    def _advance(self, connection: sa.Connection, buckets: Mapping[str, KeyBucket]) -> None:
        """Let the next in line of each key go; forget a next one that no longer waits for a token.

        It has begun, ended or was put off.
        """
        lines = self._rows.with_parked(connection, buckets)
        ids = [bucket.next_id for bucket in buckets.values() if bucket.next_id is not None]
        if not lines and not ids:
            return
        task = self._task
        standing = sa.select(task.c.id, task.c.due_at).where(
            task.c.id.in_(sorted(ids)), is_state(task, State.SCHEDULED)
        )
        due = {row.id: row.due_at for row in connection.execute(standing)} if ids else {}
        for key, bucket in sorted(buckets.items()):
            if key not in lines and bucket.next_id is None:
                continue
            opens_at = bucket.gate.opens_at()
            due_at = None if bucket.next_id is None else due.get(bucket.next_id)
            if due_at is None or (opens_at is not None and due_at > opens_at + _SLACK):
                self._let_next_go(connection, key, bucket.gate)

    def _let_next_go(self, connection: sa.Connection, key: str, gate: Gate) -> None:
        """Let as many tasks of a key go as there are tokens, at least one.

        One that somebody else has locked is left to whoever ends it or puts it off.
        """
        turn = gate.allowed(gate.bucket_size)
        following = self._rows.next_parked(key, max(1, turn)).with_for_update(skip_locked=True)
        ids: list[str] = list(connection.scalars(following))
        opens_at = gate.opens_at()
        if ids and opens_at is not None:
            self._rows.let_go(connection, ids, opens_at)
        connection.execute(
            sa.update(self._lock)
            .where(self._lock.c.lock_key == key)
            .values(next_id=ids[-1] if ids else None)
        )


def is_rate_row(lock: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether a row is that of a rate key."""
    return _begins(lock.c.lock_key, RATE_KEYS)


def _begins(column: sa.ColumnElement[str], text: str) -> sa.ColumnElement[bool]:
    # LIKE ignores case on SQLite, and queues differ by case.
    return sa.func.substr(column, 1, len(text)) == text
