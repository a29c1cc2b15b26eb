"""Strikes on Python 3.11: sent to the thread, which raises the exception when it goes on.

It does so where it was judged to be harmless, if its instruction is one behind which the
interpreter looks for exceptions and the thread does not get on in the meantime.
"""

from __future__ import annotations

import ctypes
import dis
import sys
import threading
import time
from types import CodeType, FrameType

from ...core.errors import DeadlineExceeded
from ..interruptible import may_be_interrupted
from .swallowed import expect, forget

_LOOKS = ("RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "PRECALL", "CALL", "CALL_FUNCTION_EX")


class Sent:
    """A strike within a call of the ``outermost`` function."""

    def __init__(self, thread_id: int, outermost: CodeType) -> None:
        self._thread_id = thread_id
        self._outermost = outermost
        self._sent = False
        self.pending = False
        """Whether it was sent, so that it may have to be sent again: see `swallowed`."""

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
            if (
                not self._sent  # again while this thread slept
                and harmless
                and time.perf_counter() - began <= sys.getswitchinterval() / 2
            ):
                self._sent = self.pending = True
                expect(self._thread_id, self._again)
                self._send(ctypes.py_object(DeadlineExceeded))
        return self._sent

    def land(self) -> None:
        """Raise what was swallowed; what is sent is raised when a function is entered, as here."""
        if self.pending and not self._sent and self._thread_id == threading.get_ident():
            self._sent = True
            raise DeadlineExceeded

    def withdraw(self) -> None:
        if self._sent:
            self._send(None)
        self.pending = False
        forget(self._thread_id)

    def _again(self) -> None:
        """Let `aim` send it once more."""
        self._sent = False

    def _send(self, exception: object) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), exception)


def _is_looked_behind(frame: FrameType) -> bool:
    """Return whether the interpreter looks for exceptions behind what a frame does now.

    It does not while a ``for`` waits for its next line, say.
    """
    return frame.f_lasti >= 0 and dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith(_LOOKS)
