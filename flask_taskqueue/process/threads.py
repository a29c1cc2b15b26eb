"""The extension's own threads: how they start, and what they leave to others."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - its own end is registered by this, so that ours comes before it
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Generic, TypeVar, overload

Owner = TypeVar("Owner")
Value = TypeVar("Value")

_building = threading.RLock()


class NoThreadError(RuntimeError):
    """No thread can be started now.

    A limit on processes or on memory has been reached, which may pass, or the interpreter is
    ending.
    """


def start_thread(target: Callable[..., object], *args: Any, name: str) -> threading.Thread:
    """Start a daemon thread in an empty context.

    Tracers pass the context of whoever starts a thread on to it. Our threads belong to no request,
    least of all to the one that happened to come first. Raises `NoThreadError`.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    in_empty_context(thread.start)
    return thread


def in_empty_context(start: Callable[[], object]) -> None:
    """Call a function that starts threads in an empty context, as if nothing had come before.

    Raises `NoThreadError` if it can start none.
    """
    try:
        Context().run(start)
    except RuntimeError as error:
        raise NoThreadError(str(error)) from error


def at_exit(function: Callable[..., object], *args: Any) -> None:
    """Have a function called when the interpreter begins to end, while threads can still start.

    Executors still take work then, so that handlers that run on can end properly; exit handlers
    come too late for them. Python 3.12.0 and 3.12.1 start no thread even then. Processes of
    multiprocessing, which have no exit handlers, call the function too.
    """
    getattr(threading, "_register_atexit", atexit.register)(function, *args)


@contextmanager
def signals_blocked_in_uwsgi() -> Iterator[None]:
    """Keep signals from threads that start within this block, if the server is uWSGI.

    Threads that those start receive none either, like uWSGI's own threads. uWSGI's signal handlers
    run in whatever thread a signal reaches and end the interpreter there, which waits for ever in
    any thread but the first. Elsewhere nothing changes, because Python's handlers run in the main
    thread and programs that a handler of ours starts inherit what is blocked.
    """
    if "uwsgi" not in sys.modules:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class built_once(Generic[Owner, Value]):
    """A property that is built at its first use, by one thread while the others wait for it.

    Like `functools.cached_property`, which from Python 3.12 has no lock, so that several threads
    may build several values. Deleting the attribute has it built anew.
    """

    def __init__(self, build: Callable[[Owner], Value]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> built_once[Owner, Value]: ...

    @overload
    def __get__(self, instance: Owner, owner: type) -> Value: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        with _building:
            if self._name not in instance.__dict__:
                instance.__dict__[self._name] = self._build(instance)
            return instance.__dict__[self._name]


def _after_fork() -> None:
    global _building
    _building = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
