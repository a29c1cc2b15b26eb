"""A task function: a plain function that runs as a task, without a URL of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, Unpack

from flask import Response, make_response
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from ..core.arguments.arguments import Arguments
from ..core.arguments.functions import FUNCTIONS, check_function, name_of
from ..core.arguments.results import result_json, unfinished
from ..core.delivery.verdict import RESULT_ERROR
from ..core.errors import text_of
from ..core.tasks.spec import SpecOptions, TaskSpec
from ..core.tasks.task import Task
from ..process.logs import get_logger
from .calls import json_object
from .current_task import handling
from .worker import Add, Route, Worker, awaited, not_run

P = ParamSpec("P")
R = TypeVar("R")

_logger = get_logger()

_MOST_OF_ERROR = 300


class TaskFunction(Generic[P, R]):
    """A function marked with ``@tasks.task``: still the same function, with `enqueue`.

    Its tasks are JSON and refer to it by its registered name. ``worker`` is the handler that runs
    it.
    """

    def __init__(
        self,
        function: Callable[P, R],
        make_worker: Callable[[Callable[..., Response]], Worker[..., Response]],
        add: Add,
    ) -> None:
        check_function(function)
        functools.update_wrapper(self, function)
        self.function = function
        self._arguments = Arguments(function)
        self.worker: Worker[..., Response] = make_worker(self._handler())
        self._add = add

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Add a task that calls the function with these arguments.

        Raises whatever ``tasks.add`` raises, TypeError if the arguments do not fit the function,
        and `InvalidTaskError` for an argument that JSON would not give back unchanged.
        """
        return self._add(self.spec(*args, **kwargs))

    add = enqueue  # the word for a worker

    def spec(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskSpec:
        """Return the task that `enqueue` would add, for lists, batches and ``then``."""
        return self.options().spec(*args, **kwargs)

    def options(self, **options: Unpack[SpecOptions]) -> PreparedFunction[P]:
        """Return the same function with options of ``tasks.add`` for its next tasks.

        For example, ``function.options(countdown=60).enqueue(1)``. Their values are checked when a
        task is added. Raises TypeError for an unknown option.
        """
        TaskSpec(**options)  # which knows the names
        return PreparedFunction(self.worker, self._arguments, self._add, options)

    def _handler(self) -> Callable[[], Response]:
        """Return a handler without parameters, which has the function's name."""

        def handle() -> Response:
            return self._handle()

        name = name_of(self.function)
        handle.__module__ = self.__module__
        handle.__name__, handle.__qualname__ = getattr(self.function, "__name__", name), name
        return handle

    def _handle(self) -> Response:
        """Call the function with the task's arguments, and return the reply.

        The reply is the response that the function returned, or its result, if JSON can hold it.
        Raises `PermanentFailure` for a result with work in it that nobody would do.
        """
        values = json_object("it has no arguments")
        self._arguments.check_names(values)
        args, kwargs = self._arguments.bind(values)
        result = awaited(self.function(*args, **kwargs))
        if result is None:
            return Response(status=204)
        if _is_response(result):
            return make_response(result)
        try:
            return Response(result_json(result), mimetype="application/json")
        # What a field's getter raises must not repeat what the function has done.
        except Exception as error:  # noqa: BLE001
            part = unfinished(result)
            if part is not None:
                raise not_run(self.function, result, part) from None
            return self._without_result(error)

    def _without_result(self, error: Exception) -> Response:
        """Return the reply to a call whose result JSON cannot hold, because of this error.

        What the function did is done all the same. If the result was to be kept, the reply says
        why it is not, and so does the log.
        """
        task = handling.get()
        if not task.keep_result:
            return Response(status=204)
        why = (
            f"the result of {name_of(self.function)} is not kept, because JSON cannot hold it: "
            f"{text_of(error)[:_MOST_OF_ERROR]}"
        )
        _logger.warning("task %s: %s", task.id, why)
        printable = "".join(
            character if character.isprintable() and character.isascii() else "?"
            for character in why
        )
        return Response(mimetype="application/json", headers={RESULT_ERROR: printable})


class PreparedFunction(Generic[P]):
    """A task function with options for its next tasks."""

    def __init__(
        self, worker: Worker[..., Any], arguments: Arguments, add: Add, options: SpecOptions
    ) -> None:
        self._worker = worker
        self._arguments = arguments
        self._add = add
        self._options = options

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Add a task with the function's arguments and these options."""
        return self._add(self.spec(*args, **kwargs))

    add = enqueue  # the word for a worker

    def spec(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskSpec:
        """Return the task that `enqueue` would add, for lists, batches and ``then``."""
        options: SpecOptions = {**self._options, "json": self._arguments.write_json(args, kwargs)}
        return TaskSpec(self._worker, **options)


def route_of(name: str, **options: Any) -> Route:
    """Return the route of a task function."""
    return Route(rule=FUNCTIONS + name, endpoint=f"task-{name}", **options)


def _is_response(result: Any) -> bool:
    """Return whether a result is a response, or a tuple of one with its status or headers."""
    first = result[0] if isinstance(result, tuple) and result else result
    return isinstance(first, BaseResponse | HTTPException)
