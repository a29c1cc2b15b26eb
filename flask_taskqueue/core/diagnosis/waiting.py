"""The explanation of a task: the causes for which it waits, the most important first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..errors import shown
from ..queues.poison import probation, will_be_suspect
from ..queues.rate_keys import is_rate_key
from ..queues.rates import rate_text
from ..states import LIVE, State
from ..times import SECOND, plural, relative, to_datetime, utc
from ..urls import redacted
from .closed_queues import deleted, paused, pulled
from .facts import Facts
from .forwarding import forwarding
from .limits import list_ids, max_concurrent, rate, rate_per_key, waits_for_token
from .why import ENDED, Why, running, sentence


def _not_due(facts: Facts) -> Why | None:
    record = facts.record
    if record.state != State.SCHEDULED or record.due_at is None or record.due_at <= facts.now:
        return None
    is_put_off = facts.circuit is not None or (facts.slowdown is not None and not record.attempts)
    if is_put_off and record.eta <= facts.now:
        return None  # it was due before, and was put off
    if waits_for_token(facts):
        return None
    until = to_datetime(record.due_at)
    when = f"{utc(until)} ({relative(until, facts.time)})"
    if record.attempts and record.due_at > record.eta:
        error = sentence(record.last_error or f"the reply was {record.last_status}")
        return Why(
            "retry",
            f"Attempt {record.attempts} failed: {error} It is tried again at {when}.",
            until,
        )
    return Why("not_due", f"It is not due until {when}.", until)


def _no_dispatcher(facts: Facts) -> Why | None:
    if not facts.alive:
        seen = max(facts.dispatchers, key=lambda dispatcher: dispatcher.seen_at, default=None)
        last = (
            "none is known"
            if seen is None
            else f"the last, {seen.host}:{seen.pid}, was seen {relative(seen.seen_at, facts.time)}"
        )
        return Why(
            "no_dispatcher", f"No dispatcher is alive; {last}. Start one: flask taskqueue run"
        )
    if not facts.takers:
        queues = sorted({queue for dispatcher in facts.alive for queue in dispatcher.queues or ()})
        return Why(
            "queue_not_taken",
            f"No dispatcher takes from queue {facts.record.queue}: those that are alive were "
            f"told to take only from {', '.join(queues)}.",
        )
    return None


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
    if is_rate_key(record.lock_key):
        return None
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
    holders = tuple(holder.id for holder in facts.holders)
    first = facts.holders[0]
    others = f"is {first.state}, and whose handler still runs"
    doing = {State.LEASED: "runs", State.SCHEDULED: "comes first and is scheduled"}.get(
        State(first.state), others
    )
    verb = (
        f"{list_ids(holders)}, which {doing}" if len(holders) == 1 else f"tasks {list_ids(holders)}"
    )
    return Why(
        "key",
        f"Its {word} {key!r} is held by {'task ' if len(holders) == 1 else ''}{verb}.",
        None,
        holders,
    )


def _circuit(facts: Facts) -> Why | None:
    circuit, record = facts.circuit, facts.record
    if circuit is None or record.state != State.SCHEDULED or record.eta > facts.now:
        return None
    since, probe = (to_datetime(instant) for instant in (circuit.failing_since, circuit.probe_at))
    next_probe = (
        "one of its tasks is under way as a probe"
        if circuit.probing
        else f"a probe may be sent from {utc(probe)} on"
    )
    return Why(
        "circuit",
        f"Its receiver, {circuit.name}, has failed {circuit.failures} times in a row since "
        f"{utc(since)} ({relative(since, facts.time)}), most recently with: {circuit.said}. Its "
        f"circuit is open: {next_probe}, and the others follow once it is answered. "
        f"Close it at once: flask taskqueue close-circuit {circuit.target}",
        None if circuit.probing else probe,
    )


def _slowed(facts: Facts) -> Why | None:
    slowdown, record = facts.slowdown, facts.record
    is_due = (record.due_at or 0) <= facts.now
    if (
        slowdown is None
        or record.state != State.SCHEDULED
        or (is_due and slowdown.tokens(facts.now))
    ):
        return None
    until = to_datetime(slowdown.due_at(facts.now, 1) if is_due else record.due_at or 0)
    since = to_datetime(slowdown.slowed_at)
    return Why(
        "slowed",
        f"Its receiver, {slowdown.name}, asked for less ({slowdown.said}) and is slowed since "
        f"{utc(since)} ({relative(since, facts.time)}). It is sent "
        f"{rate_text(slowdown.rate_at(facts.now))}; this task is looked at again at {utc(until)}.",
        until,
    )


def _suspect(facts: Facts) -> Why | None:
    expired = [
        suspect
        for suspect in facts.expired()
        if any(taker.queues is None or suspect.queue in taker.queues for taker in facts.takers)
    ]
    if expired:
        ids = tuple(suspect.id for suspect in expired)
        return Why(
            "suspect",
            f"Task {ids[0]} was running when two processes died; it is tried next, alone in "
            "its process.",
            None,
            ids,
        )
    young = facts.on_probation()
    holding = {suspect.held_by for suspect in young}
    if facts.takers and {taker.id for taker in facts.takers} <= holding:
        until = to_datetime(
            min((suspect.started_at or 0) + int(probation(suspect) * SECOND) for suspect in young)
        )
        ids = tuple(suspect.id for suspect in young)
        return Why(
            "suspect",
            f"Task {ids[0]}, whose process died twice, runs alone until {utc(until)}.",
            until,
            ids,
        )
    return None


def _busy(facts: Facts) -> Why | None:
    takers = facts.takers
    if not takers or any(facts.busy.get(taker.id, 0) < taker.concurrency for taker in takers):
        return None
    running = sum(facts.busy.get(taker.id, 0) for taker in takers)
    who = (
        f"The only dispatcher, {takers[0].host}:{takers[0].pid}, is"
        if len(takers) == 1
        else f"All {len(takers)} dispatchers are"
    )
    return Why(
        "busy",
        f"{who} busy with {plural(running, 'task')}, as many as may run; {_in_front(facts)}.",
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
    if facts.record.forced_at is not None:
        since = to_datetime(facts.record.forced_at)
        return Why(
            "turn",
            f"Somebody asked {relative(since, facts.time)} to run it whatever the state of its "
            "queue: a dispatcher takes it as soon as a slot is free.",
        )
    return Why(
        "turn",
        f"It is due, and {_in_front(facts)}: a dispatcher takes it as soon as a slot is free.",
    )


def _in_front(facts: Facts) -> str:
    return (
        f"{plural(facts.ahead, 'task')} of queue {facts.record.queue} before it"
        if facts.ahead
        else "it is the next of its queue"
    )


_CAUSES = (
    _not_due,
    _no_dispatcher,
    paused,
    _no_route,
    _key,
    _circuit,
    _slowed,
    _suspect,
    rate,
    rate_per_key,
    max_concurrent,
    _busy,
)
_OVERRULED = (paused, _circuit, _slowed, rate, max_concurrent)
"""The causes that do not hold up a task that was forced."""


def causes(facts: Facts) -> Iterator[Why]:
    """Yield everything that a task waits for; its turn comes last."""
    if (gone := deleted(facts)) is not None:
        yield gone
        return
    if facts.engine is not None:
        yield from forwarding(facts, _no_dispatcher, paused)
        return
    if facts.is_pulled:
        yield pulled(facts)
        return
    forced = facts.record.forced_at is not None
    for look in _CAUSES:
        cause = None if forced and look in _OVERRULED else look(facts)
        if cause is not None:
            yield cause
    yield _lost_lease(facts) if facts.record.state == State.LEASED else _turn(facts)


def explain(facts: Facts) -> Why:
    """Return why a task has not run: the most important cause, and the others.

    Nothing else helps until the first cause has passed. A task that is not due waits for its time,
    whatever else is wrong. Once it is due, it needs a dispatcher, an open queue and a free key;
    then come the limits, and its turn.
    """
    state = facts.record.state
    if state in ENDED:
        return ENDED[State(state)](facts)
    due_at: object = facts.record.due_at
    if State.of(facts.record) != state or not isinstance(due_at, int | None):
        wrong = f"{shown(due_at)} is no time" if state in LIVE else f"{shown(state)} is no state"
        return Why("dead", f"Its row is malformed, and nothing takes it: {wrong}.")
    if state == State.LEASED and (facts.record.due_at or 0) > facts.now:
        return running(facts)
    first, *others = causes(facts)
    return replace(first, others=tuple(cause for cause in others if cause.code != "turn"))
