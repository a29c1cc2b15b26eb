"""Declarations of schedules, made with a decorator or a call, beside those of handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, Unpack

from flask import Flask

from ..api.declared_schedules import DeclaredSchedule, DeclaredSchedules
from ..core.arguments.form import listed
from ..core.schedules.schedule import Misfire, Overlap
from ..core.tasks.spec import ScheduleOptions, TaskSpec
from ..runtime import Runtime
from ..web.task_function import TaskFunction
from ..web.worker import Worker
from .handlers import HandlerDeclarations

F = TypeVar("F", bound=Callable[..., Any])


class Declarations(HandlerDeclarations):
    """The declarations you can make at import time, before or after an app is set up."""

    def __init__(self, find_runtime: Callable[[], Runtime], apps: Iterable[Flask]) -> None:
        super().__init__(find_runtime, apps)
        self._schedules = DeclaredSchedules()

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

        The other arguments are those of ``tasks.add`` without name, eta and countdown. Instead of
        these, ``url`` can be a `TaskSpec`, which holds them. Raises `InvalidScheduleError` for an
        invalid schedule, time zone or name, and what ``tasks.add`` raises for an option that no
        task can have, or for something that is neither a URL nor a handler.
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


def scheduled_spec(
    url: Any, params: Mapping[str, Any] | None, options: ScheduleOptions
) -> TaskSpec:
    """Return the task that a schedule adds again and again.

    Raises TypeError for a spec, which holds the params and the options, beside others.
    """
    if isinstance(url, TaskSpec):
        if params is not None or options:
            raise TypeError(
                "the spec holds the params and the options of the task: give them to it, as in "
                "handler.options(priority=3).spec(...)"
            )
        return url
    if isinstance(url, TaskFunction):
        return url.options(**options).spec(**(params or {}))
    return TaskSpec(url, None if params is None else listed(params), **options)
