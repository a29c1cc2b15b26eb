"""What a task waits for whose queue has an engine: the forwarder, the engine, its next delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..states import State
from ..times import relative, to_datetime, utc
from .facts import Facts
from .why import Why, sentence

_THERE = "Cloud Tasks"


Look = Callable[[Facts], Why | None]


def forwarding(facts: Facts, no_dispatcher: Look, paused: Look) -> Iterator[Why]:
    """Yield everything that a task waits for; a dispatcher only if it is to be handed over."""
    state = facts.record.state
    for look in (no_dispatcher, paused) if state == State.SCHEDULED else (paused,):
        cause = look(facts)
        if cause is not None:
            yield cause
    if state == State.LEASED:
        yield _lost(facts)
    else:
        yield _handed_over(facts) if state == State.FORWARDED else _to_be_handed_over(facts)


def _to_be_handed_over(facts: Facts) -> Why:
    error = facts.record.last_error
    failed = f" The last try failed: {sentence(error)}" if error else ""
    return Why("handing_over", f"It is to be handed over to {_THERE} by a dispatcher.{failed}")


def _handed_over(facts: Facts) -> Why:
    record = facts.record
    if record.held_by is not None:
        return Why("handing_over", f"It is being handed over to {_THERE}.")
    if record.attempts and record.last_reason != "success":
        error = sentence(record.last_error or f"the last reply was {record.last_status}")
        return Why(
            "forwarded", f"Attempt {record.attempts} failed: {error} {_THERE} delivers it again."
        )
    at = to_datetime(record.forwarded_for or facts.now)
    when = "is delivering it" if at <= facts.time else "delivers it"
    return Why(
        "forwarded",
        f"{_THERE} has it, and {when}: it is due at {utc(at)} ({relative(at, facts.time)}).",
        at if at > facts.time else None,
    )


def _lost(facts: Facts) -> Why:
    ended = to_datetime(facts.record.due_at or facts.now)
    return Why(
        "lease_lost",
        f"The lease of its last delivery ran out {relative(ended, facts.time)}: the process that "
        f"served it died or was cut off. {_THERE} delivers the task again.",
    )
