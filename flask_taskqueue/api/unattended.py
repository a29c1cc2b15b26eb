"""Unattended: what is added where no dispatcher is alive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..runtime import Runtime

logger = logging.getLogger("flask_taskqueue")


def warn_if_unattended(runtime: Runtime, name: Callable[[], Sequence[str]]) -> None:
    """Warn of what was changed, by the name it has, if no dispatcher runs here and by the database none is alive anywhere.

    The database is asked once per process, outside of the transaction that was committed; not under
    test, nor for a database that no other process can see.
    """
    if runtime.is_attended or runtime.scheduler is not None or runtime.app.testing or runtime.store.database.in_memory:
        return
    runtime.is_attended = True
    try:
        with runtime.store.reading() as connection:
            alive = any(one.is_alive for one in runtime.store.dispatchers.list(connection))
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        logger.debug("it is not known whether a dispatcher is alive: %s", error)
        return
    if not alive:
        logger.warning(
            "no dispatcher is alive, so what was stored waits until one is (%s): run flask taskqueue run, or a server of the application, "
            "which starts one with its first request unless TASKQUEUE_DISPATCHER is off",
            ", ".join(name()[:3]) or "a change",
        )
