"""What a diagnosis starts from, the facts about a task, and what it ends with, findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ..dispatchers import DispatcherInfo
from ..queues.circuits import Circuit
from ..queues.poison import probation
from ..queues.rates import Gate
from ..queues.slowdowns import Slowdown
from ..states import Record
from ..times import SECOND, to_datetime

Level = Literal["ok", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, in a sentence, and what to do about it.

    An error means that something is refused or does not work, a warning that it may not; "info" is
    shown on request, "ok" says that all is well. ``anchor`` is the place in the documentation, as
    page and label.
    """

    level: Level
    text: str
    remedy: str = ""
    anchor: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


@dataclass(frozen=True, slots=True)
class KeyLine:
    """The bucket of a rate key, and how many tasks before one wait for its tokens."""

    gate: Gate
    ahead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts on which `explain` decides; instants are microseconds of the database's clock.

    ``holders`` are the tasks that come before this one by its key, ``in_flight`` some of those that
    run in its queue, ``key_line`` is what it waits for if it has a rate key, ``suspects`` those
    that wait to be tried alone and those that are being tried. ``going_on`` is the dispatcher that
    still runs this task although it has ended. ``busy`` maps dispatchers to the number of tasks
    they run, ``ahead`` is the number of tasks of the queue that are due before this one;
    ``is_answered`` is False if a route of the app would have to answer the task and none does.
    ``is_pulled`` says that its queue is a pull queue, ``engine`` which engine that has, if any.
    """

    now: int
    record: Record
    paused_at: int | None = None
    paused_by: str | None = None
    deleted_at: int | None = None
    gate: Gate | None = None
    key_line: KeyLine | None = None
    slowdown: Slowdown | None = None
    circuit: Circuit | None = None
    holders: Sequence[Record] = ()
    in_flight: Sequence[Record] = ()
    suspects: Sequence[Record] = ()
    dispatchers: Sequence[DispatcherInfo] = ()
    busy: Mapping[str, int] = field(default_factory=dict)
    ahead: int = 0
    going_on: str | None = None
    is_answered: bool = True
    is_pulled: bool = False
    engine: str | None = None

    @property
    def time(self) -> datetime:
        """The instant that these facts describe."""
        return to_datetime(self.now)

    @property
    def alive(self) -> list[DispatcherInfo]:
        """The dispatchers that were seen recently."""
        return [dispatcher for dispatcher in self.dispatchers if dispatcher.is_alive]

    @property
    def takers(self) -> list[DispatcherInfo]:
        """The living dispatchers that take tasks from the task's queue."""
        return [
            dispatcher
            for dispatcher in self.alive
            if dispatcher.queues is None or self.record.queue in dispatcher.queues
        ]

    def expired(self) -> list[Record]:
        """Return other tasks whose leases ran out and that are to be tried alone."""
        return [
            suspect
            for suspect in self.suspects
            if suspect.due_at is not None
            and suspect.due_at <= self.now
            and suspect.id != self.record.id
        ]

    def on_probation(self) -> list[Record]:
        """Return other tasks being tried alone; nothing begins beside them in their process."""
        begun = [
            suspect
            for suspect in self.suspects
            if suspect not in self.expired() and suspect.id != self.record.id
        ]
        return [
            suspect
            for suspect in begun
            if (suspect.started_at or 0) + probation(suspect) * SECOND > self.now
        ]

    def process(self, dispatcher: str | None) -> str:
        """Return a dispatcher's host and process, by which people can find it."""
        for known in self.dispatchers:
            if known.id == dispatcher:
                return f"{known.host}:{known.pid}"
        if self.engine is not None:
            return "a process that serves its delivery"
        return f"dispatcher {dispatcher}"
