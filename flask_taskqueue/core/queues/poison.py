"""Poison: tasks whose processes keep dying, and suspects, which the next death would condemn.

When a process dies, any task that was in flight may have killed it. The crash is counted for each
of them, and they are attempted again like any other. After `MAX_CRASHES` a task is dead as poison,
but only by a crash that it had alone. So a suspect is taken over to be tried alone: beside nothing
that began less than `PROBATION` seconds before, and nothing begins beside it while it is that young
itself. After that, others may begin beside it, and the same transaction excuses the crash that may
come: the task is then tried again, for twice as long. If a suspect is attempted beside others for
any other reason, its crash is excused in the same way.

If a supervisor sees that its child was killed from outside, the crash is excused for the tasks that
ran in it: it is counted, but not held against them. The column ``pardons`` counts excused crashes.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..delivery.outcome import Outcome
from ..states import Record, State, one_more

PROBATION = 10.0
MAX_CRASHES = 3

POISON = "poison: the process died {crashes} times while this task ran"
_DOUBLINGS = 6


def poison(record: Record) -> Outcome:
    """Return the outcome of a task that has crashed too often."""
    return Outcome(
        State.DEAD, "crash", error=POISON.format(crashes=one_more(record.crashes)), executed=False
    )


def is_poison(record: Record) -> bool:
    """Return whether one more crash condemns a task; while it runs, whether it is a suspect."""
    return record.crashes + 1 - record.pardons >= MAX_CRASHES


def will_be_suspect(record: Record) -> bool:
    """Return whether a task whose lease ran out is a suspect once that crash is counted."""
    return record.crashes + 2 - record.pardons == MAX_CRASHES


def probation(record: Record) -> float:
    """Return for how many seconds nothing begins beside a suspect that is being tried.

    The time doubles after each crash that was excused.
    """
    return float(PROBATION * 2 ** min(record.pardons, _DOUBLINGS))


def may_take_suspect(ages: Iterable[float]) -> bool:
    """Return whether to try a suspect beside deliveries that have run for ``ages`` seconds."""
    return all(age >= PROBATION for age in ages)
