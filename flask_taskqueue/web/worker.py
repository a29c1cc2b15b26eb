"""A worker: a handler with its route and its way of making tasks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar, Unpack

from flask import Flask, Request, Response, current_app, make_response, request

from ..core.arguments.arguments import Arguments
from ..core.arguments.functions import check_function, name_of, type_hints
from ..core.arguments.refusals import Misfit
from ..core.arguments.results import is_context
from ..core.delivery.delivery import Delivery
from ..core.delivery.verdict import Verdict, raised
from ..core.errors import InvalidTaskError, PermanentFailure, Retry, text_of
from ..core.retry import RetryOptions
from ..core.tasks.cloudevents import CloudEvent, read_event
from ..core.tasks.spec import HandlerOptions, SpecOptions, TaskSpec
from ..core.tasks.task import Task, TaskActions
from ..process.interrupts import run_async
from ..runtime import Runtime
from .calls import json_object, spec_of
from .claimed_request import claimed_delivery, judges_itself, returned
from .current_task import CurrentTask, handling
from .guard import is_stale, rewind, verified, why_refused
from .middleware import keep_traceback
from .parsed_rules import variables_of
from .transaction import LeaseLostError, in_transaction

P = ParamSpec("P")
R = TypeVar("R")

Add = Callable[..., Task]
_CANCEL_SEEN = (
    "the lease may have been lost, and the handler was told so: it may have stopped half way"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a handler answers, and the defaults of its tasks, which add() can override."""

    rule: str
    endpoint: str
    methods: tuple[str, ...] = ("POST",)
    queue: str | None = None
    deadline: float | str | timedelta | None = None
    retry: RetryOptions | None = None
    transactional: bool = False
    options: HandlerOptions = field(default_factory=HandlerOptions)


