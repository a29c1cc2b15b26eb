"""Bulk changes, carried on beside the drain."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..store import LockedError, Store, Wait

logger = logging.getLogger("flask_taskqueue")

_ROUNDS = 20


def carry_on(store: Store, tell: Callable[[str, int], object] = lambda *_: None) -> bool:
    """Do some of what is unfinished, in small transactions; whether there was anything. The rest is for the next call.

    ``tell`` is called with the action and the number of tasks of each bulk change that has come to its end.
    """
    try:
        with store.reading() as connection:
            unfinished = store.bulks.unfinished(connection)
        for bulk in unfinished:
            _go_on(store, bulk, tell)
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        logger.warning("a bulk change could not go on: %s", error)
        return False
    return bool(unfinished)


def _go_on(store: Store, bulk: str, tell: Callable[[str, int], object]) -> None:
    """Do some of one change; while an application's transaction has locked a task that it is to change, it waits and others go on."""
    try:
        for _ in range(_ROUNDS):
            step = store.transact(partial(store.bulks.go_on, bulk_id=bulk), wait=Wait.BRIEFLY)
            if step is None or step.is_last:
                break
    except LockedError as error:
        logger.info("a bulk change waits: %s", error)
        return
    if step is not None and step.is_last:
        tell(step.action, step.changed)
