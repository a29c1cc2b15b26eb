"""Closed queues: those that dispatchers take nothing from, and what their tasks wait for."""

from __future__ import annotations

from ..times import relative, to_datetime, utc
from .facts import Facts
from .why import Why


def paused(facts: Facts) -> Why | None:
    """Return whether the task's queue is paused."""
    if facts.paused_at is None:
        return None
    queue, since = facts.record.queue, to_datetime(facts.paused_at)
    by = f" by {facts.paused_by}" if facts.paused_by else ""
    return Why(
        "paused",
        f"Queue {queue} is paused{by} since {utc(since)} ({relative(since, facts.time)}). "
        f"Resume it: flask taskqueue resume {queue}",
    )


def deleted(facts: Facts) -> Why | None:
    """Return whether the task's queue was deleted."""
    if facts.deleted_at is None:
        return None
    deleted_at = to_datetime(facts.deleted_at)
    return Why(
        "queue_deleted",
        f"Queue {facts.record.queue} was deleted at {utc(deleted_at)} "
        f"({relative(deleted_at, facts.time)}): the next sweep of a dispatcher cancels the task.",
    )


def pulled(facts: Facts) -> Why:
    """Return what a task of a pull queue waits for."""
    record = facts.record
    if record.due_at is not None and record.due_at > facts.now:
        until = to_datetime(record.due_at)
        when = f"{utc(until)} ({relative(until, facts.time)})"
        if record.lease_id is not None:
            return Why("pulled", f"It is leased from queue {record.queue} until {when}.", until)
        return Why("not_due", f"It cannot be leased from queue {record.queue} until {when}.", until)
    return Why(
        "pulled",
        f"Queue {record.queue} is a pull queue: the task waits until code of the application "
        "leases it with lease_tasks().",
    )
