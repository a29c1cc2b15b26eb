"""Strikes that were raised in vain, in code whose exceptions the interpreter swallows.

That is code which it runs between two instructions of a handler: callbacks of the garbage collector
and of weak references, and ``__del__``. It tells of each such exception by `sys.unraisablehook`, in
the thread that raised it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from ...core.errors import DeadlineExceeded

_Hook = Callable[[Any], object]

_again: dict[int, Callable[[], None]] = {}
"""The function by which each thread that is struck is struck again."""
_ours: list[_Hook] = []
"""The hook that was put in last."""


def expect(thread_id: int, again: Callable[[], None]) -> None:
    """Have ``again`` called in a thread whenever its `DeadlineExceeded` was swallowed."""
    _again[thread_id] = again
    if sys.unraisablehook not in _ours:
        _ours[:] = [_hook(sys.unraisablehook)]
        sys.unraisablehook = _ours[0]


def forget(thread_id: int) -> None:
    """Undo `expect`."""
    _again.pop(thread_id, None)


def _hook(others: _Hook) -> _Hook:
    """Return a hook that leaves all other exceptions to that of ``others``.

    It is a new one each time, because others may have put theirs before an earlier one.
    """

    def hook(unraisable: Any) -> None:
        again = _again.get(threading.get_ident())
        if again is None or not issubclass(unraisable.exc_type, DeadlineExceeded):
            others(unraisable)
        else:
            again()

    return hook
