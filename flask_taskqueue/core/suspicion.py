"""Suspects: tasks that were in flight when a process died.

One of them may have killed it. So a suspect is attempted beside nothing else that is young:
if the process dies again, no neighbour is condemned with it. A delivery that has run for
`PROBATION` seconds has shown that it does not kill at once and no longer counts.

Where a supervisor sees that its child was killed from outside, the tasks that ran in it are
pardoned: that crash is counted, but not held against them.
"""

from __future__ import annotations

from collections.abc import Iterable

from .outcome import Outcome
from .record import Record
from .states import State

PROBATION = 10.0
MAX_CRASHES = 3

POISON = "poison: the process died {crashes} times while this task ran"


def poison(record: Record) -> Outcome:
    """The outcome of the last of so many crashes."""
    return Outcome(State.DEAD, "crash", error=POISON.format(crashes=record.crashes + 1), executed=False)


def is_poison(record: Record) -> bool:
    """Whether one more crash condemns a task."""
    return record.crashes + 1 - record.pardons >= MAX_CRASHES


def may_take_suspect(ages: Iterable[float]) -> bool:
    """Whether a suspect may start beside deliveries that have run for ``ages`` seconds."""
    return all(age >= PROBATION for age in ages)


def may_take_others(suspect_ages: Iterable[float]) -> bool:
    """Whether other tasks may start beside suspects that have run for ``suspect_ages`` seconds."""
    return all(age >= PROBATION for age in suspect_ages)
