"""Bulk changes, carried on beside the drain."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..store import Store

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
            for _ in range(_ROUNDS):
                step = store.transact(partial(store.bulks.go_on, bulk_id=bulk))
                if step is None:
                    break
                if step.is_last:
                    tell(step.action, step.changed)
                    break
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        logger.warning("a bulk change could not go on: %s", error)
        return False
    return bool(unfinished)
