"""Why a task has not run, or how it ended, with the answers for tasks that have begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..failures import unending
from ..states import State
from ..times import duration, plural, relative, to_datetime, utc
from .facts import Facts

_SILENT = 15.0
"""The number of seconds without a report after which a dispatcher, due every ten, is silent."""


@dataclass(frozen=True, slots=True)
class Why:
    """What a task waits for, or how it ended.

    ``code`` is one word that stays the same, ``sentence`` is for people. ``until`` is when the
    cause passes, if that is known (aware, in UTC); ``holders`` are the ids of the tasks that the
    task waits for. ``others`` are the other causes, the most important first.
    """

    code: str
    sentence: str
    until: datetime | None = None
    holders: tuple[str, ...] = ()
    others: tuple[Why, ...] = ()

    @property
    def also(self) -> tuple[str, ...]:
        """The codes of the other causes."""
        return tuple(cause.code for cause in self.others)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentences of all causes, the most important first."""
        return self.sentence, *(cause.sentence for cause in self.others)


def running(facts: Facts) -> Why:
    """Return the answer for a task that runs."""
    record = facts.record
    until = to_datetime(record.due_at or 0)
    holders = (dispatcher for dispatcher in facts.dispatchers if dispatcher.id == record.held_by)
    holder = next(holders, None)
    if holder is not None and (facts.time - holder.seen_at).total_seconds() > _SILENT:
        return Why(
            "silent",
            f"Attempt {record.attempts} ran in {facts.process(record.held_by)}, which has "
            f"not reported since {utc(holder.seen_at)} "
            f"({relative(holder.seen_at, facts.time)}): its process died, hangs or is cut "
            f"off from the database. Unless it renews the lease, that ends at {utc(until)} "
            f"({relative(until, facts.time)}), and the task is attempted again.",
            until,
        )
    runs = "runs"
    if record.started_at:
        ran = facts.time - to_datetime(record.started_at)
        runs = f"has been running for {duration(ran.total_seconds())}"
    reported = "" if holder is None else f", which reported {relative(holder.seen_at, facts.time)}"
    return Why(
        "running",
        f"Attempt {record.attempts} {runs}, in "
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
    error = sentence(unending(record.last_error or f"the last reply was {record.last_status}"))
    return Why(
        "dead",
        f"It gave up {_ended(facts)} after {plural(record.attempts, 'attempt')} "
        f"({record.last_reason}): {error} "
        f"When that is mended: flask taskqueue requeue {record.id}",
    )


def _cancelled(facts: Facts) -> Why:
    reasons = {
        "expired": "it had not begun by the time it expires",
        "replaced": "another task with its unique key took its place",
        "queue_deleted": f"its queue, {facts.record.queue}, was deleted",
    }
    reason = facts.record.last_reason or ""
    if reason in reasons:
        return Why(reason, f"It was cancelled {_ended(facts)}: {reasons[reason]}.")
    going_on = (
        f"; its handler still runs, in {facts.process(facts.going_on)}, and keeps its places "
        "until it ends"
    )
    return Why("cancelled", f"It was deleted {_ended(facts)}{going_on if facts.going_on else ''}.")


ENDED: dict[State, Callable[[Facts], Why]] = {
    State.SUCCEEDED: _succeeded,
    State.DEAD: _dead,
    State.CANCELLED: _cancelled,
}
"""The answers for tasks that have ended, by state."""


def _ended(facts: Facts) -> str:
    return relative(to_datetime(facts.record.finished_at or facts.now), facts.time)


def sentence(text: str) -> str:
    """Return an error as a sentence, with a full stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
