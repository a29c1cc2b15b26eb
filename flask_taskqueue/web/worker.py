"""A worker: a handler, its route and how its tasks are made."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, Generic, ParamSpec, TypeVar, Unpack

from flask import Request, Response, after_this_request, current_app, make_response, request

from ..core.delivery import Delivery
from ..core.errors import PermanentFailure, Retry
from ..core.outcome import ERROR_HEADER, VERDICT_HEADER
from ..core.parameters import Parameters, dump
from ..core.ping import ANSWER
from ..core.retry import RetryOptions
from ..core.spec import TaskOptions, TaskSpec
from ..core.task import Task, TaskActions
from ..runtime import Runtime
from .current import CurrentTask, handling
from .guard import is_stale, verified
from .transaction import in_transaction

P = ParamSpec("P")
R = TypeVar("R")

Add = Callable[..., Task]
_ERROR_LENGTH = 500
_HEEDED = "the lease may have been lost, and the handler was told so: it may have stopped half way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a handler answers, and what its tasks have unless add() says otherwise."""

    rule: str
    endpoint: str
    methods: tuple[str, ...] = ("POST",)
    queue: str | None = None
    deadline: float | timedelta | None = None
    retry: RetryOptions | None = None
    transactional: bool = False


class Worker(Generic[P, R]):
    """A handler under ``@tasks.worker``: still the function it was, with `add`.

    Called directly it is the plain function. Its `view` is what the route runs.
    """

    def __init__(self, function: Callable[P, R], route: Route, actions: TaskActions, add: Add) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.route = route
        self.parameters = Parameters.of(function)
        self.is_async = iscoroutinefunction(function)
        self._actions = actions
        self._add = add

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def add(self, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Add a task for this handler, with the handler's own parameters.

        Raises what ``tasks.add`` raises, and TypeError when the arguments do not fit.
        """
        return self._add(self.spec(*args, **kwargs))

    def spec(self, *args: P.args, **kwargs: P.kwargs) -> TaskSpec:
        """The task that `add` would add, for lists, batches and ``then``."""
        return TaskSpec(self, dump(self.function, args, kwargs) or None)

    def options(self, **options: Unpack[TaskOptions]) -> Prepared[P]:
        """The same with options of ``tasks.add``: ``handler.options(countdown=60).add(key="a")``."""
        return Prepared(self, self._add, options)

    def view(self, **variables: Any) -> Response:
        """Answer a request: 403 for anybody but this application's dispatcher."""
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        delivery = verified(app, request._get_current_object())  # type: ignore[attr-defined]
        if delivery is None:
            return Response(status=409 if is_stale(request) else 403)
        if delivery.ping:
            return Response(status=204, headers=ANSWER)
        runtime: Runtime = app.extensions["taskqueue"]
        token = handling.set(CurrentTask(delivery, runtime, self._actions))
        try:
            return self._answer(runtime, delivery, variables)
        finally:
            handling.reset(token)

    def _answer(self, runtime: Runtime, delivery: Delivery, variables: Mapping[str, Any]) -> Response:
        try:
            if self.route.transactional:
                return in_transaction(runtime, delivery, lambda: self._reply(delivery, variables))
            return self._reply(delivery, variables)
        except Retry as retry:
            headers = {} if retry.after is None else {"Retry-After": str(retry.after)}
            return _verdict("retry", 503, str(retry), headers)
        except PermanentFailure as failure:
            return _verdict("permanent", 422, str(failure), {})
        finally:
            error = sys.exception()
            if isinstance(error, Exception):
                _mark(error)

    def _reply(self, delivery: Delivery, variables: Mapping[str, Any]) -> Response:
        response = self._call(variables)
        return _verdict("lost", 409, _HEEDED, {}) if delivery.heeded and response.status_code < 300 else response

    def _call(self, variables: Mapping[str, Any]) -> Response:
        arguments = self.parameters.bind(_values(), skip=variables) if self.parameters.names else {}
        function = current_app.ensure_sync(self.function) if self.is_async else self.function
        result: Any = function(**variables, **arguments)  # type: ignore[call-arg]
        return current_app.response_class(status=204) if result is None else make_response(result)


class Prepared(Generic[P]):
    """A worker with options for its next tasks."""

    def __init__(self, worker: Worker[P, Any], add: Add, options: TaskOptions) -> None:
        self._worker = worker
        self._add = add
        self._options = options

    def add(self, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Add a task with the handler's parameters and these options."""
        return self._add(self.spec(*args, **kwargs))

    def spec(self, *args: P.args, **kwargs: P.kwargs) -> TaskSpec:
        """The task that `add` would add, for lists, batches and ``then``."""
        return TaskSpec(self._worker, dump(self._worker.function, args, kwargs) or None, **self._options)


def _values() -> Mapping[str, Any]:
    """What the task brings: its JSON object, or its form and query parameters, each a list."""
    current: Request = request._get_current_object()  # type: ignore[attr-defined]
    if not current.is_json:
        form = current.form.to_dict(flat=False)
        return current.args.to_dict(flat=False) | form if current.query_string else form
    found = current.get_json(silent=True)
    if not isinstance(found, dict):
        raise PermanentFailure("the body is not a JSON object, so it has no named parameters")
    return found


def _verdict(verdict: str, status: int, reason: str, headers: Mapping[str, str]) -> Response:
    response = Response(reason, status, mimetype="text/plain", headers=headers)
    response.headers[VERDICT_HEADER] = verdict
    response.headers[ERROR_HEADER] = _one_line(reason)
    return response


def _mark(error: Exception) -> None:
    """Have the reply say that the handler raised: an error handler of the application may answer 200."""

    @after_this_request
    def mark(response: Response) -> Response:
        response.headers[VERDICT_HEADER] = "error"
        response.headers[ERROR_HEADER] = _one_line(f"{type(error).__name__}: {error}")
        return response


def _one_line(text: str) -> str:
    """A header's worth of a text."""
    return text.encode("ascii", "backslashreplace").decode().replace("\r", " ").replace("\n", " ")[:_ERROR_LENGTH]