class Worker(Generic[P, R]):
    """A handler marked with ``@tasks.worker``: still the same function, with `add`.

    Called directly it is the plain function. The route runs its `view`.
    """

    def __init__(
        self, function: Callable[P, R], route: Route, actions: TaskActions, add: Add
    ) -> None:
        check_function(function)
        functools.update_wrapper(self, function)
        self.function = function
        self.route = route
        self.variables: frozenset[str] = variables_of(route.rule)
        self.events: frozenset[str] = frozenset(
            name for name, hint in type_hints(function).items() if hint is CloudEvent
        )
        self.arguments: Arguments = Arguments(function, filled=self.variables | self.events)
        if self.events and self.arguments.are_expected:
            raise TypeError(
                f"handler {name_of(function)} takes a CloudEvent, so the task is the event, and "
                "nothing fills its other parameters: take them from event.data"
            )
        self.is_async: bool = inspect.iscoroutinefunction(function)
        self._actions = actions
        self._add = add

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def add(self, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Add a task for this handler, with the handler's own parameters.

        The handler gets the values unchanged, with their types; a value that would arrive changed
        is refused with `InvalidTaskError`. Raises whatever else ``tasks.add`` raises, and TypeError
        if the arguments do not fit the handler.
        """
        return self._add(self.spec(*args, **kwargs))

    enqueue = add  # the word for a task function

    def spec(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskSpec:
        """Return the task that `add` would add, for lists, batches and ``then``."""
        return spec_of(self, args, kwargs, {})

    def options(self, **options: Unpack[SpecOptions]) -> PreparedWorker[P]:
        """Return the same worker with options of ``tasks.add`` for its next tasks.

        For example, ``handler.options(countdown=60).add(key="a")``. Their values are checked when a
        task is added. Raises TypeError for an unknown option.
        """
        TaskSpec(**options)  # which knows the names
        return PreparedWorker(self, self._add, options)

    def check_name(self, name: object) -> None:
        """Check the ``name`` of a task that brings no parameters.

        Raises `InvalidTaskError` if it must have been meant for a parameter called name.
        """
        if self.arguments.requires("name"):
            raise InvalidTaskError(
                f"name={name!r} is the task's own name, and {name_of(self.function)} has a "
                f"parameter called name: give the parameters as a dict, "
                f"add(url, {{'name': {name!r}}})"
            )

    @judges_itself
    def view(self, **variables: Any) -> Response:
        """Answer a request, or refuse it unless it comes from this application's dispatcher.

        Anyone else gets a 403, which says why if the app is in debug mode. A genuine delivery of an
        attempt that is no longer under way gets a 409.
        """
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        current: Request = request._get_current_object()  # type: ignore[attr-defined]
        delivery, claim = verified(app, current), claimed_delivery(app)
        if delivery is None or claim is None:
            why = f"{why_refused(app, current)}\n" if app.debug else None
            return Response(
                why, status=409 if is_stale(app, current) else 403, mimetype="text/plain"
            )
        if delivery.ping:
            claim.verdict = Verdict("ping")
            return Response(status=204)
        claim.by_worker = True
        rewind(current)
        runtime: Runtime = app.extensions["taskqueue"]
        token = handling.set(CurrentTask(delivery, runtime, self._actions))
        verdict = None
        try:
            response, verdict = self._answer(runtime, delivery, variables)
        except Exception as error:
            verdict = raised(error)
            keep_traceback(app, delivery, error)
            raise
        finally:
            handling.reset(token)
            # A request that arrives twice changes nothing.
            if claim.verdict is None or not claim.verdict.committed:
                claim.verdict = verdict
        return response

    def _answer(
        self, runtime: Runtime, delivery: Delivery, variables: Mapping[str, Any]
    ) -> tuple[Response, Verdict]:
        """Run the handler, and return its response with the verdict on it."""
        try:
            if self.route.transactional:
                return in_transaction(runtime, delivery, lambda: self._run(delivery, variables))
            return self._run(delivery, variables)
        except Retry as retry:
            keep_traceback(runtime.app, delivery, retry)
            after = None if retry.after is None else str(retry.after)
            return _refusal(Verdict("retry", 503, text_of(retry), after))
        except Misfit as misfit:
            return _refusal(Verdict("misfit", 422, str(misfit)))
        except PermanentFailure as failure:
            keep_traceback(runtime.app, delivery, failure)
            why = text_of(failure) or "PermanentFailure, for which the handler gave no reason"
            return _refusal(Verdict("permanent", 422, why))
        except LeaseLostError as lost:
            return _refusal(Verdict("lost", 409, str(lost)))

    def _run(self, delivery: Delivery, variables: Mapping[str, Any]) -> tuple[Response, Verdict]:
        response = self._call(variables)
        verdict = returned(response)
        if delivery.cancel_seen and verdict.is_success:
            raise LeaseLostError(_CANCEL_SEEN)
        return response, verdict

    def _call(self, variables: Mapping[str, Any]) -> Response:
        if self.events:
            event = read_event(dict(request.headers), request.get_data())
            variables = {**variables, **dict.fromkeys(self.events, event)}
        values, form = _values() if self.arguments.are_expected else ({}, False)
        args, kwargs = self.arguments.bind(values, form=form, filled=variables)
        return _response_of(self.function(*args, **kwargs), self.function)


def awaited(result: Any) -> Any:
    """Return what a handler returned, or its result if that is awaitable.

    An async function behind a plain decorator, for example, returns an awaitable.
    """
    return (
        run_async(current_app.ensure_sync, _await(result))
        if inspect.isawaitable(result)
        else result
    )


def _response_of(result: Any, function: Callable[..., Any]) -> Response:
    """Return the response to what a handler returned.

    Raises `PermanentFailure` for an async generator or a context manager made from a generator,
    whose body nobody would run.
    """
    if result is not None:
        result = awaited(result)
    if result is None:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        return app.response_class(status=204)
    if inspect.isasyncgen(result) or is_context(result):
        raise not_run(function, result, result)
    return make_response(result)


def not_run(function: Callable[..., Any], result: Any, part: Any) -> PermanentFailure:
    """Return the failure for a result with a part whose work nobody would do."""
    within = "" if part is result else f" in a {type(result).__name__}"
    return PermanentFailure(
        f"{name_of(function)} returned a {type(part).__name__}{within}, whose work has not run or "
        "has not been waited for: run it to its end in the function (call it, or list(), await, "
        "future.result()), and return what comes of it"
    )


def worker_behind(view: object) -> Worker[..., Any] | None:
    """Return the worker whose view this is, or is within wrappers; None for any other view."""
    worker = getattr(inspect.unwrap(view), "__self__", None)  # type: ignore[arg-type]
    return worker if isinstance(worker, Worker) else None


class PreparedWorker(Generic[P]):
    """A worker with options for its next tasks."""

    def __init__(self, worker: Worker[P, Any], add: Add, options: SpecOptions) -> None:
        self._worker = worker
        self._add = add
        self._options = options

    def add(self, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Add a task with the handler's parameters and these options."""
        return self._add(self.spec(*args, **kwargs))

    enqueue = add  # the word for a task function

    def spec(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskSpec:
        """Return the task that `add` would add, for lists, batches and ``then``."""
        return spec_of(self._worker, args, kwargs, self._options)


async def _await(result: Any) -> Any:
    while inspect.isawaitable(result):
        result = await result
    return result


def _values() -> tuple[Mapping[str, Any], bool]:
    """Return the task's values, and whether they are form values.

    The values are the task's JSON object, or its form and query parameters, each of which is a
    list.
    """
    current: Request = request._get_current_object()  # type: ignore[attr-defined]
    if not current.is_json:
        form = current.form.to_dict(flat=False)
        return (current.args.to_dict(flat=False) | form if current.query_string else form), True
    return json_object("it has no named parameters"), False


def _refusal(verdict: Verdict) -> tuple[Response, Verdict]:
    """Return the response that is sent in place of the handler's, with the verdict."""
    headers = {} if verdict.retry_after is None else {"Retry-After": verdict.retry_after}
    return Response(verdict.error, verdict.status, mimetype="text/plain", headers=headers), verdict
