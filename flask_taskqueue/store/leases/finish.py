"""Finish: all that follows when an attempt is over or a task ends, in the same transaction."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...core.delivery.outcome import Outcome
from ...core.metrics import BOUNDS, DELAYS, DURATIONS
from ...core.queues.rate_keys import is_rate_key
from ...core.states import Record, State
from ...core.times import SECOND, duration_micros
from ..adding.batches import Batches
from ..adding.inserts import Inserts
from ..counters.counters import Counters, Counts, count_end, no_counts
from ..queues.locks import Locks
from .follow_ups import FollowUps
from .freed_places import FreedPlaces

_MEASURES = {
    "timeout": "timeout",
    "connection": "connection_error",
    "tls": "connection_error",
    "success": "success",
}
"""The names under which attempts are counted, by their reasons, where it is not by the status."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a task's state, with an attempt that is over or without one.

    The task has ended, is scheduled again, or (leased) is unchanged. ``attempt`` is the measure
    under which the attempt is counted (see `attempt_measure`), ``duration`` is in seconds.
    """

    record: Record
    state: State
    attempt: str | None = None
    failed: bool = False
    duration: float = 0.0
    expired: bool = False
    held: bool = False
    """Whether its place is not free yet, because its handler still runs (see `Holds`)."""


def attempt_measure(outcome: Outcome) -> str:
    """Return the name under which an attempt is counted that held its lease."""
    measure = _MEASURES.get(outcome.reason)
    if measure is not None:
        return measure
    status = outcome.status or 0
    return f"failure_{status // 100}xx" if 200 <= status < 600 else "failure_none"


class Finish:
    """A finisher, which counts ended tasks, lets waiting tasks go and adds the follow-up tasks."""

    def __init__(
        self,
        counters: Counters,
        locks: Locks,
        batches: Batches,
        inserts: Inserts,
        follow_ups: FollowUps,
        freed_places: FreedPlaces,
    ) -> None:
        self._counters = counters
        self._locks = locks
        self._batches = batches
        self._inserts = inserts
        self._follow_ups = follow_ups
        self._freed_places = freed_places

    def follow(
        self,
        connection: sa.Connection,
        transitions: Sequence[Transition],
        source: str,
        vacant: Sequence[sa.Row[Any]] = (),
    ) -> None:
        """Count transitions, and do everything that follows from them.

        Each concurrent writer has a ``source`` of its own. ``vacant`` are holds that have ended.
        Rows are locked in one order (keys, batches, counters), so that two transactions never wait
        for each other.
        """
        self.let_follow(connection, transitions, vacant)
        self._counters.add(connection, _counts(transitions), source)

    def let_follow(
        self,
        connection: sa.Connection,
        transitions: Sequence[Transition],
        vacant: Sequence[sa.Row[Any]] = (),
    ) -> None:
        """Do everything that follows from transitions, but count nothing."""
        self._free_locks(connection, transitions, vacant)
        self._add_follow_ups(connection, transitions)
        self._count_batches(connection, transitions, vacant)

    def given_back(self, connection: sa.Connection, ids: Collection[str]) -> None:
        """Let tasks go that may run instead of tasks that were given back as if never claimed."""
        self._locks.free(connection, self._locks.keys_of(connection, ids))

    def put_off(self, connection: sa.Connection, record: Record) -> None:
        """Let tasks go that wait for the key of a task that was put off, perhaps by the app."""
        if record.lock_key is not None and not self._freed_places.leave(connection, [record]):
            self.given_back(connection, [record.id])

    def replaced(self, connection: sa.Connection, record: Record, expired: bool) -> None:
        """Do what follows for a task that was cancelled because another took its place."""
        self.cancelled(connection, [Transition(record, State.CANCELLED, expired=expired)])

    def cancelled(self, connection: sa.Connection, transitions: Sequence[Transition]) -> None:
        """Do what follows for cancelled tasks, even in the app's own transaction."""
        if not self._freed_places.leave(
            connection, [transition.record for transition in transitions if not transition.held]
        ):
            self.let_follow(connection, transitions)
        self._counters.add(connection, _counts(transitions))

    def _free_locks(
        self,
        connection: sa.Connection,
        transitions: Sequence[Transition],
        vacant: Sequence[sa.Row[Any]],
    ) -> None:
        """Let tasks go that wait for keys.

        An attempt that is over frees nothing of a rate key, because its token has been used.
        """
        keys: dict[str, int | None] = {
            place.lock_key: place.lock_limit for place in vacant if place.lock_key is not None
        }
        keys |= {
            transition.record.lock_key: transition.record.lock_limit
            for transition in transitions
            if transition.record.lock_key is not None
            and not transition.held
            and transition.state is not State.LEASED
            and not (transition.attempt and is_rate_key(transition.record.lock_key))
        }
        if keys:
            self._locks.free(connection, keys)

    def _add_follow_ups(self, connection: sa.Connection, transitions: Sequence[Transition]) -> None:
        for transition in transitions:
            if transition.record.follow_up is None or transition.state is not State.SUCCEEDED:
                continue
            following = self._follow_ups.of(connection, transition.record)
            self._inserts.add_following(connection, following, f"task {transition.record.id}")

    def _count_batches(
        self,
        connection: sa.Connection,
        transitions: Sequence[Transition],
        vacant: Sequence[sa.Row[Any]],
    ) -> None:
        ended: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for transition in transitions:
            if (
                transition.record.batch_id is not None
                and transition.state.is_finished
                and not transition.held
            ):
                ended[transition.record.batch_id][transition.state.value] += 1
        for place in vacant:
            if place.batch_id is not None:  # its task was deleted
                ended[place.batch_id][State.CANCELLED.value] += 1
        if ended:
            self._batches.count(connection, ended)


def _counts(transitions: Sequence[Transition]) -> dict[str, Counts]:
    found = no_counts()
    for transition in transitions:
        counts = found[transition.record.queue]
        if transition.attempt is not None:
            _count_attempt(counts, transition, transition.attempt)
        if transition.state.is_finished:
            count_end(counts, transition.state, expired=transition.expired)
    return found


def _count_attempt(counts: Counts, transition: Transition, measure: str) -> None:
    counts[measure] += 1
    if measure == "late":  # it neither succeeded nor failed, or was counted as a crash
        return
    counts["attempts"] += 1
    counts["failures"] += transition.failed
    if measure == "crash":
        return
    _observe(counts, DURATIONS, "duration_micros", duration_micros(transition.duration))
    record = transition.record
    if (
        record.attempts == 1 and record.last_reason is None and record.started_at is not None
    ):  # the very first attempt
        _observe(
            counts,
            DELAYS,
            "delay_micros",
            max(0, record.started_at - max(record.eta, record.created_at)),
        )


def _observe(counts: Counts, buckets: Sequence[str], total: str, micros: int) -> None:
    """Put a duration into a histogram."""
    name = buckets[bisect_left(BOUNDS, micros / SECOND)]
    counts[name] += 1
    counts[total] += micros
