"""The workers and webhooks of a task queue, with the blueprint of their routes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from flask import Blueprint, Flask
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import Map

from ..core.arguments.functions import name_of, names_within
from ..core.errors import ConfigurationError
from ..runtime import Runtime
from ..web.parsed_rules import bound_rule
from ..web.rules import BLUEPRINT, check_new, check_reached, clash, excludes
from ..web.starting.app_checks import check_route, check_workers
from ..web.webhooks import Webhook
from ..web.worker import Worker

Declared = Worker[..., Any] | Webhook[..., Any]

_PLAIN = Map()


class Workers:
    """Workers and webhooks by endpoint.

    They can be declared before and after an application is set up.
    """

    def __init__(self) -> None:
        self._workers: dict[str, Declared] = {}
        self._latest: dict[str, list[str]] = {}
        self._elsewhere: weakref.WeakKeyDictionary[Blueprint, list[Declared]] = (
            weakref.WeakKeyDictionary()
        )

    def add(
        self,
        worker: Declared,
        function: Callable[..., Any],
        blueprint: Blueprint | None,
        apps: Iterable[Flask],
    ) -> None:
        """Give a worker its route; ``function`` is what the user has declared.

        The route goes on a blueprint of the user's or, without one, into every application that has
        been or will be set up. A worker that is declared again (by a factory that declares it, or
        by a reloaded module) replaces the earlier one in the application that was set up last.
        Raises `ConfigurationError` for a worker whose URL or name another one has, and
        `UnknownQueueError` for a worker whose queue is not configured.
        """
        if blueprint is not None:
            others = self._elsewhere.setdefault(blueprint, [])
            _check_against(worker, others)
            # Its add_url_rule may be another's: that of flask-smorest publishes what it gets.
            blueprint.record(lambda state: _route(state, worker, worker.route.endpoint))
            blueprint.record(_check_registered)
            others.append(worker)
            return
        waiting = list(apps)
        names = names_within(function)
        self._check(worker, names, waiting)
        self._workers[worker.route.endpoint] = worker
        self._latest[worker.route.endpoint] = names
        endpoint = f"{BLUEPRINT}.{worker.route.endpoint}"
        for app in waiting:
            if endpoint not in app.view_functions:
                _route(app, worker, endpoint)
            elif app is waiting[-1]:
                app.view_functions[endpoint] = worker.view

    def check(self, app: Flask, runtime: Runtime) -> None:
        """Check that the workers declared so far fit an application that is about to be set up.

        Raises `ConfigurationError` and `UnknownQueueError`.
        """
        check_workers(app, runtime)
        for worker in self._workers.values():
            _check_in(app, worker, runtime)

    def register(self, app: Flask) -> None:
        """Register the workers declared so far in an application, as a blueprint's routes."""
        blueprint = Blueprint(BLUEPRINT, __name__)
        for endpoint, worker in self._workers.items():
            _route(blueprint, worker, endpoint)
        app.register_blueprint(blueprint)
        self._latest.clear()  # a factory may declare its functions again for the next application

    def _check(self, worker: Declared, names: list[str], apps: Iterable[Flask]) -> None:
        known = self._workers.get(worker.route.endpoint)
        latest = self._latest.get(worker.route.endpoint, names)
        if known is not None and _name(known) != _name(worker):
            raise ConfigurationError(
                f"{_name(known)} and {_name(worker)} are both {worker.route.endpoint!r}: "
                "give one another endpoint or name"
            )
        if latest != names:
            raise ConfigurationError(
                f"two functions are {worker.route.endpoint!r}: {names[0]} around {latest[-1]} and "
                f"around {names[-1]}. Use functools.wraps in the decorator, or give one another "
                "endpoint or name"
            )
        if known is not None and _place(known) != _place(worker):
            raise ConfigurationError(
                f"{_name(worker)} has two URLs, {' '.join(_place(known))} and "
                f"{' '.join(_place(worker))}: "
                "give one of them an endpoint= of its own"
            )
        _check_against(worker, self._workers.values())
        for app in apps:
            _check_in(app, worker, app.extensions["taskqueue"])


def _route(place: Flask | Blueprint | BlueprintSetupState, worker: Declared, endpoint: str) -> None:
    """Register the route of a worker, which answers with and without a slash at the end.

    A release may add that slash or leave it out, and tasks keep the URL that they were stored with.
    """
    place.add_url_rule(
        worker.route.rule,
        endpoint,
        worker.view,
        methods=list(worker.route.methods),
        provide_automatic_options=False,
        strict_slashes=False,
    )


def _check_against(worker: Declared, others: Iterable[Declared]) -> None:
    """Check that no other worker has the same URLs.

    The rules are compared without an application, so rules with an app's own converters, which are
    not known here, are left out.
    """
    with suppress(LookupError):
        new = bound_rule(
            worker.route.rule or "/", worker.route.methods, worker.route.endpoint, _PLAIN
        )
        for other in others:
            if other.route.endpoint != worker.route.endpoint:
                with suppress(LookupError):
                    known = bound_rule(
                        other.route.rule or "/", other.route.methods, other.route.endpoint, _PLAIN
                    )
                    if excludes(known, new):
                        raise clash(known, new)


def _check_in(app: Flask, worker: Declared, runtime: Runtime) -> None:
    route = worker.route
    check_route(route, route.endpoint, runtime)
    endpoint = f"{BLUEPRINT}.{route.endpoint}"
    try:
        rule = bound_rule(route.rule, route.methods, endpoint, app.url_map)
    except LookupError as error:
        raise ConfigurationError(
            f"the rule {route.rule!r} of worker {route.endpoint!r} cannot be read: {error}"
        ) from error
    check_new(app, rule)
    if isinstance(worker, Worker):
        check_reached(app, rule, runtime.settings)


def _check_registered(state: BlueprintSetupState) -> None:
    app = cast(Flask, state.app)
    if "taskqueue" in app.extensions:
        check_workers(app, app.extensions["taskqueue"])


def _place(worker: Declared) -> tuple[str, ...]:
    return (*worker.route.methods, worker.route.rule)


def _name(worker: Declared) -> str:
    return f"{worker.function.__module__}.{name_of(worker.function)}"
