"""The application's routes, to which tasks' URLs lead."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import BuildError, MapAdapter, RequestRedirect

from ..core.arguments.equality import same
from ..core.arguments.form import Call
from ..core.errors import InvalidUrlError
from ..core.urls import check_path, redacted
from ..engine.own_address import own_subdomain
from ..process.logs import get_logger
from ..runtime import Runtime
from .parsed_rules import match
from .rules import registered_endpoint
from .worker import Worker, worker_behind

_logger = get_logger()

_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """A path of the application, with the worker that answers there, if one does."""

    path: str
    worker: Worker[..., Any] | None


def answers(app: Flask, url: str, method: str, *, redirected: bool = False) -> bool:
    """Return whether a delivery to a path, which may have a query, meets a route of the app.

    One to a path that the URL map redirects meets none, unless it may be ``redirected``.
    """
    try:
        match(bound(app), url.partition("?")[0], method)
    except RequestRedirect:
        return redirected
    except HTTPException:
        return False
    return True


def bound(app: Flask) -> MapAdapter:
    """Return an application's URL map as the deliveries to its own routes meet it."""
    runtime: Runtime = app.extensions["taskqueue"]
    return app.url_map.bind("localhost", subdomain=own_subdomain(app, runtime.settings))


class RouteFinder:
    """A finder of one application's routes.

    It remembers what it has found, because the routes no longer change.
    """

    def __init__(self, app: Flask) -> None:
        self._of = weakref.ref(app)
        self._found: dict[tuple[str, str], FoundRoute] = {}
        self._endpoints: dict[Worker[..., Any], str] = {}
        self._fixed: dict[tuple[str, str], str] = {}
        self._variables: dict[str, frozenset[str]] = {}
        self._bound: MapAdapter | None = None

    def find(self, url: str, method: str, *, may_be_missing: bool = False) -> FoundRoute:
        """Return the route that answers a path, which may have a query.

        If no route answers the path with this method, this raises `InvalidUrlError` in debug mode
        and testing, unless it ``may_be_missing``. Otherwise it logs a warning, because something in
        front of the application may serve the path.
        """
        path, mark, query = url.partition("?")
        route = self._found.get((path, method))
        if route is None and may_be_missing:
            if not answers(self._app, path, method, redirected=True):
                return FoundRoute(url, None)
        if route is None:
            route = self._match(path, method)
            if len(self._found) < _MOST_REMEMBERED:
                self._found[path, method] = route
        return FoundRoute(route.path + mark + query, route.worker)

    def endpoint_of(self, worker: Worker[..., Any]) -> str:
        """Return the endpoint under which a worker is registered.

        Raises `InvalidUrlError` if it is not registered.
        """
        if worker in self._endpoints:
            return self._endpoints[worker]
        endpoint = self._endpoints[worker] = registered_endpoint(self._app, worker)
        return endpoint

    def build(
        self,
        endpoint: str,
        values: dict[str, Any],
        method: str,
        given: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[str, dict[str, Any]]:
        """Return the path of an endpoint, and the values that its rule has no place for.

        Raises `InvalidUrlError` if there is none, if it leads elsewhere, or if the view would get
        other values from its variables than those ``given``.
        """
        if (endpoint, method) in self._fixed:
            return self._fixed[endpoint, method], values
        variables = self._variables_of(endpoint)
        filled = {key: _single(key, values[key]) for key in variables & values.keys()}
        path = self._built(endpoint, self._completed(endpoint, filled, variables), method)
        self._prove(endpoint, path, method, given)
        if not variables:
            self._fixed[endpoint, method] = path
        return path, {key: value for key, value in values.items() if key not in variables}

    def build_call(
        self, worker: Worker[..., Any], params: dict[str, Any], method: str
    ) -> tuple[str, dict[str, Any]]:
        """Return the path that calls a worker, and the params that its rule has no place for.

        Raises `InvalidUrlError` if the path leads elsewhere, or if the handler would get values
        from the path's variables that differ from those of a `Call`.
        """
        endpoint = self.endpoint_of(worker)
        if (endpoint, method) in self._fixed:
            return self._fixed[endpoint, method], params
        given = params.given if isinstance(params, Call) else {}
        path, rest = self.build(endpoint, {**params, **given}, method, given)
        return path, {name: value for name, value in params.items() if name in rest}

    def _variables_of(self, endpoint: str) -> frozenset[str]:
        if endpoint not in self._variables:
            rules = [rule for rule in self._app.url_map.iter_rules() if rule.endpoint == endpoint]
            if not rules:
                raise InvalidUrlError(
                    f"{redacted(endpoint)!r} is no endpoint of this application; a path "
                    "begins with a slash" + _nearest(endpoint, self._app.view_functions)
                )
            self._variables[endpoint] = frozenset().union(*(rule.arguments for rule in rules))
        return self._variables[endpoint]

    def _completed(
        self, endpoint: str, filled: Mapping[str, Any], variables: frozenset[str]
    ) -> dict[str, Any]:
        """Return the values of a URL's variables, completed by the app's ``url_defaults``.

        Raises `InvalidUrlError` if ``url_defaults`` fail here.
        """
        values = dict(filled)
        if variables <= values.keys():
            return values
        try:
            self._app.inject_url_defaults(endpoint, values)
        except (
            AttributeError,
            LookupError,
            RuntimeError,
        ) as error:  # the function looks at a request, or at what one has left in g
            missing = sorted(variables - filled.keys())
            raise InvalidUrlError(
                f"the URL of endpoint {endpoint!r} has a place for "
                f"{', '.join(map(repr, missing))}, and url_defaults of the application "
                "cannot fill it here, outside of a request perhaps "
                f"({type(error).__name__}): give it as a param, as in "
                f"tasks.add({endpoint!r}, {{{missing[0]!r}: ...}})"
            ) from error
        return {name: value for name, value in values.items() if name in variables}

    def _built(self, endpoint: str, values: dict[str, Any], method: str) -> str:
        try:
            url = urlsplit(self._adapter().build(endpoint, values, method))
        except (
            BuildError,
            ArithmeticError,
            AttributeError,
            TypeError,
            ValueError,
        ) as error:  # a converter may raise any of them
            reason = (
                error
                if isinstance(error, BuildError)
                else f"{type(error).__name__} for the values of {', '.join(sorted(values))}"
            )
            raise InvalidUrlError(
                f"the URL of endpoint {endpoint!r} cannot be built: {reason}"
            ) from error
        if url.netloc:
            raise InvalidUrlError(
                f"endpoint {endpoint!r} is on a subdomain that tasks do not go to: give the whole "
                "URL, which TASKQUEUE_TARGETS must allow, or set TASKQUEUE_BASE_URL to a host of "
                "that subdomain"
            )
        return url.path

    def _prove(self, endpoint: str, path: str, method: str, given: Mapping[str, Any]) -> None:
        """Check that a path leads to the view of an endpoint, with these values.

        Raises `InvalidUrlError` otherwise.
        """
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise InvalidUrlError(
                f"{redacted(path)!r} has a part '.' or '..', which HTTP takes away: give the "
                "value as a param"
            )
        try:
            found, variables = match(self._adapter(), path, method)
        except HTTPException as error:
            raise InvalidUrlError(
                f"no route answers {method} {redacted(path)!r}, which is the URL of "
                f"{endpoint!r} with these values"
            ) from error
        views = self._app.view_functions
        if views.get(found.endpoint) != views.get(endpoint):
            raise InvalidUrlError(
                f"{redacted(path)!r} is answered by endpoint {found.endpoint!r}, not by "
                f"{endpoint!r}: give one another URL"
            )
        for name in variables.keys() & given.keys():
            if not same(given[name], variables[name]):
                raise InvalidUrlError(
                    f"{name!r} has a value of type {type(given[name]).__name__}, which would "
                    f"be another in the URL of {endpoint!r}, "
                    f"of type {type(variables[name]).__name__}: give it as the rule's "
                    "converter makes it"
                )

    @property
    def _app(self) -> Flask:
        app = self._of()
        if app is None:
            raise RuntimeError("the application of these routes is gone")
        return app

    def _match(self, path: str, method: str) -> FoundRoute:
        try:
            rule, _ = match(self._adapter(), path, method)
        except RequestRedirect as redirect:
            canonical = check_path(urlsplit(redirect.new_url).path)
            _logger.warning("%s redirects to %s; the task goes there at once", path, canonical)
            return FoundRoute(canonical, self._match(canonical, method).worker)
        except MethodNotAllowed as error:
            self._object(
                f"no route of the application answers {method} {path}; it answers "
                f"{', '.join(error.valid_methods or ())}"
            )
        except NotFound:
            rules = (
                rule.rule
                for rule in self._app.url_map.iter_rules()
                if method in (rule.methods or ())
            )
            nearest = _nearest(path.partition("?")[0], rules)
            self._object(f"no route of the application answers {method} {path}{nearest}")
        else:
            return FoundRoute(path, worker_behind(self._app.view_functions.get(rule.endpoint)))
        return FoundRoute(path, None)

    def _object(self, complaint: str) -> None:
        if self._app.debug or self._app.testing:
            raise InvalidUrlError(complaint)
        _logger.warning("%s; the task is stored all the same", complaint)

    def _adapter(self) -> MapAdapter:
        if self._bound is None:
            self._bound = bound(self._app)
        return self._bound


def _nearest(given: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" if a known name is similar, and an empty text otherwise."""
    matches = get_close_matches(given, known, n=1, cutoff=0.7)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _single(name: str, value: Any) -> Any:
    """Return the value of a variable or, of a list such as a MultiDict has, the only one.

    Raises `InvalidUrlError` if the list does not hold exactly one.
    """
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise InvalidUrlError(
            f"the URL has one place for {name!r}, and there are {len(value)} values for it"
        )
    return value[0]
