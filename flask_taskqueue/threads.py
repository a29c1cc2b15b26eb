"""Threads of the extension's own: what they leave to others."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def leaving_signals() -> Iterator[None]:
    """Threads started within this, and those that they start, take no signals under uWSGI, as its own threads take none.

    Its signal handlers run in whatever thread a signal reaches and end the interpreter there,
    which waits for ever in another than the first. Elsewhere nothing changes: Python's handlers
    run in the main thread, and programs that a handler of ours starts inherit what is blocked.
    """
    if "uwsgi" not in sys.modules:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
