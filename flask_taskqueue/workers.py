"""The workers of a task queue, and the blueprint that puts them into applications."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Flask

from .web.worker import Worker

BLUEPRINT = "taskqueue"


class Workers:
    """Workers by endpoint. They may be declared before and after an application is set up."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker[..., Any]] = {}

    def add(self, worker: Worker[..., Any], blueprint: Blueprint | None, apps: Iterable[Flask]) -> None:
        """Give a worker its route: on a blueprint of the user's, or in every application that is and will be set up.

        A worker declared again (a factory that declares them, a reloaded module) takes the place
        of the former in the application that was set up last.
        """
        if blueprint is not None:
            _route(blueprint, worker, worker.route.endpoint)
            return
        known = self._workers.setdefault(worker.route.endpoint, worker)
        if _name(known) != _name(worker):
            raise ValueError(f"{_name(known)} and {_name(worker)} are both {worker.route.endpoint!r}: give one another endpoint or name")
        self._workers[worker.route.endpoint] = worker
        endpoint = f"{BLUEPRINT}.{worker.route.endpoint}"
        waiting = list(apps)
        for app in waiting:
            if endpoint not in app.view_functions:
                _route(app, worker, endpoint)
            elif app is waiting[-1]:
                app.view_functions[endpoint] = worker.view

    def register(self, app: Flask) -> None:
        """Put the workers declared so far into an application, as the routes of a blueprint."""
        blueprint = Blueprint(BLUEPRINT, __name__)
        for endpoint, worker in self._workers.items():
            _route(blueprint, worker, endpoint)
        app.register_blueprint(blueprint)


def _route(place: Flask | Blueprint, worker: Worker[..., Any], endpoint: str) -> None:
    place.add_url_rule(worker.route.rule, endpoint, worker.view, methods=list(worker.route.methods), provide_automatic_options=False)


def _name(worker: Worker[..., Any]) -> str:
    return f"{worker.function.__module__}.{getattr(worker.function, '__qualname__', '')}"
