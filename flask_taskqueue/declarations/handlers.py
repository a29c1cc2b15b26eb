"""Declarations of handlers: workers, task functions and webhooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from flask import Blueprint, Flask

from ..api.adding import add_task
from ..api.receivers import Receivers
from ..core.arguments.functions import check_function, name_of
from ..core.errors import ConfigurationError
from ..core.names import check_task_name
from ..core.retry import RetryOptions
from ..core.security.webhooks import check_scheme
from ..core.tasks.declared import check_declared
from ..core.tasks.spec import HandlerOptions, TaskSpec
from ..core.tasks.task import Task
from ..runtime import Runtime
from ..web.rules import check_endpoint, check_methods, check_rule
from ..web.task_function import TaskFunction, route_of
from ..web.webhooks import Webhook, check_webhook_rule
from ..web.worker import Route, Worker
from .workers import Workers

P = ParamSpec("P")
R = TypeVar("R")


class HandlerDeclarations(Receivers):
    """The declarations of handlers, which you can make before and after an app is set up."""

    def __init__(self, find_runtime: Callable[[], Runtime], apps: Iterable[Flask]) -> None:
        super().__init__(find_runtime)
        self._set_up = apps
        self._workers = Workers()

    def worker(
        self,
        rule: str,
        *,
        queue: str | None = None,
        deadline: float | str | timedelta | None = None,
        retry: RetryOptions | Mapping[str, Any] | None = None,
        methods: tuple[str, ...] = ("POST",),
        transactional: bool = False,
        blueprint: Blueprint | None = None,
        endpoint: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Callable[[Callable[P, R]], Worker[P, R]]:
        """Mark a function as the handler that answers at ``rule``.

        The function runs as an ordinary view, in a real request, but only for deliveries of this
        application; anyone else gets a 403. Its named parameters are filled from the task's params
        or JSON object and converted by their annotations. A task with a missing or invalid
        parameter is attempted again for an hour, because another release may fit it, and is then
        dead, with a reason that names the parameter. Returning None sends 204.

        ``queue``, ``deadline`` (a duration), ``retry`` and the other ``options`` are the defaults
        of its tasks; add() can override them. With ``transactional`` the handler's changes in
        ``db.session`` and the task's completion commit together, exactly once; the handler must not
        commit itself. ``blueprint`` puts the route on a blueprint of yours, which you then register
        as usual.

        Raises `ConfigurationError` for a URL or methods that are invalid or that another handler or
        view has, `InvalidTaskError` for an option with an invalid value, `UnknownQueueError` for a
        queue that is not configured, and TypeError for an unknown option and for a
        function that cannot be called with what a task holds. Each error is raised as soon as it
        can be detected: now, when an app is set up, or at the app's first request.
        """

        check_rule(rule, on_blueprint=blueprint is not None)
        checked = check_methods(rule, methods)
        declared = check_declared(deadline, transactional, options)
        if endpoint is not None:
            check_endpoint(endpoint)
        _check_blueprint(f"worker {rule!r}", blueprint)

        def decorate(function: Callable[P, R]) -> Worker[P, R]:
            route = Route(
                rule=rule,
                endpoint=endpoint or str(getattr(function, "__name__", "worker")),
                methods=checked,
                queue=queue,
                deadline=deadline,
                retry=RetryOptions.of(retry),
                transactional=transactional,
                options=declared,
            )
            return self._worker(function, route, blueprint, function)

        return decorate

    @overload
    def task(self, function: Callable[P, R], /) -> TaskFunction[P, R]: ...

    @overload
    def task(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        deadline: float | str | timedelta | None = None,
        retry: RetryOptions | Mapping[str, Any] | None = None,
        transactional: bool = False,
        **options: Unpack[HandlerOptions],
    ) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...

    def task(  # type: ignore[misc]  # mypy does not match a ParamSpec that only the result has
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        deadline: float | str | timedelta | None = None,
        retry: RetryOptions | Mapping[str, Any] | None = None,
        transactional: bool = False,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Mark a plain function as a task function, to be called in the background.

        ``function.enqueue(1, step=2)`` adds a task that calls it. The arguments are stored as JSON
        and converted back by the annotations. They can be anything that JSON has, datetime, date,
        time, timedelta, UUID, Decimal, Enum and dataclasses, and containers of these. The task
        refers to the function by ``name`` (by default the function's own), never by an import path,
        and runs like any other task, through a route below ``/_taskqueue/task/``. The function's
        return value is the reply, if JSON can hold it. The other arguments are those of `worker`.
        """

        declared = check_declared(deadline, transactional, options)

        def decorate(function: Callable[..., Any]) -> TaskFunction[..., Any]:
            check_function(function)
            route = route_of(
                check_task_name(name or _name_of(function)),
                queue=queue,
                deadline=deadline,
                retry=RetryOptions.of(retry),
                transactional=transactional,
                options=declared,
            )
            return TaskFunction(
                function, lambda handler: self._worker(handler, route, None, function), self._add
            )

        return decorate if function is None else decorate(function)

    def webhook(
        self,
        rule: str,
        *,
        secret: str | bytes | Iterable[str | bytes] | Callable[[], Any],
        scheme: str = "standard",
        queue: str | None = None,
        deadline: float | str | timedelta | None = None,
        retry: RetryOptions | Mapping[str, Any] | None = None,
        transactional: bool = False,
        blueprint: Blueprint | None = None,
        endpoint: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Callable[[Callable[P, R]], Webhook[P, R]]:
        """Take in signed webhooks at ``rule`` as tasks, which the function handles.

        A POST whose signature is genuine is answered with 202 once its task is committed, and a
        repeated one, known by its id, with 202 and no second task, until ``TASKQUEUE_WEBHOOK_TTL``
        after the first has ended. Anything else is refused: 401 if the signature is missing, wrong
        or outdated, 413 if the body is larger than a task may be, 503 while the database is away.

        The function runs as a worker does, in a request with the sender's body and Content-Type, so
        its named parameters are filled from the JSON object. ``scheme`` is "standard" (Standard
        Webhooks), "stripe", "github" or "slack". ``secret`` is what the sender shows; give several
        while one replaces another, or a function without arguments that returns them when a request
        comes. The other arguments are those of `worker`, without ``unique_key``, ``on_conflict``,
        ``target`` and ``headers``.

        Raises `ConfigurationError` for a secret that is missing or malformed, an unknown scheme, a
        path that is invalid or taken, and those options, and what `worker` raises.
        """
        check_webhook_rule(rule, on_blueprint=blueprint is not None)
        known = check_scheme(scheme)
        declared = check_declared(deadline, transactional, options)
        if endpoint is not None:
            check_endpoint(endpoint)
        _check_blueprint(f"webhook {rule!r}", blueprint)

        def decorate(function: Callable[P, R]) -> Webhook[P, R]:
            route = Route(
                rule=rule,
                endpoint=endpoint or str(getattr(function, "__name__", "webhook")),
                queue=queue,
                deadline=deadline,
                retry=RetryOptions.of(retry),
                transactional=transactional,
                options=declared,
            )
            webhook = Webhook(
                function,
                route,
                known,
                secret,
                lambda handler, route: self._worker(handler, route, None, function),
                lambda spec: add_task(self._runtime, spec, False),
            )
            self._workers.add(webhook, function, blueprint, list(self._set_up))
            return webhook

        return decorate

    def _worker(
        self,
        handler: Callable[P, R],
        route: Route,
        blueprint: Blueprint | None,
        function: Callable[..., Any],
    ) -> Worker[P, R]:
        worker = Worker(handler, route, self, self._add)
        self._workers.add(worker, function, blueprint, list(self._set_up))
        return worker

    def _add(self, spec: TaskSpec) -> Task:
        return add_task(self._runtime, spec, None)


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if name is None:
        raise ConfigurationError(
            f"{name_of(function)}, a {type(function).__name__} object, has no name of its own: "
            'give it one, as in tasks.task(name="...")'
        )
    return str(name)


def _check_blueprint(what: str, blueprint: object) -> None:
    if blueprint is not None and not isinstance(blueprint, Blueprint):
        raise ConfigurationError(
            f"blueprint of {what} is a {type(blueprint).__name__}; it must be a flask.Blueprint"
        )
