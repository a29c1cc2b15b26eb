"""Strikes since Python 3.12: the thread raises the exception where it judges it harmless.

The thread itself judges each place that it comes to. The interpreter calls back (`sys.monitoring`)
from the functions that the thread is in, and from no others, until it is struck. Since 3.13 an
exception sent from outside would be raised one or more places later: the interpreter reads what is
to be done before it lets other threads run (``_Py_HandlePending``), and what they ask for waits
until its next look.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)

from ...core.errors import DeadlineExceeded
from ..interruptible import find, may_be_interrupted, stack
from .places import Places

assert sys.version_info >= (3, 12)

_lock = threading.Lock()
"""The lock held while functions become watched, or no longer are.

It is never taken in a callback, which may come at any time.
"""
_due: dict[int, Watched] = {}
"""The strikes to be raised, by thread; whoever takes one out raises it."""
_watched: Counter[int] = Counter()
"""The number of strikes for which a function is watched, by the identity of its code.

Equal codes are different functions.
"""


class Watched:
    """A strike within a call of the ``outermost`` function."""

    def __init__(self, thread_id: int, outermost: CodeType) -> None:
        self._thread_id = thread_id
        self._outermost = outermost
        self._codes: dict[int, CodeType] = {}
        self._places: dict[int, Places] = {}
        self._behind: tuple[int, int | None] | None = None

    @property
    def pending(self) -> bool:
        return _due.get(self._thread_id) is self

    def aim(self) -> bool:
        if self._codes and not self.pending:
            return False
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or find(frame, self._outermost) is None:
            return False
        with _lock:
            tool = _tool()
            if tool is None:
                return False
            if not self._codes:
                _due[self._thread_id] = self
            self._behind = (
                id(frame.f_code),
                self._places_of(frame.f_code).behind_calls.get(frame.f_lasti),
            )
            for outer in stack(frame, self._outermost):
                self._watch(outer.f_code, tool)
        return True

    def land(self) -> None:
        if self._thread_id == threading.get_ident():
            self._raise()

    def withdraw(self) -> None:
        with _lock:
            if self.pending:
                del _due[self._thread_id]
            tool = _tool()
            while self._codes:
                identity, code = self._codes.popitem()
                _watched[identity] -= 1
                if not _watched[identity] and tool is not None:
                    del _watched[identity]
                    sys.monitoring.set_local_events(tool, code, 0)

    def judge(self, frame: FrameType, called: str = "") -> None:
        """Raise the exception if that is harmless where the thread is.

        The thread has just come back from what it ``called``.
        """
        if may_be_interrupted(frame, self._outermost, called):
            self._raise()

    def is_at(self, code: CodeType, place: int) -> bool:
        """Return whether the thread begins a round of a loop or has come back from a call.

        The call is the one that the thread was last seen in.
        """
        return (id(code), place) == self._behind or place in self._places_of(code).loop_heads

    def _watch(self, code: CodeType, tool: int) -> None:
        if id(code) not in self._codes:
            self._codes[id(code)] = code
            _watched[id(code)] += 1
            sys.monitoring.set_local_events(tool, code, _EVENTS)

    def _places_of(self, code: CodeType) -> Places:
        """Return the places of a function, found when they are needed.

        Few of the functions that a thread is in get on before it is struck.
        """
        found = self._places.get(id(code))
        if found is None:
            found = self._places[id(code)] = Places(code)
        return found

    def _raise(self) -> None:
        if self.pending and _due.pop(self._thread_id, None) is self:
            raise DeadlineExceeded


def _enters(_code: CodeType, _place: int) -> None:
    strike = _due.get(threading.get_ident())
    if strike is not None:
        strike.judge(sys._getframe(1))


def _steps(code: CodeType, place: int) -> None:
    strike = _due.get(threading.get_ident())
    if strike is not None and strike.is_at(code, place):
        strike.judge(sys._getframe(1))


def _comes_back(
    _code: CodeType, _place: int, called: Callable[..., object], _argument: object
) -> None:
    strike = _due.get(threading.get_ident())
    if strike is not None:
        strike.judge(sys._getframe(1), called.__name__ if type(called) in _OF_C else "")


_OF_C = (BuiltinFunctionType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType)
"""The types that tell their name without running code of the application.

A proxy, say, has to ask whom it stands for.
"""
_NAME = "flask-taskqueue"
_CALLBACKS: dict[int, Callable[..., object]] = {
    sys.monitoring.events.PY_START: _enters,
    sys.monitoring.events.INSTRUCTION: _steps,
    sys.monitoring.events.C_RETURN: _comes_back,
}
"""The callbacks, at places like those where the interpreter itself looks for exceptions.

At these it also finds what handles them. That is not so where it tells of a jump: an exception
raised there skips every ``finally``, up to Python 3.13 at least.
"""
_EVENTS = (
    sys.monitoring.events.PY_START | sys.monitoring.events.INSTRUCTION | sys.monitoring.events.CALL
)  # C_RETURN comes with CALL


def _tool() -> int | None:
    """Return the number by which the interpreter knows this tool, or None if all are taken.

    It is the first free one, beginning with those by which no kind of tool is known.
    """
    free = None
    for number in (4, 3, 5, 2, 1, 0):
        name = sys.monitoring.get_tool(number)
        if name == _NAME:
            return number
        if name is None and free is None:
            free = number
    if free is not None:
        sys.monitoring.use_tool_id(free, _NAME)
        for event, callback in _CALLBACKS.items():
            sys.monitoring.register_callback(free, event, callback)
    return free
