"""A history: what was asked for, what was done to the processes, and what they left behind."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .log import Line
from .operations import Operation


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a process (without ``pid`` to all, by way of their database), from when
    until when.

    A ``kill`` is over when the signal is sent; a process is dead some time after ``since``.
    """

    kind: Literal["kill", "pause", "outage", "stop"]
    since: float
    until: float
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A task as the table has it in the end. Instants in microseconds since 1970, by the
    database's clock.
    """

    id: str
    state: str
    attempts: int = 1
    eta: int = 0
    first_tried_at: int | None = 0
    queue: str = "default"
    created_at: int = 0
    due_at: int | None = None
    finished_at: int | None = None
    expires_at: int | None = None
    name: str | None = None
    given_key: str | None = None
    lock_key: str | None = None
    lock_limit: int | None = None
    batch_id: str | None = None
    callback_of: str | None = None
    schedule: str | None = None
    last_reason: str | None = None
    crashes: int = 0
    pardons: int = 0
    label: str | None = None
    """What the one who added it knows it by."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A lease that was taken, as the table has it in the end."""

    task_id: str
    number: int
    started_at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the table has it in the end."""

    id: str
    total: int
    succeeded: int
    dead: int
    cancelled: int
    finished_at: int | None


@dataclass(frozen=True, slots=True)
class Fire:
    """A fire time that was seen to, and the task that was added for it."""

    schedule: str
    fire_at: int
    task_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What the tables have beside tasks in the end."""

    attempts: Sequence[Attempt] = ()
    batches: Sequence[Batch] = ()
    fires: Sequence[Fire] = ()
    next_fires: Mapping[str, int] = field(default_factory=dict)
    """By schedule when it fires next."""
    locks: Collection[str] = ()
    """The keys that have a row."""
    paused: Collection[str] = ()
    """The queues that are."""
    statistics: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By queue how many tasks its statistics count, by state; those that wait for a key as
    `parked` too.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that the checker looks at."""

    expected: Mapping[str, str | None]
    """The tasks whose `add` returned, in its order, each with its serial key."""
    lines: Sequence[Line]
    rows: Sequence[Row]
    faults: Sequence[Fault] = ()
    poison: Collection[str] = ()
    """Those of the expected that end as dead."""
    transactional: Collection[str] = ()
    """Those that leave an effect, in the transaction of their handler."""
    effects: Counter[str] = field(default_factory=Counter)
    """How many effects each task left."""
    operations: Sequence[Operation] = ()
    """What clients asked for one by one; then what is expected follows from these."""
    limits: Mapping[str, int | None] = field(default_factory=dict)
    """By queue its configured max_concurrent."""
    left: Leftovers = field(default_factory=Leftovers)
    ends: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The states in which tasks may be left, if they are not the usual ones."""
    hurried: Collection[str] = ()
    """Those that somebody may have told to run before their eta."""
    requeued: Collection[str] = ()
    """Those that somebody may have requeued."""


@dataclass(slots=True)
class Delivery:
    """One call of a handler, in a process."""

    task_id: str
    attempt: int
    pid: int
    start: float
    end: float | None = None
    failed: bool = False

    def over_at(self, faults: Iterable[Fault]) -> float:
        """When it was over: it said so, or its process died; infinite if neither."""
        if self.end is not None:
            return self.end
        ends = [
            max(self.start, fault.since)
            for fault in faults
            if fault.kind in ("kill", "stop") and self._struck_by(fault)
        ]
        return min(ends, default=math.inf)

    def hit_by(self, fault: Fault, unrecorded: float) -> bool:
        """Whether a fault came between its start and the time at which it must have been
        recorded.
        """
        ours = fault.pid is None or fault.pid == self.pid
        known = math.inf if self.end is None else self.end + unrecorded
        return ours and fault.until >= self.start and fault.since <= known

    def _struck_by(self, fault: Fault) -> bool:
        return fault.pid == self.pid and fault.until >= self.start


def deliveries(lines: Iterable[Line]) -> dict[str, list[Delivery]]:
    """The deliveries of each task, in the order in which they began."""
    found: dict[str, list[Delivery]] = defaultdict(list)
    for line in sorted(lines, key=lambda one: one.at):
        if line.word == "start":
            found[line.task_id].append(Delivery(line.task_id, line.attempt, line.pid, line.at))
        elif line.word in ("end", "fail"):
            for item in reversed(found[line.task_id]):
                if (item.attempt, item.pid, item.end) == (line.attempt, line.pid, None):
                    item.end, item.failed = line.at, line.word == "fail"
                    break
    return dict(found)
