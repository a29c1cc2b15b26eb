"""Waiting for what must happen."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], *, what: str, timeout: float = 60) -> None:
    """Return as soon as ``condition()`` is true; fail, saying ``what``, when it is not within
    ``timeout`` seconds.
    """
    limit = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > limit:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.01)
