"""Queues that are added, changed and deleted while the app runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import sqlalchemy as sa

from ..core import signals
from ..core.errors import QueueAlreadyExistsError
from ..core.names import check_queue_name
from ..core.settings.queue import QueueSettings, check_queue_options
from ..runtime import Runtime
from ..store import CHANGED_AT_ONCE, configured_error
from .changes import make_change, refuse_many

_DEFAULTS = {option.name: option.default for option in fields(QueueSettings)}


def add_queue(
    runtime: Runtime,
    name: str,
    given: Mapping[str, Any],
    transactional: bool | None,
    *,
    origin: str,
) -> None:
    """Store a queue; see `TaskQueue.add_queue`. ``origin`` says what added it."""
    check_queue_name(name)
    settings = QueueSettings(name=name, **_checked(runtime, name, given))
    if name in runtime.settings.queues:
        raise QueueAlreadyExistsError(
            f"there is a queue {name!r} already, which is configured: choose another name"
        )
    added = runtime.store.added_queues

    def work(connection: sa.Connection) -> bool:
        added.add(connection, settings, origin)
        return True

    make_change(
        runtime,
        work,
        transactional,
        wakes=False,
        tell=lambda _: signals.queue_added.send(runtime.app, queue=name),
        name=lambda _: [f"to add queue {name}"],
        done=lambda connection: True if added.find(connection, name) == settings else None,
    )


def change_queue(
    runtime: Runtime, name: str, given: Mapping[str, Any], transactional: bool | None
) -> None:
    """Change settings of an added queue; see `TaskQueue.change_queue`."""
    check_queue_name(name)
    checked = _checked(runtime, name, given)
    changes = {option: checked.get(option, _DEFAULTS[option]) for option in given}
    if name in runtime.settings.queues:
        raise configured_error(name)
    store = runtime.store

    def work(connection: sa.Connection) -> bool:
        store.added_queues.change(connection, name, changes)
        if "rate_per_key" in changes:
            store.locks.rates.restart(connection, name)
        return True

    make_change(
        runtime,
        work,
        transactional,
        tell=lambda _: signals.queue_changed.send(runtime.app, queue=name),
        name=lambda _: [f"to change queue {name}"],
    )


def delete_queue(
    runtime: Runtime,
    name: str,
    transactional: bool | None,
    on_progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Delete an added queue, and return how many tasks were cancelled.

    See `TaskQueue.delete_queue`. ``on_progress`` is called with the number of tasks that each
    transaction cancelled.
    """
    check_queue_name(name)
    if name in runtime.settings.queues:
        raise configured_error(name)
    refuse_many(runtime, transactional, f"to delete queue {name}")
    store = runtime.store

    def mark(connection: sa.Connection) -> int:
        store.added_queues.delete(connection, name)
        return 0

    make_change(runtime, mark, False, wakes=False)
    total, cancelled = 0, CHANGED_AT_ONCE
    while cancelled == CHANGED_AT_ONCE:
        step = partial(store.cancel_of_deleted, queue=name)
        cancelled, _ = make_change(runtime, step, False, wakes=False)
        total += cancelled
        on_progress(cancelled)
    signals.queue_deleted.send(runtime.app, queue=name, cancelled=total)
    return total


def _checked(runtime: Runtime, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not None, checked; a target must be allowed."""
    checked = check_queue_options(name, given)
    if "target" in checked:
        runtime.targets.check(checked["target"] + "/")
    return checked
