"""Why a task has not run, or how it ended, in a sentence for each cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ..clock import SECOND, to_datetime
from ..humanize import relative, utc
from ..queues.poison import probation, will_be_suspect
from ..queues.rates import rate_text
from ..states import State
from ..urls import redacted
from .facts import Facts

_NAMED = 3
_SILENT = 15.0
"""Seconds after which a dispatcher has not reported: it does so every ten."""


@dataclass(frozen=True, slots=True)
class Why:
    """What a task waits for, or what became of it.

    ``code`` is one word that stays the same, ``sentence`` is for people. ``until`` is when that
    passes, where it is known (aware, in UTC); ``holders`` are the ids of the tasks that the task
    waits for. ``others`` is what else is in its way, in the order in which it matters.
    """

    code: str
    sentence: str
    until: datetime | None = None
    holders: tuple[str, ...] = ()
    others: tuple[Why, ...] = ()

    @property
    def also(self) -> tuple[str, ...]:
        """The codes of the others."""
        return tuple(one.code for one in self.others)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of them, that of the cause that matters first before the others'."""
        return self.sentence, *(one.sentence for one in self.others)


def explain(facts: Facts) -> Why:
    """The cause that matters first, before which has passed nothing helps, with the others.

    A task that is not due waits for its time, whatever else is wrong. Once it is due, a dispatcher
    must be there, its queue open, its key free; then come the limits, and its turn.
    """
    state = facts.record.state
    if state in _ENDED:
        return _ENDED[State(state)](facts)
    if state == State.LEASED and (facts.record.due_at or 0) > facts.now:
        return _running(facts)
    first, *others = _causes(facts)
    return replace(first, others=tuple(one for one in others if one.code != "turn"))


def _causes(facts: Facts) -> Iterator[Why]:
    """Everything that a task waits for; at last its turn."""
    for look in (
        _not_due,
        _no_dispatcher,
        _paused,
        _no_route,
        _key,
        _slowed,
        _suspect,
        _rate,
        _max_concurrent,
        _busy,
    ):
        cause = look(facts)
        if cause is not None:
            yield cause
    yield _lost_lease(facts) if facts.record.state == State.LEASED else _turn(facts)


def _not_due(facts: Facts) -> Why | None:
    record = facts.record
    if record.state != State.SCHEDULED or record.due_at is None or record.due_at <= facts.now:
        return None
    if facts.slowdown is not None and not record.attempts and record.eta <= facts.now:
        return None  # it was due, and was put off
    until = to_datetime(record.due_at)
    when = f"{utc(until)} ({relative(until, facts.time)})"
    if record.attempts and record.due_at > record.eta:
        error = _sentence(record.last_error or f"the reply was {record.last_status}")
        return Why(
            "retry",
            f"Attempt {record.attempts} failed: {error} It is tried again at {when}.",
            until,
        )
    return Why("not_due", f"It is not due until {when}.", until)


def _no_dispatcher(facts: Facts) -> Why | None:
    if not facts.alive:
        seen = max(facts.dispatchers, key=lambda one: one.seen_at, default=None)
        last = (
            "none is known"
            if seen is None
            else f"the last, {seen.host}:{seen.pid}, was seen {relative(seen.seen_at, facts.time)}"
        )
        return Why(
            "no_dispatcher", f"No dispatcher is alive; {last}. Start one: flask taskqueue run"
        )
    if not facts.takers:
        queues = sorted({queue for one in facts.alive for queue in one.queues or ()})
        return Why(
            "queue_not_taken",
            f"No dispatcher takes from queue {facts.record.queue}: those that are alive were "
            f"told to take only from {', '.join(queues)}.",
        )
    return None


def _paused(facts: Facts) -> Why | None:
    if facts.paused_at is None:
        return None
    queue, since = facts.record.queue, to_datetime(facts.paused_at)
    by = f" by {facts.paused_by}" if facts.paused_by else ""
    return Why(
        "paused",
        f"Queue {queue} is paused{by} since {utc(since)} ({relative(since, facts.time)}). "
        f"Resume it: flask taskqueue resume {queue}",
    )


