"""Suspects: tasks that the next death of their process would condemn.

A process dies, and any task that was in flight may have killed it. The crash is counted for each of
them; otherwise they are attempted again like any other. After `MAX_CRASHES` a task is dead as
poison, but only by a crash that it had alone: a suspect is taken over to be tried alone, beside
nothing that began less than `PROBATION` seconds before, and nothing begins beside it while it is so
young itself. From then on others may begin beside it, and the same transaction forgives it the
crash that may come: it is tried anew then, and for twice as long. Wherever else a suspect is
attempted beside others, it is forgiven likewise.

Where a supervisor sees that its child was killed from outside, the tasks that ran in it are
pardoned: that crash is counted, but not held against them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..delivery.outcome import Outcome
from ..record import Record
from ..states import State

PROBATION = 10.0
MAX_CRASHES = 3

POISON = "poison: the process died {crashes} times while this task ran"
_DOUBLINGS = 6


def poison(record: Record) -> Outcome:
    """The outcome of the last of so many crashes."""
    return Outcome(
        State.DEAD, "crash", error=POISON.format(crashes=record.crashes + 1), executed=False
    )


def is_poison(record: Record) -> bool:
    """Whether one more crash condemns a task: as long as it runs, whether it is a suspect."""
    return record.crashes + 1 - record.pardons >= MAX_CRASHES


def will_be_suspect(record: Record) -> bool:
    """Whether a task whose lease ran out, so that another crash is to be counted, is a suspect
    then.
    """
    return record.crashes + 2 - record.pardons == MAX_CRASHES


def probation(record: Record) -> float:
    """Seconds for which nothing begins beside a suspect that is tried: twice as long after each
    crash that it was forgiven.
    """
    return float(PROBATION * 2 ** min(record.pardons, _DOUBLINGS))


def may_take_suspect(ages: Iterable[float]) -> bool:
    """Whether a suspect may be tried beside deliveries that have run for ``ages`` seconds."""
    return all(age >= PROBATION for age in ages)
