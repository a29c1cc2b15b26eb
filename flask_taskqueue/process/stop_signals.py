"""Signals that end the process, held until work that must not be cut off is finished."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from .signal_handlers import take
from .threads import start_thread

Finish = Callable[[Callable[[], bool]], object]

_CALL: signal.Signals | None = getattr(signal, "SIGURG", None)
"""The signal by which other threads call the main thread.

Only the main thread may change handlers. A process that does not handle this signal ignores it.
"""
_STOPPING = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGABRT")
    if hasattr(signal, name)
]
_OFTEN_REUSED = [getattr(signal, "SIGHUP", None)]
_LOOK_AGAIN = 1.0
_PATIENCE = 1.0
_FOREIGN = ("uwsgi", "mod_wsgi")
"""Servers that handle signals outside Python, and end the interpreter with its exit handlers."""


def prepare() -> None:
    """Make `guard` possible from any thread.

    This works in the main thread only, and changes nothing by itself.
    """
    if (
        _CALL is None
        or threading.current_thread() is not threading.main_thread()
        or any(name in sys.modules for name in _FOREIGN)
    ):
        return
    before = signal.getsignal(_CALL)
    if before is not None and not isinstance(before, _Called):
        signal.signal(_CALL, _Called(before))


def guard(finish: Finish) -> None:
    """Hold each signal that ends this process until ``finish(is_hurried)`` has returned.

    ``finish`` runs in a thread of its own. Afterwards the signal does what it would have done: the
    handler that was there is called in the main thread, whoever installed it and whenever, or the
    process dies of the signal. While ``is_hurried()`` is true there is nothing to wait for: a
    second Ctrl-C has come, or an abort from outside.

    Two signals are not held: Ctrl-C in an interactive interpreter, which goes on after it, and a
    hangup for which there is a handler, which usually means something else. A forked child is not
    guarded, and neither is anything where `prepare` never ran in the main thread.

    Raises `NoThreadError`; nothing is guarded then.
    """
    global _guard
    prepare()
    if _can_call() and (_guard is None or _guard.is_over):
        begun = _Guard(finish)
        start_thread(begun.watch, name="taskqueue-stop")
        _guard = begun  # not before: without its thread it would hold signals for ever
        begun.take_all()


def is_stopping() -> bool:
    """Return whether a signal that ends this process has come, or its ``finish`` still runs."""
    return _guard is not None and _guard.is_stopping


class _Guard:
    def __init__(self, finish: Finish) -> None:
        self._finish = finish
        self._arrived: SimpleQueue[int] = SimpleQueue()
        self._held: list[tuple[int, _Hold]] = []
        self._done = 0
        self._hurried = self._looked = False
        self.finished = False

    @property
    def is_stopping(self) -> bool:
        return bool(self._held) and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether the guard has done its work and the process may go on nevertheless."""
        return self.finished and all(handler.may_be_survived for _, handler in self._held)

    def hold(self, number: int, handler: _Hold) -> None:
        """Note a signal. This runs in a signal handler, so it must not wait for a lock."""
        again = number == signal.SIGINT and any(number == one for one, _ in self._held)
        self._hurried |= again or number == signal.SIGABRT
        self._held.append((number, handler))
        self._arrived.put(number)

    def watch(self) -> None:
        """Wait for the first signal; check now and then that our handlers are still in place."""
        while not self._held:
            try:
                self._arrived.get(timeout=_LOOK_AGAIN)
            except Empty:
                self.take_all()
        try:
            self._finish(lambda: self._hurried)
        finally:
            self.finished = True
            _signal(_CALL if _CALL is not None and _can_call() else self._held[0][0])

    def take_all(self) -> None:
        """Have the main thread install our handlers where they are missing; wait a moment."""
        if not any(map(_is_to_be_taken, _STOPPING)) or _CALL is None or not _can_call():
            return
        self._looked = False
        os.kill(os.getpid(), _CALL)
        limit = time.monotonic() + _PATIENCE
        while not self._looked and time.monotonic() < limit:
            time.sleep(0.005)

    def called(self, frame: FrameType | None) -> None:
        """Install our handlers, or do what was held back. This runs in the main thread."""
        for number in filter(_is_to_be_taken, [] if self.finished else _STOPPING):
            take(number, _Hold(number, signal.getsignal(number)))
        self._looked = True
        self.deliver(frame)

    def deliver(self, frame: FrameType | None) -> None:
        """Do what was held back, in order. This runs in the main thread."""
        while self.finished and self._done < len(self._held):
            number, handler = self._held[self._done]
            self._done += 1
            handler.act(number, frame)


class _Hold:
    """The handler that is installed in place of a signal's own."""

    def __init__(self, number: int, before: Any) -> None:
        self._before = before
        self.may_be_survived = number == signal.SIGINT and before is signal.default_int_handler
        """Whether all that the signal does is to raise KeyboardInterrupt."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        here = _guard
        if (
            here is not None
            and not here.finished
            and not (self.may_be_survived and hasattr(sys, "ps1"))
        ):
            here.hold(number, self)
            return
        if here is not None:
            here.deliver(frame)
        self.act(number, frame)

    def act(self, number: int, frame: FrameType | None) -> None:
        """Do what the signal would have done without us."""
        if callable(self._before):
            self._before(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        sys.exit(128 + number)  # the first process of a container survives the signal


class _Called:
    """The handler of the call to the main thread; whoever had one before is called too."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if callable(self._before):
            self._before(number, frame)
        if _guard is not None:
            _guard.called(frame)


def _signal(number: int) -> None:
    """Send this process a signal, so that its handler may raise where the program notices.

    If gevent has replaced threads, this is a greenlet of the main thread, and a handler would run
    and raise right here. gevent's hub passes on to the main greenlet what is raised there.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        sys.modules["gevent"].get_hub().loop.run_callback(os.kill, os.getpid(), number)
        return
    os.kill(os.getpid(), number)


def _can_call() -> bool:
    return _CALL is not None and isinstance(signal.getsignal(_CALL), _Called)


def _is_to_be_taken(number: signal.Signals) -> bool:
    """Return whether a signal has a handler that ends the process and is not ours."""
    current = signal.getsignal(number)
    if current is signal.SIG_DFL:  # abort() ends a program anyway, and faulthandler reports it
        return number is not signal.SIGABRT
    return callable(current) and not isinstance(current, _Hold) and number not in _OFTEN_REUSED


def _forget() -> None:
    global _guard
    _guard = None


_guard: _Guard | None = None

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
