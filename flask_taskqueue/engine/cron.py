"""Cron: adds the tasks of schedules when they are due to fire."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..process.logs import get_logger
from ..store import LockedError, ScheduleDefinition, Store, Wait

_logger = get_logger()

Find = Callable[[Collection[str]], Collection[ScheduleDefinition]]
"""A function that finds the declared schedules other than those with the given names."""

Fired = Callable[[str, int], object]
"""A callback with the name of a schedule that fired and the number of tasks it added."""

_LOOK_AGAIN = 5.0
"""The seconds until schedules are looked at again: another process may have changed one."""
_SHORTEST = 0.05
_GONE = timedelta(minutes=2)
"""How late a fire time must be to show that no process declares its schedule any more.

It shows this because dispatchers are running: one whose code declared the schedule would have fired
it.
"""


class Cron:
    """The cron of one process, which fires the schedules that its application declares.

    Every other dispatcher does the same for its own. Those that were added while the app runs are
    fired by all. `tick` may be called at any time, from any number of processes.
    """

    def __init__(
        self,
        find_store: Callable[[], Store],
        find_undeclared: Find,
        fired: Fired = lambda _name, _added: None,
    ) -> None:
        self._find_store = find_store
        self._find_undeclared = find_undeclared
        self._fired = fired
        self._names: set[str] = set()
        self._locked: set[str] = set()
        self.has_added: bool = False
        """Whether the last tick added tasks."""

    def tick(self, now: datetime | None = None) -> float:
        """Fire the schedules that are due; return the seconds until the next tick.

        Whether a schedule is due is decided by the database's clock, or by ``now`` if it is given.
        """
        try:
            return self._tick(now)
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            _logger.warning("schedules could not be looked at: %s", error)
            return _LOOK_AGAIN

    def declare(self, now: datetime | None = None) -> Collection[str]:
        """Store what is declared as it is declared now; return the names of what is stored so.

        Each schedule is checked once per process.
        """
        definitions = self._find_undeclared(self._names)
        if definitions:
            schedules = self._store.schedules
            with self._store.reading() as connection:
                outdated = schedules.outdated(connection, definitions)
                instant = now or schedules.now(connection)
            self._locked = {one.name for one in outdated if not self._is_declared(one, instant)}
            self._names |= {one.name for one in definitions} - self._locked
        return self._names

    def _is_declared(self, one: ScheduleDefinition, instant: datetime) -> bool:
        """Store a schedule as it is declared now; return whether that worked.

        It does not work while an application's transaction has locked the schedule.
        """
        declare = partial(self._store.schedules.declare, declared=[one], now=instant)
        try:
            self._store.transact(declare, wait=Wait.BRIEFLY)
        except LockedError as error:
            _logger.warning(
                "schedule %s cannot be stored as it is declared, yet: %s", one.name, error
            )
            return False
        return True

    @property
    def _store(self) -> Store:
        return self._find_store()

    def _tick(self, now: datetime | None) -> float:
        self.has_added = False
        declared = self.declare(now)
        schedules = self._store.schedules
        with self._store.reading() as connection:
            instant = now or schedules.now(connection)
            waiting = schedules.waiting(connection)
        for name, (next_at, is_added) in sorted(waiting.items()):
            if next_at > instant:
                continue
            if is_added or name in declared:
                self._fire(name, instant)
            elif name not in self._locked and instant - next_at > _GONE:
                self._store.transact(
                    partial(schedules.pass_over, name=name, now=instant), wait=Wait.BRIEFLY
                )
        return self._wait(declared, instant)

    def _wait(self, declared: Collection[str], instant: datetime) -> float:
        """Return the seconds until the next schedule is due, or others may have changed one."""
        with self._store.reading() as connection:
            waits = [
                (one.next_at - instant).total_seconds()
                for name, one in self._store.schedules.waiting(connection).items()
                if one.is_added or name in declared
            ]
        return max(_SHORTEST, min([_LOOK_AGAIN, *(wait if wait > 0 else 1.0 for wait in waits)]))

    def _fire(self, name: str, instant: datetime) -> None:
        """Fire one schedule, unless an application's transaction has locked what that needs.

        A schedule that cannot fire yet is looked at again later, and the others fire.
        """
        try:
            added = self._store.transact(
                partial(self._store.schedules.fire, name=name, now=instant), wait=Wait.BRIEFLY
            )
        except LockedError as error:
            _logger.warning("schedule %s cannot fire yet: %s", name, error)
            return
        if added:
            self.has_added = True
            _logger.info("schedule %s added %d tasks", name, added)
            self._fired(name, added)
