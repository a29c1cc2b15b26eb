"""Deferred calls: what a task holds of one, and how it is made again."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask

from ..core.arguments.functions import name_of
from ..core.arguments.named_functions import NamedFunctions
from ..core.arguments.plain_values import PlainValues
from ..core.arguments.refusals import Misfit
from ..core.arguments.results import unfinished
from ..core.errors import InvalidTaskError, PermanentFailure
from ..core.json_text import dumps
from ..process.logs import get_logger
from ..runtime import Runtime
from ..web.current_task import handling
from ..web.worker import awaited, not_run
from .pickled import MARK, Pickles
from .rows import SessionRows

_logger = get_logger()
_PARTS = {"f", "a", "k"}
_log_level = logging.DEBUG

Body = bytes | Callable[[str], bytes]
"""The body of a task, or the function that makes it for the task's id."""


def set_log_level(log_level: int) -> None:
    """Set the level at which each deferred call is logged, for all apps; DEBUG unless set."""
    global _log_level
    _log_level = log_level


class DeferredCalls:
    """The deferred calls of one app."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        script = _script(runtime.app)
        own = (script or runtime.app.import_name).partition(".")[0]
        self.functions = NamedFunctions((own, *runtime.settings.deferred_modules), script)
        self._values = PlainValues(self.functions, SessionRows(runtime))

    def write(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Body:
        """Return the body of a task that makes this call.

        Raises `InvalidTaskError`, which names the argument that cannot be stored. With
        ``TASKQUEUE_DEFERRED = "pickle"`` such a call is pickled instead.
        """
        try:
            return self._json(function, args, kwargs)
        except InvalidTaskError:
            if self._runtime.settings.deferred != "pickle" or not callable(function):
                raise
        pickles = Pickles(self._runtime.secrets)
        return lambda task_id: pickles.write((function, args, dict(kwargs)), task_id)

    def run(self, body: bytes) -> Any:
        """Make the call that a body holds, and return what it returns.

        Raises `PermanentFailure` for a body that holds none, or none that may be made, and `Misfit`
        for arguments that do not fit the function.
        """
        function, args, kwargs = self._pickled(body) if body.startswith(MARK) else self._read(body)
        _logger.log(_log_level, "deferred call of %s", name_of(function))
        result = awaited(function(*args, **kwargs))
        part = unfinished(result)
        if part is not None and not inspect.isroutine(part):
            raise not_run(function, result, part)
        return result

    def _json(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        if inspect.ismethod(function) and self._values.rows.key_of(function.__self__) is not None:
            args = (function.__self__, *args)
            function = getattr(type(function.__self__), function.__name__, function)
        call: dict[str, Any] = {"f": self.functions.name_of(function)}
        if args:
            call["a"] = [self._encoded(str(number), value) for number, value in enumerate(args, 1)]
        for name in kwargs:
            if not name.isidentifier():
                raise InvalidTaskError(f"argument {name!r}: no parameter can have this name")
        if kwargs:
            call["k"] = {name: self._encoded(repr(name), value) for name, value in kwargs.items()}
        return dumps(call).encode()

    def _encoded(self, which: str, value: Any) -> Any:
        try:
            return self._values.encoded(value)
        except InvalidTaskError as error:
            raise InvalidTaskError(f"argument {which}: {error}") from error

    def _read(self, body: bytes) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        call = self._values.loaded(body)
        if not isinstance(call, dict) or not {"f"} <= call.keys() <= _PARTS:
            raise PermanentFailure("the task holds no deferred call")
        function = self.functions.find(call["f"])
        args, kwargs = call.get("a", []), call.get("k", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict) or "$" in kwargs:
            raise PermanentFailure("the arguments of the deferred call are none")
        args, kwargs = self._values.decoded(args), self._values.decoded(kwargs)
        try:
            inspect.signature(function).bind(*args, **kwargs)
        except TypeError as error:
            raise Misfit(f"{name_of(function)} cannot be called with these: {error}") from error
        return function, args, kwargs

    def _pickled(self, body: bytes) -> Any:
        if self._runtime.settings.deferred != "pickle":
            raise PermanentFailure(
                "the task holds a pickle, which is loaded only with TASKQUEUE_DEFERRED = 'pickle'"
            )
        current = handling.get(None)
        if current is None:
            raise PermanentFailure("a pickled call runs only in the task that it was signed for")
        return Pickles(self._runtime.secrets).read(body, current.id)


def _script(app: Flask) -> str | None:
    """Return the module that other processes know the script by that has made an app.

    None for an app that an imported module has made.
    """
    if app.import_name != "__main__":
        return None
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # of a module run by python -m
    return app.name if spec is None else spec.name
