"""Interrupts: a handler's deadline, raised in its thread, and never in the middle of what must
not be left half done.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

from ..core.delivery.delivery import Delivery
from ..core.delivery.reply import Reply
from ..core.errors import DeadlineExceeded
from .interruptible import may_be_interrupted

T = TypeVar("T")

_thread = threading.local()


def within_deadline(delivery: Delivery, call: Callable[[], Reply]) -> Reply:
    """Run ``call`` in this thread so that `interrupt` can end it; a deadline that struck is a
    timeout.
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
    """Raise `DeadlineExceeded` in the delivery's thread, unless the delivery is over; once, and
    whether it was this time.

    Not while the thread takes or lets go of a lock, or is within what must be left whole (see
    `interruptible`): then it is to be tried again soon. It takes effect at the thread's next step
    of Python, or when it leaves what is `shielded`; a call blocked outside Python goes on. A
    coroutine is cancelled where it awaits.
    """
    time.sleep(
        0
        # who has just been given the interpreter keeps it for a while, in which the other thread
        # stays
        # where it is
    )
    began = time.perf_counter()
    with delivery.guard:
        if delivery.over or delivery.interrupted or delivery.thread_id is None:
            return False
        if delivery.shields:
            delivery.interrupted = delivery.postponed = delivery.cancel is None or delivery.cancel(
                began
            )
        else:
            delivery.interrupted = _strike(delivery.thread_id, within_deadline.__code__, began)
        return delivery.interrupted


def run_async(
    ensure_sync: Callable[[Callable[..., Any]], Callable[..., Any]], awaitable: Awaitable[Any]
) -> Any:
    """What comes of ``awaitable``, which ``ensure_sync`` runs in an event loop; this thread waits,
    usually for another.

    A deadline ends it there, and is raised here when its loop has ended, with what that waits for:
    its tasks and executor.
    """
    with shielded() as shield:
        return ensure_sync(shield.awaits)(awaitable)


def timed_out(delivery: Delivery) -> Reply:
    """The reply of a delivery that reached its deadline."""
    seconds = delivery.expires - delivery.started
    return Reply(
        status=None,
        headers={},
        body=b"",
        kind="timeout",
        error=f"no reply within the deadline of {seconds:g} s",
    )


class shielded:  # used as a statement, like contextlib's
    """Within this no deadline strikes in this thread: locks are taken and let go, and transactions
    ended, whole.

    What is within must end by itself. A deadline that comes meanwhile is raised on leaving; one
    that was raised before, and has not surfaced, on entering. As each delivery is interrupted once,
    what follows is undisturbed.
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
        """Await something, in whatever thread, so that a deadline ends it."""
        delivery = self._delivery
        if delivery is None:
            return await awaitable
        task, loop, thread_id = (
            asyncio.current_task(),
            asyncio.get_running_loop(),
            threading.get_ident(),
        )
        assert task is not None

        def cancel(began: float) -> bool:
            if _find(sys._current_frames().get(thread_id), shielded.awaits.__code__) is not None:
                return _strike(thread_id, shielded.awaits.__code__, began)
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
                if delivery.postponed:
                    _raise_in(thread_id, None)


def _strike(thread_id: int, outermost: CodeType, began: float) -> bool:
    """Raise `DeadlineExceeded` in a thread if that may be where it is; ``began`` tells how long
    the interpreter has been ours.
    """
    frame = sys._current_frames().get(thread_id)
    if frame is None or not may_be_interrupted(frame, outermost):
        return False
    if time.perf_counter() - began > sys.getswitchinterval() / 2:
        return False
    _raise_in(thread_id, ctypes.py_object(DeadlineExceeded))
    loop = _find(frame, asyncio.BaseEventLoop.run_forever.__code__)
    if loop is not None:
        loop.f_locals["self"].call_soon_threadsafe(_surface)
    return True


def _find(frame: FrameType | None, code: CodeType) -> FrameType | None:
    """The innermost call of a function that a thread is in."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame


def _shield(delivery: Delivery) -> None:
    with delivery.guard:
        delivery.shields += 1
    _surface()


def _surface() -> None:
    """Where an interrupt that was raised before surfaces at the latest: an interpreter looks
    for one when it enters a function.
    """


def _lift(delivery: Delivery) -> None:
    with delivery.guard:
        delivery.shields -= 1
        strikes = delivery.postponed and not delivery.shields
        if strikes:
            delivery.postponed = False
    if strikes:
        raise DeadlineExceeded


def _end(delivery: Delivery) -> None:
    """After this no deadline strikes any more, not even one that was raised and has not
    surfaced yet.
    """
    _thread.delivery = None
    with delivery.guard:
        delivery.over = True
        if delivery.interrupted and delivery.thread_id is not None:
            _raise_in(delivery.thread_id, None)


def _raise_in(thread_id: int, exception: object) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), exception)
