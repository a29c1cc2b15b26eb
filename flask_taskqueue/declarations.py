"""Declarations of handlers, task functions and schedules, made with decorators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from flask import Blueprint, Flask

from .api.adding import add_task
from .api.declared_schedules import DeclaredSchedule, DeclaredSchedules
from .api.tasks import Tasks
from .core.arguments.form import listed
from .core.arguments.functions import check_function, name_of
from .core.errors import ConfigurationError
from .core.names import check_task_name
from .core.retry import RetryOptions
from .core.schedules.schedule import Misfire, Overlap
from .core.tasks.declared import check_declared
from .core.tasks.spec import HandlerOptions, ScheduleOptions, TaskSpec
from .core.tasks.task import Task
from .runtime import Runtime
from .web.rules import check_endpoint, check_methods, check_rule
from .web.task_function import TaskFunction, route_of
from .web.worker import Route, Worker
from .workers import Workers

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Declarations(Tasks):
    """The declarations you can make at import time, before or after an app is set up."""

    def __init__(self, find_runtime: Callable[[], Runtime], apps: Iterable[Flask]) -> None:
        super().__init__(find_runtime)
        self._set_up = apps
        self._workers = Workers()
        self._schedules = DeclaredSchedules()

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
        if blueprint is not None and not isinstance(blueprint, Blueprint):
            raise ConfigurationError(
                f"blueprint of worker {rule!r} is a {type(blueprint).__name__}; it must be a "
                "flask.Blueprint"
            )

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

    def cron(
        self,
        schedule: str,
        *,
        timezone: str = "UTC",
        name: str | None = None,
        misfire: Misfire = "run_once",
        overlap: Overlap = "skip",
        description: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Callable[[F], F]:
        """Run a handler, a task function or a plain function on a schedule.

        A plain function becomes a task function. Put this decorator above ``@tasks.worker`` or
        ``@tasks.task``, or use it alone. You can put several on one function if each has its own
        ``name``. The function is called without arguments. The arguments of the decorator are those
        of `schedule`.
        """

        def decorate(function: Any) -> Any:
            chosen = (
                function if isinstance(function, Worker | TaskFunction) else self.task(function)
            )
            own = name or str(getattr(chosen, "__name__", ""))
            spec = chosen.options(**options).spec()
            self._schedule(
                DeclaredSchedule.of(
                    own,
                    spec,
                    schedule,
                    timezone,
                    misfire=misfire,
                    overlap=overlap,
                    description=description,
                )
            )
            return chosen

        return decorate

    def schedule(
        self,
        name: str,
        url: Any,
        schedule: str,
        params: Mapping[str, Any] | None = None,
        *,
        timezone: str = "UTC",
        misfire: Misfire = "run_once",
        overlap: Overlap = "skip",
        description: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Declare a schedule, which adds a task for ``url`` at each of its fire times.

        Each fire time adds its task once, however many dispatchers run.

        ``schedule`` is in App Engine's format ("every 5 minutes", "every monday 09:00", "1st day of
        month 03:00") or a crontab line (``*/5 * * * *``, "@daily"), in the time zone ``timezone``.
        Call this where the app is set up, as you declare routes: a schedule that the code no longer
        declares no longer fires.

        ``misfire`` says what happens to fire times that passed by more than a minute while no
        dispatcher ran: one run for all of them ("run_once"), none ("skip"), or one run each
        ("all"). ``overlap`` says what happens at a fire time while the previous task has not ended:
        it is left out ("skip"; with ``misfire="all"`` it waits) or it fires all the same ("allow").
        A plain "every 5 minutes" counts from the end of the previous task, as in App Engine, unless
        runs may overlap.

        The other arguments are those of ``tasks.add`` without name, eta and countdown. Raises
        `InvalidScheduleError` for an invalid schedule, time zone or name.
        """
        self._schedule(
            DeclaredSchedule.of(
                name,
                scheduled_spec(url, params, options),
                schedule,
                timezone,
                misfire=misfire,
                overlap=overlap,
                description=description,
            )
        )

    def _schedule(self, declared: DeclaredSchedule) -> None:
        for app in list(self._set_up):
            declared.check(app.extensions["taskqueue"].settings.queues)
        self._schedules.add(declared)

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


def scheduled_spec(
    url: Any, params: Mapping[str, Any] | None, options: ScheduleOptions
) -> TaskSpec:
    """Return the task that a schedule adds again and again."""
    if isinstance(url, TaskFunction):
        return url.options(**options).spec(**(params or {}))
    return TaskSpec(url, None if params is None else listed(params), **options)
