"""The application's routes: where a task's URL leads."""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import BuildError, MapAdapter, RequestRedirect

from ..core.errors import InvalidUrlError
from ..core.urls import redacted
from .worker import Worker

logger = logging.getLogger("flask_taskqueue")

_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the application, and the worker that answers there, if it is one's."""

    path: str
    worker: Worker[..., Any] | None


class RouteFinder:
    """Finds routes of one application; remembers what it found, for the routes no longer change."""

    def __init__(self, app: Flask) -> None:
        self._of = weakref.ref(app)
        self._found: dict[tuple[str, str], Place] = {}
        self._endpoints: dict[Worker[..., Any], str] = {}
        self._fixed: dict[tuple[str, str], str] = {}

    def find(self, url: str, method: str) -> Place:
        """The route that answers a path (which may have a query).

        A path that no route answers with this method raises `InvalidUrlError` in debug and
        testing and is logged otherwise: it may be served by something in front of the application.
        """
        path, mark, query = url.partition("?")
        place = self._found.get((path, method))
        if place is None:
            place = self._match(path, method)
            if len(self._found) < _MOST_REMEMBERED:
                self._found[path, method] = place
        return Place(place.path + mark + query, place.worker)

    def endpoint_of(self, worker: Worker[..., Any]) -> str:
        """The endpoint under which a worker is registered. Raises `InvalidUrlError` if it is not."""
        if worker in self._endpoints:
            return self._endpoints[worker]
        for endpoint, view in self._app.view_functions.items():
            if getattr(view, "__self__", None) is worker:
                self._endpoints[worker] = endpoint
                return endpoint
        raise InvalidUrlError(
            f"{worker.function.__module__}.{worker.function.__qualname__} has no route in this application: call tasks.init_app(app), "
            "and register the blueprint it is on"
        )

    def build(self, endpoint: str, values: dict[str, Any], method: str) -> tuple[str, dict[str, Any]]:
        """The path of an endpoint, and the values its rule has no place for. Raises `InvalidUrlError`."""
        if (endpoint, method) in self._fixed:
            return self._fixed[endpoint, method], values
        rules = [rule for rule in self._app.url_map.iter_rules() if rule.endpoint == endpoint]
        if not rules:
            raise InvalidUrlError(f"{redacted(endpoint)!r} is no endpoint of this application; a path begins with a slash")
        variables = set().union(*(rule.arguments for rule in rules))
        try:
            path = self._adapter().build(endpoint, {key: values[key] for key in variables & values.keys()}, method)
        except BuildError as error:
            raise InvalidUrlError(f"the URL of endpoint {endpoint!r} cannot be built: {error}") from error
        path = urlsplit(path).path
        if not variables:
            self._fixed[endpoint, method] = path
        return path, {key: value for key, value in values.items() if key not in variables}

    @property
    def _app(self) -> Flask:
        app = self._of()
        if app is None:
            raise RuntimeError("the application of these routes is gone")
        return app

    def _match(self, path: str, method: str) -> Place:
        if self._app.url_map.host_matching or self._app.subdomain_matching:
            return Place(path, None)
        try:
            endpoint, _ = self._adapter().match(path, method=method)
        except RequestRedirect as redirect:
            canonical = urlsplit(redirect.new_url).path
            logger.warning("%s redirects to %s; the task goes there at once", path, canonical)
            return Place(canonical, self._match(canonical, method).worker)
        except MethodNotAllowed as error:
            self._object(f"no route of the application answers {method} {path}; it answers {', '.join(error.valid_methods or ())}")
        except NotFound:
            self._object(f"no route of the application answers {method} {path}")
        else:
            worker = getattr(self._app.view_functions[endpoint], "__self__", None)
            return Place(path, worker if isinstance(worker, Worker) else None)
        return Place(path, None)

    def _object(self, complaint: str) -> None:
        if self._app.debug or self._app.testing:
            raise InvalidUrlError(complaint)
        logger.warning("%s; the task is stored all the same", complaint)

    def _adapter(self) -> MapAdapter:
        return self._app.url_map.bind("localhost")
