"""The levels of a tracked transaction, and the changes of the queue's that are part of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import sqlalchemy as sa


class Kept(IntEnum):
    """What a transaction keeps from others until it ends; each includes those before it."""

    NEW_ROWS = 1
    """Rows that it has added: who looks through many rows may wait for them."""
    ROWS = 2
    """Rows that it has changed or locked, and keys that it has taken."""
    INSERTS = 3
    """Places of an index in which others insert."""


@dataclass(frozen=True, slots=True)
class JoinedChange:
    """A change of the queue's that is part of the transaction.

    ``names`` are the tasks that are lost if it is not committed. After the commit, ``committed`` is
    called at once, when the session cannot be used, and each function of ``then`` when it can.
    ``is_stored`` looks for the change, as the connection sees it, and returns False if it is not
    there or cannot be recognized.
    """

    names: Sequence[str]
    committed: Callable[[], object]
    then: Sequence[Callable[[], object]]
    is_stored: Callable[[], bool]

    def is_lost(self) -> bool:
        """Return whether the change is not there, or the transaction can no longer be asked."""
        try:
            return not self.is_stored()
        except sa.exc.DBAPIError:
            return True


@dataclass(slots=True)
class Level:
    """A savepoint, or the transaction itself."""

    counted: int
    name: str = ""
    written: bool = False
    unknown: bool = False
    noted: Any = None
    joined: list[JoinedChange] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    """What is kept from others in the tables of queues, by the names of these."""

    def keep(self, tables: str, what: Kept) -> None:
        """Note what is kept from others in the tables of a queue."""
        self.kept[tables] = max(what, self.kept.get(tables, what))

    def keep_as(self, ended: Level) -> None:
        """Note what a savepoint that has ended goes on keeping."""
        for tables, what in ended.kept.items():
            self.keep(tables, what)

    def absorb(self, released: Level) -> None:
        """Take over what a savepoint above this one holds, which is released."""
        self.written |= released.written
        self.unknown |= released.unknown
        self.noted = released.noted if self.noted is None else self.noted
        self.joined += released.joined
        self.keep_as(released)


class Levels:
    """The transaction and its open savepoints, one in the other."""

    def __init__(self, counted: int, joined: Iterable[JoinedChange] = ()) -> None:
        self._levels = [Level(counted, joined=list(joined))]

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def innermost(self) -> Level:
        """The level that a statement now belongs to."""
        return self._levels[-1]

    @property
    def joined(self) -> list[JoinedChange]:
        """The queue's changes in all levels."""
        return [change for level in self._levels for change in level.joined]

    @property
    def have_joined(self) -> bool:
        """Whether there are changes of the queue's."""
        return any(level.joined for level in self._levels)

    @property
    def have_written(self) -> bool:
        """Whether a level is known to have written."""
        return any(level.written for level in self._levels)

    def leave_out(self, change: JoinedChange) -> None:
        """Forget a change of the queue's."""
        for level in self._levels:
            level.joined = [joined for joined in level.joined if joined is not change]

    def keeps(self, tables: str, what: Kept) -> bool:
        """Return whether what is kept from others in the tables of a queue includes this."""
        return any(level.kept.get(tables, 0) >= what for level in self._levels)

    def begin(self, name: str, counted: int) -> None:
        """Begin a savepoint, in which what is still unknown may write on."""
        self._levels.append(Level(counted, name=name, unknown=self.innermost.unknown))

    def end(self, name: str) -> list[Level]:
        """End the innermost savepoint of this name, and return it with those within.

        Returns none if there is no such savepoint.
        """
        for place in range(len(self._levels) - 1, 0, -1):
            if self._levels[place].name == name:
                ended = self._levels[place:]
                del self._levels[place:]
                return ended
        return []
