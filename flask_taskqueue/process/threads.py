"""The extension's own threads: how they start, and what they leave to others."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - its own end is registered by this, so that ours comes before it
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any


def start_thread(target: Callable[..., object], *args: Any, name: str) -> threading.Thread:
    """Start a daemon thread in an empty context.

    Tracers hand the context of whoever starts a thread on to it. Ours belong to no request, least
    of all to the one that happened to come first.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    in_empty_context(thread.start)
    return thread


def in_empty_context(start: Callable[[], object]) -> None:
    """Call a function that starts threads as if nothing had come before."""
    Context().run(start)


def at_exit(function: Callable[..., object], *args: Any) -> None:
    """Have a function called when the interpreter begins to end, while threads can still start.

    Executors take work then too, so that handlers that run on can end properly; exit handlers come
    too late for them. Python 3.12.0 and 3.12.1 start no thread even then. Processes of
    multiprocessing, which have no exit handlers, call it too.
    """
    getattr(threading, "_register_atexit", atexit.register)(function, *args)


@contextmanager
def signals_blocked_in_uwsgi() -> Iterator[None]:
    """Keep signals from threads that start within this block, if the server is uWSGI.

    The threads that those start take none either, like uWSGI's own threads. Its signal handlers run
    in whatever thread a signal reaches and end the interpreter there, which waits for ever in any
    thread but the first. Elsewhere nothing changes: Python's handlers run in the main thread, and
    programs that a handler of ours starts inherit what is blocked.
    """
    if "uwsgi" not in sys.modules:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
