"""The limits for which a task waits: rates, and how many tasks may run."""

from __future__ import annotations

from collections.abc import Sequence

from ..queues.rate_keys import split_rate_key
from ..queues.rates import rate_text
from ..states import State
from ..times import SECOND, plural, relative, to_datetime, utc
from .facts import Facts
from .why import Why

_NAMED = 3
"""The number of task ids that a sentence names."""


def rate(facts: Facts) -> Why | None:
    """Return whether the rate of its queue keeps a task waiting."""
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


def waits_for_token(facts: Facts) -> bool:
    """Return whether a task waits for a token of its rate key, not for its eta or a retry."""
    record, line = facts.record, facts.key_line
    gate = None if line is None else line.gate
    if gate is None or gate.tokens_left is None or record.state != State.SCHEDULED:
        return False
    if record.due_at is None or record.due_at <= facts.now:
        return record.due_at is None or not gate.tokens_left
    opens_at = gate.opens_at()
    was_due = record.eta <= facts.now and not record.attempts
    return was_due and opens_at is not None and record.due_at <= opens_at + SECOND


def rate_per_key(facts: Facts) -> Why | None:
    """Return whether the rate of its key keeps a task waiting, and until when at least."""
    line, record = facts.key_line, facts.record
    if line is None or record.lock_key is None or not waits_for_token(facts):
        return None
    gate = line.gate
    queue, key = split_rate_key(record.lock_key)
    opens_at = gate.opens_at()
    if opens_at is None or not gate.rate:
        return Why(
            "rate_per_key",
            f"The rate per key of queue {queue} is 0, so nothing with a rate key starts. Change "
            f"it: flask taskqueue configure {queue} --rate-per-key 10/m",
        )
    starts_at = opens_at + int(line.ahead / gate.rate * SECOND)
    until = to_datetime(max(starts_at, record.due_at or 0))
    before = f"; {plural(line.ahead, 'task')} of this key before it" if line.ahead else ""
    return Why(
        "rate_per_key",
        f"The rate of its key {key!r}, {rate_text(gate.rate)} in queue {queue}, lets it start no "
        f"earlier than {utc(until)} ({relative(until, facts.time)}){before}.",
        until,
    )


def max_concurrent(facts: Facts) -> Why | None:
    """Return whether the tasks that run in its queue keep a task waiting."""
    gate = facts.gate
    if (
        facts.record.state == State.LEASED
        or gate is None
        or gate.max_concurrent is None
        or gate.in_flight < gate.max_concurrent
    ):
        return None
    queue = facts.record.queue
    if not gate.max_concurrent:
        return Why(
            "max_concurrent",
            f"The table of queues lets {queue} run no task at a time, so nothing starts. Change "
            f"it: flask taskqueue configure {queue} --max-concurrent 5",
        )
    ids = tuple(record.id for record in facts.in_flight)
    return Why(
        "max_concurrent",
        f"Queue {queue} runs at most {plural(gate.max_concurrent, 'task')} at a time, and now "
        f"{list_ids(ids)}.",
        None,
        ids,
    )


def list_ids(ids: Sequence[str]) -> str:
    """Return the first few ids for a sentence, and how many more there are."""
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")