def _no_route(facts: Facts) -> Why | None:
    if facts.is_answered:
        return None
    place = f"{facts.record.method} {redacted(facts.record.url)}"
    return Why(
        "no_route",
        f"No route of this release answers {place}. Deploy the release that has it, or "
        "delete the task.",
    )


def _key(facts: Facts) -> Why | None:
    record = facts.record
    if (
        record.state != State.SCHEDULED
        or record.lock_key is None
        or len(facts.holders) < (record.lock_limit or 1)
    ):
        if record.state == State.SCHEDULED and record.due_at is None:
            return Why("key", "Its key is free again; it is let go within a minute at most.")
        return None
    kind, _, key = record.lock_key.partition(":")
    word = "serial key" if kind == "s" else "concurrency key"
    holders = tuple(one.id for one in facts.holders)
    first = facts.holders[0]
    others = f"is {first.state}, and whose handler still runs"
    doing = {State.LEASED: "runs", State.SCHEDULED: "comes first and is scheduled"}.get(
        State(first.state), others
    )
    verb = f"{_list(holders)}, which {doing}" if len(holders) == 1 else f"tasks {_list(holders)}"
    return Why(
        "key",
        f"Its {word} {key!r} is held by {'task ' if len(holders) == 1 else ''}{verb}.",
        None,
        holders,
    )


def _slowed(facts: Facts) -> Why | None:
    one, record = facts.slowdown, facts.record
    is_due = (record.due_at or 0) <= facts.now
    if one is None or record.state != State.SCHEDULED or (is_due and one.tokens(facts.now)):
        return None
    until = to_datetime(one.turn(facts.now, 1) if is_due else record.due_at or 0)
    since = to_datetime(one.slowed_at)
    return Why(
        "slowed",
        f"Its receiver, {one.name}, asked for less ({one.said}) and is slowed since {utc(since)} "
        f"({relative(since, facts.time)}). It is sent {rate_text(one.rate_at(facts.now))}; "
        f"this task is looked at again at {utc(until)}.",
        until,
    )


def _suspect(facts: Facts) -> Why | None:
    expired = [
        one
        for one in facts.expired()
        if any(taker.queues is None or one.queue in taker.queues for taker in facts.takers)
    ]
    if expired:
        ids = tuple(one.id for one in expired)
        return Why(
            "suspect",
            f"Task {ids[0]} was running when two processes died; it is tried next, alone in "
            "its process.",
            None,
            ids,
        )
    young = facts.on_probation()
    if facts.takers and {one.id for one in facts.takers} <= {one.held_by for one in young}:
        until = to_datetime(
            min((one.started_at or 0) + int(probation(one) * SECOND) for one in young)
        )
        ids = tuple(one.id for one in young)
        return Why(
            "suspect",
            f"Task {ids[0]}, whose process died twice, runs alone until {utc(until)}.",
            until,
            ids,
        )
    return None


def _rate(facts: Facts) -> Why | None:
    gate = facts.gate
    if gate is None or gate.tokens_left != 0:
        return None
    opens_at = gate.opens_at()
    queue = facts.record.queue
    if opens_at is None:
        return Why(
            "rate",
            f"The rate of queue {queue} is 0, so nothing starts. Change it: flask taskqueue "
            f"configure {queue} --rate 5/s",
        )
    until = to_datetime(opens_at)
    return Why(
        "rate",
        f"The rate of queue {queue}, {rate_text(gate.rate)}, lets nothing start before "
        f"{utc(until)}.",
        until,
    )


def _max_concurrent(facts: Facts) -> Why | None:
    gate = facts.gate
    if (
        facts.record.state == State.LEASED
        or gate is None
        or gate.max_concurrent is None
        or gate.in_flight < gate.max_concurrent
    ):
        return None
    ids = tuple(one.id for one in facts.in_flight)
    return Why(
        "max_concurrent",
        f"Queue {facts.record.queue} runs at most {_count(gate.max_concurrent, 'task')} at a "
        f"time, and now {_list(ids)}.",
        None,
        ids,
    )


