"""Interrupts: a handler's deadline, raised in its thread where it does no harm.

It is never raised in the middle of what must not be left half done.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from types import CodeType, TracebackType
from typing import Any, TypeVar

from ..core.delivery.delivery import Delivery
from ..core.delivery.verdict import Reply
from ..core.errors import DeadlineExceeded
from .interruptible import find
from .strikes import AnyStrike

T = TypeVar("T")

_thread = threading.local()


def within_deadline(delivery: Delivery, call: Callable[[], Reply]) -> Reply:
    """Run ``call`` in this thread so that `interrupt` can end it.

    A deadline that struck becomes the reply of a timeout.
    """
    try:
        try:
            delivery.thread_id = threading.get_ident()
            _thread.delivery = delivery
            return call()
        finally:
            _end(delivery)
    except DeadlineExceeded:
        _end(delivery)
        return timed_out(delivery)


def interrupt(delivery: Delivery) -> bool:
    """Have `DeadlineExceeded` raised in the delivery's thread; return whether it was this time.

    It is raised once, and not if the delivery is over. It is raised where no lock is lost and
    nothing is left half done that must be whole (see `interruptible`), or when the thread leaves
    what is `shielded`. Until then the caller must soon try again, so that the attempt follows the
    thread; a call blocked outside Python goes on. A coroutine is cancelled where it awaits.
    """
    with delivery.guard:
        if delivery.over or delivery.thread_id is None:
            return False
        if delivery.interrupted:
            if delivery.strike is not None:
                delivery.strike.aim()
            return False
        if delivery.shields:
            delivery.interrupted = delivery.postponed = delivery.cancel is None or delivery.cancel()
        else:
            delivery.interrupted = _strike(delivery, delivery.thread_id, within_deadline.__code__)
        return delivery.interrupted


def run_async(
    ensure_sync: Callable[[Callable[..., Any]], Callable[..., Any]], awaitable: Awaitable[Any]
) -> Any:
    """Return the result of ``awaitable``, which ``ensure_sync`` runs in an event loop.

    This thread waits meanwhile, usually for another thread. A deadline ends the awaitable there,
    and is raised here when its loop has ended together with what that waits for: its tasks and
    executor.
    """
    with shielded() as shield:
        return ensure_sync(shield.awaits)(awaitable)


def timed_out(delivery: Delivery) -> Reply:
    """Return the reply of a delivery that reached its deadline."""
    seconds = delivery.expires - delivery.started
    return Reply(
        status=None,
        headers={},
        body=b"",
        kind="timeout",
        error=f"no reply within the deadline of {seconds:g} s",
    )


class shielded:  # used as a statement, like contextlib's
    """A block in which no deadline strikes in this thread.

    So locks are taken and released, and transactions ended, as a whole. What is within must end by
    itself. A deadline that comes meanwhile is raised on leaving; one that was raised before, and
    has not surfaced, on entering. As each delivery is interrupted once, what follows is
    undisturbed.
    """

    def __init__(self) -> None:
        self._delivery: Delivery | None = getattr(_thread, "delivery", None)

    def __enter__(self) -> shielded:
        if self._delivery is not None:
            _shield(self._delivery)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._delivery is not None:
            _lift(self._delivery)

    def lifted(self, call: Callable[[], T]) -> T:
        """Run ``call`` so that a deadline may strike in it."""
        delivery = self._delivery
        if delivery is None:
            return call()
        try:
            _lift(delivery)
            return call()
        finally:
            _shield(delivery)

    async def awaits(self, awaitable: Awaitable[Any]) -> Any:
        """Await something, in any thread, so that a deadline ends it."""
        delivery = self._delivery
        if delivery is None:
            return await awaitable
        task, loop, thread_id = (
            asyncio.current_task(),
            asyncio.get_running_loop(),
            threading.get_ident(),
        )
        assert task is not None

        def cancel() -> bool:
            if find(sys._current_frames().get(thread_id), shielded.awaits.__code__) is not None:
                return _strike(delivery, thread_id, shielded.awaits.__code__)
            loop.call_soon_threadsafe(task.cancel)
            return True

        try:
            with delivery.guard:
                delivery.cancel = cancel
                if delivery.postponed:
                    task.cancel()
            return await awaitable
        finally:
            with delivery.guard:
                delivery.cancel = None
                _withdraw(delivery)


def _strike(delivery: Delivery, thread_id: int, outermost: CodeType) -> bool:
    """Have `DeadlineExceeded` raised in a thread, within a call of ``outermost``.

    An event loop that waits there is woken, so that it can be struck. Returns whether the strike is
    on its way.
    """
    strike = AnyStrike(thread_id, outermost)
    if not strike.aim():
        return False
    delivery.strike = strike
    loop = find(sys._current_frames().get(thread_id), asyncio.BaseEventLoop.run_forever.__code__)
    if loop is not None:
        loop.f_locals["self"].call_soon_threadsafe(_nothing)
    return True


def _nothing() -> None:
    """Do nothing: an event loop is woken by calling this."""


def _withdraw(delivery: Delivery) -> None:
    if delivery.strike is not None:
        delivery.strike.withdraw()
        delivery.strike = None


def _shield(delivery: Delivery) -> None:
    with delivery.guard:
        delivery.shields += 1
        strike = delivery.strike
    if strike is not None:
        strike.land()


def _lift(delivery: Delivery) -> None:
    with delivery.guard:
        delivery.shields -= 1
        strikes = delivery.postponed and not delivery.shields
        if strikes:
            delivery.postponed = False
    if strikes:
        raise DeadlineExceeded


def _end(delivery: Delivery) -> None:
    """End a delivery: no deadline strikes any more, not even one that has not been raised yet."""
    _thread.delivery = None
    with delivery.guard:
        delivery.over = True
        _withdraw(delivery)
