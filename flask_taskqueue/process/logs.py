"""The queue's loggers, whose calls never raise."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from functools import cache
from typing import Any


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that raises nothing, whatever the app has attached to logging.

    A filter, a handler, a formatter or a record factory of the app may fail, for example a filter
    that reads ``flask.request`` where there is no request. That must not change what the queue
    does. A message that could not be logged is printed to stderr instead, the first time with the
    traceback, unless `logging.raiseExceptions` is false.
    """

    _is_explained = False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message, as `logging.Logger.log` does."""
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # the caller's line, not this one
        try:
            self.logger.log(level, msg, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is the app's code, and may raise anything
            with suppress(Exception):  # stderr may be closed, or belong to the same handler
                self._print(error, str(msg) % args if args else str(msg))

    def _print(self, error: Exception, message: str) -> None:
        if not logging.raiseExceptions or sys.stderr is None:
            return
        if not self._is_explained:
            self._is_explained = True
            sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.write(
            f"{self.name}: the app's logging failed ({type(error).__name__}), so this was not "
            f"logged: {message}\n"
        )


@cache
def get_logger(name: str = "flask_taskqueue") -> SafeLogger:
    """Return the logger with a name; the queue's modules log only to loggers from here."""
    return SafeLogger(logging.getLogger(name))
