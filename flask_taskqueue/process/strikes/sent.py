"""Strikes on Python 3.11: sent to the thread, which raises the exception when it goes on.

It does so where it was judged to be harmless, if its instruction is one behind which the
interpreter looks for exceptions and the thread does not get on in the meantime.
"""

from __future__ import annotations

import ctypes
import dis
import sys
import time
from types import CodeType, FrameType

from ...core.errors import DeadlineExceeded
from ..interruptible import may_be_interrupted

_LOOKS = ("RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "PRECALL", "CALL", "CALL_FUNCTION_EX")


class Sent:
    """A strike within a call of the ``outermost`` function."""

    pending = False

    def __init__(self, thread_id: int, outermost: CodeType) -> None:
        self._thread_id = thread_id
        self._outermost = outermost
        self._sent = False

    def aim(self) -> bool:
        if not self._sent:
            time.sleep(
                0
                # a thread that has just been given the interpreter keeps it for a while,
                # in which the other thread stays where it is
            )
            began = time.perf_counter()
            frame = sys._current_frames().get(self._thread_id)
            harmless = (
                frame is not None
                and _is_looked_behind(frame)
                and may_be_interrupted(frame, self._outermost)
            )
            if harmless and time.perf_counter() - began <= sys.getswitchinterval() / 2:
                self._sent = True
                self._send(ctypes.py_object(DeadlineExceeded))
        return self._sent

    def land(self) -> None:
        """Do nothing, because the interpreter looks when it enters a function."""

    def withdraw(self) -> None:
        if self._sent:
            self._send(None)

    def _send(self, exception: object) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), exception)


def _is_looked_behind(frame: FrameType) -> bool:
    """Return whether the interpreter looks for exceptions behind what a frame does now.

    It does not while a ``for`` waits for its next line, say.
    """
    return frame.f_lasti >= 0 and dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith(_LOOKS)
