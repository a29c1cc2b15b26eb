"""The deadline of a handler that runs in one of our threads."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

from ..core.delivery import Delivery
from ..core.errors import DeadlineExceeded
from ..core.reply import Reply


def within_deadline(delivery: Delivery, call: Callable[[], Reply]) -> Reply:
    """Run ``call`` in this thread so that `interrupt` can end it; a deadline that struck is a timeout."""
    try:
        try:
            delivery.thread_id = threading.get_ident()
            return call()
        finally:
            _end(delivery)
    except DeadlineExceeded:
        _end(delivery)
        return timed_out(delivery)


def interrupt(delivery: Delivery) -> bool:
    """Raise `DeadlineExceeded` in the delivery's thread, unless the delivery is over; whether it was raised.

    It takes effect at the thread's next step of Python; a call blocked outside Python goes on.
    """
    with delivery.guard:
        if delivery.over or delivery.thread_id is None:
            return False
        delivery.interrupted = True
        _raise_in(delivery.thread_id, ctypes.py_object(DeadlineExceeded))
        return True


def timed_out(delivery: Delivery) -> Reply:
    """The reply of a delivery that reached its deadline."""
    seconds = delivery.expires - delivery.started
    return Reply(status=None, headers={}, body=b"", kind="timeout", error=f"no reply within the deadline of {seconds:g} s")


def _end(delivery: Delivery) -> None:
    """After this no deadline strikes any more, not even one that was raised and has not surfaced yet."""
    with delivery.guard:
        delivery.over = True
        if delivery.interrupted and delivery.thread_id is not None:
            _raise_in(delivery.thread_id, None)


def _raise_in(thread_id: int, exception: object) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), exception)
