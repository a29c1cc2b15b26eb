"""Waiting until nothing more of a paused queue begins, as every dispatcher confirms."""

from __future__ import annotations

import time

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..process.logs import get_logger
from ..runtime import Runtime

_logger = get_logger()

ANSWER_TIMEOUT = 5.0
"""The number of seconds that dispatchers have to answer."""
_CALL_AGAIN = 1.0
_SHORTEST_NAP, _LONGEST_NAP = 0.002, 0.05


def await_pause(runtime: Runtime, queue: str) -> None:
    """Wait until nothing more begins of a queue whose pause is committed.

    By then every dispatcher has given back what it had leased ahead. If one has not answered within
    five seconds, a warning says which. Never raises, because the queue is already paused.
    """
    if runtime.store.database.in_memory:  # one task at a time, in one thread: none is leased ahead
        return
    if runtime.store.database.write_lock.is_mine:
        _logger.info(
            "queue %s is paused; as this transactional handler has the only write lock, what "
            "was leased may still begin",
            queue,
        )
        return
    try:
        silent = _ask(runtime, queue)
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        _logger.warning(
            "queue %s is paused; dispatchers could not be asked whether they still begin "
            "some of its tasks: %s",
            queue,
            error,
        )
        return
    if silent:
        _logger.warning(
            "queue %s is paused, but these dispatchers have not answered within %g seconds "
            "and may still begin what they had leased: %s",
            queue,
            ANSWER_TIMEOUT,
            ", ".join(silent),
        )


def _ask(runtime: Runtime, queue: str) -> list[str]:
    """Ask all dispatchers, wait for their answers, and return where the silent ones run."""
    store = runtime.store
    asked = store.transact(store.dispatchers.ask)
    limit = time.monotonic() + ANSWER_TIMEOUT
    called_at, nap = 0.0, _SHORTEST_NAP
    while asked:
        if time.monotonic() - called_at > _CALL_AGAIN:  # a notification may be lost
            called_at = time.monotonic()
            runtime.notify_dispatchers()
        silent = store.read(lambda reader: store.dispatchers.silent(reader, asked, queue))
        if not silent or time.monotonic() > limit:
            return silent
        time.sleep(nap)
        nap = min(1.5 * nap, _LONGEST_NAP)
    return []
