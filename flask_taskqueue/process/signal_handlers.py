"""The extension's own signal handlers, and the ones they replaced, for a forked child."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], object]

_before: dict[tuple[int, Handler], Any] = {}
_held = threading.local()


def take(number: int, handler: Handler) -> None:
    """Have ``handler`` called at a signal, in this process only. Call this in the main thread.

    A forked child gets the previous handler back: it has nothing of what ours would end, and
    whoever forked it (multiprocessing, say) expects ``terminate()`` to end it.
    """
    before = signal.getsignal(number)
    signal.signal(number, handler)
    _before[number, handler] = before


def not_ignored(*numbers: signal.Signals) -> list[signal.Signals]:
    """Return those of these signals that this process was not started to ignore.

    ``nohup`` has it ignore SIGHUP, and a script SIGINT for what it runs in the background.
    """
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def is_of_signal(error: BaseException) -> bool:
    """Return whether a signal handler of this process raised an exception.

    Servers end a worker in this way: gunicorn's handlers call ``sys.exit``. Python's own handler of
    Ctrl-C leaves no frame, so in the main thread each KeyboardInterrupt counts as its, as long as
    it is in place.
    """
    if isinstance(error, KeyboardInterrupt) and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    ):
        return True
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame, _ in walk_tb(error.__traceback__))


def _code_of(handler: Any) -> CodeType | None:
    if not callable(handler):
        return None
    function = getattr(handler, "__func__", handler)
    return getattr(function, "__code__", getattr(type(handler).__call__, "__code__", None))


def _hold() -> None:
    """Block the signals before a fork until the child has its handlers back.

    A signal between the two would be lost.
    """
    if _before:
        _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {number for number, _ in _before})


def _release() -> None:
    mask, _held.mask = getattr(_held, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _give_back() -> None:
    for number in {number for number, _ in _before}:
        found = current = signal.getsignal(number)
        while callable(current) and (number, current) in _before:
            current = _before[number, current]
        if current is not found and current is not None:
            signal.signal(number, current)
    _before.clear()
    _release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_give_back)
