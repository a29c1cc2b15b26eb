"""Calls whose results are asked for later, as App Engine's ``*_async`` functions return them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import Error, InvalidDeadlineError


def check_deadline(deadline: float) -> None:
    """Raise TypeError or `InvalidDeadlineError` unless a deadline is a number above 0."""
    if not isinstance(deadline, int | float):
        raise TypeError(f"deadline is {deadline!r}; it must be a number of seconds")
    if deadline <= 0:
        raise InvalidDeadlineError(f"deadline is {deadline!r}; it must be more than 0 seconds")


class UserRPC:
    """One call, which is over when the function that began it has returned.

    An error of the queue is kept until `check_success` or `get_result` raises it. ``callback`` is
    called without arguments by the first method that looks at the call.
    """

    def __init__(
        self, deadline: float | None = None, callback: Callable[[], object] | None = None
    ) -> None:
        self.deadline = deadline
        self.callback = callback
        self._has_called_back = False
        self._error: Error | None = None
        self._result: Callable[[], Any] | None = None

    def make(self, work: Callable[[], Callable[[], Any]]) -> UserRPC:
        """Do the work of the call; ``work`` returns the function that makes its result.

        Raises RuntimeError if the object stands for another call already.
        """
        if self._result is not None or self._error is not None:
            raise RuntimeError("this rpc stands for another call already: make one for each call")
        try:
            self._result = work()
        except Error as error:
            self._error = error
        return self

    def wait(self) -> None:
        """Return at once, because the call is over, having called the callback the first time."""
        if self._result is None and self._error is None:
            raise RuntimeError("this rpc was given to no call: pass it as rpc=")
        if not self._has_called_back:
            self._has_called_back = True
            if self.callback is not None:
                self.callback()

    def check_success(self) -> None:
        """Raise the error that the call ended with, if it did."""
        self.wait()
        if self._error is not None:
            raise self._error

    def get_result(self) -> Any:
        """Return the result of the call. Raises what went wrong with any of its tasks."""
        self.check_success()
        return None if self._result is None else self._result()


def create_rpc(
    deadline: float | None = None, callback: Callable[[], object] | None = None
) -> UserRPC:
    """Return an object to pass as ``rpc`` to one call.

    ``deadline`` is checked, in seconds, and otherwise unused: how long a call waits for the
    database is the database's setting. Raises TypeError and `InvalidDeadlineError`.
    """
    if deadline is not None:
        check_deadline(deadline)
    return UserRPC(deadline, callback)
