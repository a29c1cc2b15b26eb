"""The row of a new task."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ...core.security.encryption import Encryption
from ...core.states import State
from ...core.tasks.spec import NewTask
from ...core.times import to_micros

_NOTHING_YET = (
    *("first_tried_at", "started_at", "finished_at", "progress", "lease_id", "held_by"),
    *("last_status", "last_reason", "last_error", "forced_at", "forwarded_for"),
)
_COUNTED = ("attempts", "executions", "answered", "crashes", "pardons")
BEGINNING: dict[str, Any] = {
    "state": State.SCHEDULED.value,
    **dict.fromkeys(_COUNTED, 0),
    **dict.fromkeys(_NOTHING_YET),
}
"""The columns that have the same value in every new task."""


def task_row(new: NewTask, encryption: Encryption) -> dict[str, Any]:
    """Return the columns in which a new task differs from others, encrypted.

    The columns that the clock fills are not included: see `clock_row`.
    """
    return {
        "id": new.id,
        "name": new.name,
        "queue": new.queue,
        "priority": new.priority,
        "method": new.request.method,
        "url": new.request.url,
        "target": new.target,
        "headers": encryption.encrypt_text(new.headers),
        "body": encryption.encrypt(new.request.body),
        "deadline": new.deadline,
        "retry": new.retry,
        "unique_key": new.unique_key,
        "given_key": new.unique_key,
        "lock_key": new.lock_key,
        "lock_limit": new.lock_limit,
        "follow_up": encryption.encrypt_text(new.follow_up),
        "batch_id": new.batch_id,
        "callback_of": new.callback_of,
        "schedule": new.schedule,
        "keep_result": int(new.keep_result),
        "for_worker": int(new.for_worker),
        "surface": new.surface,
        "tag": new.tag,
    }


def clock_columns(now: sa.ColumnElement[int]) -> dict[str, sa.ColumnElement[Any]]:
    """Return when a task is due and when it expires, by the values that `clock_row` binds."""
    delay, lifetime = (sa.bindparam(name, type_=sa.BigInteger) for name in ("delay", "lifetime"))
    at, until = (sa.bindparam(name, type_=sa.BigInteger) for name in ("at", "until"))
    due = sa.func.coalesce(at, now + delay)
    return {
        "eta": due,
        "due_at": due,
        "expires_at": sa.func.coalesce(until, now + lifetime),
    }


def clock_row(new: NewTask) -> dict[str, Any]:
    """Return the values that a statement binds for the columns that the clock fills."""
    return {
        "delay": new.delay,
        "lifetime": new.expires_in,
        "at": None if new.eta is None else to_micros(new.eta),
        "until": None if new.expires_at is None else to_micros(new.expires_at),
    }