def _busy(facts: Facts) -> Why | None:
    takers = facts.takers
    if not takers or any(facts.busy.get(one.id, 0) < one.concurrency for one in takers):
        return None
    running = sum(facts.busy.get(one.id, 0) for one in takers)
    who = (
        f"The only dispatcher, {takers[0].host}:{takers[0].pid}, is"
        if len(takers) == 1
        else f"All {len(takers)} dispatchers are"
    )
    return Why(
        "busy",
        f"{who} busy with {_count(running, 'task')}, as many as may run; {_in_front(facts)}.",
    )


def _lost_lease(facts: Facts) -> Why:
    record = facts.record
    ended = to_datetime(record.due_at or facts.now)
    how = (
        "tries it alone as soon as nothing young runs beside it"
        if will_be_suspect(record)
        else "with a free slot takes the task over"
    )
    return Why(
        "lease_lost",
        f"The lease of {facts.process(record.held_by)} ran out "
        f"{relative(ended, facts.time)}: its process died or was cut off. "
        f"The next dispatcher {how}.",
    )


def _turn(facts: Facts) -> Why:
    return Why(
        "turn",
        f"It is due, and {_in_front(facts)}: a dispatcher takes it as soon as a slot is free.",
    )


def _running(facts: Facts) -> Why:
    record = facts.record
    until = to_datetime(record.due_at or 0)
    holder = next((one for one in facts.dispatchers if one.id == record.held_by), None)
    if holder is not None and (facts.time - holder.seen_at).total_seconds() > _SILENT:
        return Why(
            "silent",
            f"Attempt {record.attempts} ran in {facts.process(record.held_by)}, which has "
            f"not reported since {utc(holder.seen_at)} "
            f"({relative(holder.seen_at, facts.time)}): its process died, hangs or is cut "
            "off from the database. Unless it renews the "
            f"lease, that ends at {utc(until)} ({relative(until, facts.time)}), and the task "
            "is attempted again.",
            until,
        )
    since = (
        f" since {relative(to_datetime(record.started_at), facts.time)}"
        if record.started_at
        else ""
    )
    reported = "" if holder is None else f", which reported {relative(holder.seen_at, facts.time)}"
    return Why(
        "running",
        f"Attempt {record.attempts} runs{since.removesuffix(' ago')}, in "
        f"{facts.process(record.held_by)}{reported}; "
        f"its lease lasts until {utc(until)} and is renewed while it runs.",
        until,
    )


def _succeeded(facts: Facts) -> Why:
    record = facts.record
    return Why(
        "succeeded",
        f"It succeeded {_ended(facts)} with status {record.last_status}, at attempt "
        f"{record.attempts}.",
    )


def _dead(facts: Facts) -> Why:
    record = facts.record
    error = _sentence(record.last_error or f"the last reply was {record.last_status}")
    return Why(
        "dead",
        f"It gave up {_ended(facts)} after {_count(record.attempts, 'attempt')} "
        f"({record.last_reason}): {error} "
        f"When that is mended: flask taskqueue retry {record.id}",
    )


def _cancelled(facts: Facts) -> Why:
    reasons = {
        "expired": "it had not begun by the time it expires",
        "replaced": "another task with its unique key took its place",
    }
    reason = facts.record.last_reason or ""
    if reason in reasons:
        return Why(reason, f"It was cancelled {_ended(facts)}: {reasons[reason]}.")
    going_on = (
        f"; its handler still runs, in {facts.process(facts.going_on)}, and keeps its places "
        "until it ends"
    )
    return Why("cancelled", f"It was deleted {_ended(facts)}{going_on if facts.going_on else ''}.")


_ENDED: dict[State, Callable[[Facts], Why]] = {
    State.SUCCEEDED: _succeeded,
    State.DEAD: _dead,
    State.CANCELLED: _cancelled,
}


def _ended(facts: Facts) -> str:
    return relative(to_datetime(facts.record.finished_at or facts.now), facts.time)


def _in_front(facts: Facts) -> str:
    return (
        f"{_count(facts.ahead, 'task')} of queue {facts.record.queue} before it"
        if facts.ahead
        else "it is the next of its queue"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _list(ids: Sequence[str]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
