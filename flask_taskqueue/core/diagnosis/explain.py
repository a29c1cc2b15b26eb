"""The explanation of a task: what it waits for, or how it ended."""

from __future__ import annotations

from dataclasses import replace

from ..states import State
from .facts import Facts
from .waiting import causes
from .why import ENDED, Why, running


def explain(facts: Facts) -> Why:
    """Return why a task has not run: the most important cause, and the others.

    Nothing else helps until the first cause has passed. A task that is not due waits for its time,
    whatever else is wrong. Once it is due, it needs a dispatcher, an open queue and a free key;
    then come the limits, and its turn.
    """
    state = facts.record.state
    if state in ENDED:
        return ENDED[State(state)](facts)
    if state == State.LEASED and (facts.record.due_at or 0) > facts.now:
        return running(facts)
    first, *others = causes(facts)
    return replace(first, others=tuple(cause for cause in others if cause.code != "turn"))
