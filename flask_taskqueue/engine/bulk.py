"""Bulk changes, carried on beside the drain."""

from __future__ import annotations

import logging
from functools import partial

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..store import Store

logger = logging.getLogger("flask_taskqueue")

_ROUNDS = 20


def carry_on(store: Store) -> bool:
    """Do some of what is unfinished, in small transactions; whether there was anything. The rest is for the next call."""
    try:
        with store.reading() as connection:
            unfinished = store.bulks.unfinished(connection)
        for bulk in unfinished:
            for _ in range(_ROUNDS):
                if not store.transact(partial(store.bulks.go_on, bulk_id=bulk)):
                    break
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        logger.warning("a bulk change could not go on: %s", error)
        return False
    return bool(unfinished)
