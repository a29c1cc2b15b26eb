"""Checks of worker rules: which are valid, and which exclude each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from ..core.arguments.functions import name_of
from ..core.errors import ConfigurationError, InvalidUrlError
from ..core.settings.app import Settings
from ..core.tasks.request import METHODS
from ..engine.own_address import in_process_url, own_subdomain
from .webhooks import declared_behind
from .worker import Worker, worker_behind

BLUEPRINT = "taskqueue"
"""The blueprint of workers that are on none of the app's own."""


def check_rule(rule: Any, *, on_blueprint: bool) -> str:
    """Return a worker's rule. Raise `ConfigurationError` if it is not valid."""
    if callable(rule):
        name = getattr(rule, "__name__", "handler")
        raise ConfigurationError(
            f'@tasks.worker needs the URL of handler {name}: write @tasks.worker("/{name}"), '
            "or @tasks.task for none"
        )
    if not isinstance(rule, str) or not (rule.startswith("/") or (on_blueprint and not rule)):
        raise ConfigurationError(
            f"the rule of a worker is {rule!r}; it must be a path that begins with a slash, "
            "such as '/worker'"
        )
    return rule


def check_methods(rule: str, methods: Any) -> tuple[str, ...]:
    """Return a worker's methods in capitals.

    Raises `ConfigurationError` if there are none, or if one is not a method that a task can have.
    """
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        raise ConfigurationError(
            f"methods of worker {rule!r} is {methods!r}; it must be a tuple, such as ('POST',)"
        )
    found = tuple(method.upper() if isinstance(method, str) else method for method in methods)
    wrong = [method for method in found if method not in METHODS]
    if wrong or not found:
        said = f"have {wrong[0]!r}" if wrong else "are none"
        raise ConfigurationError(
            f"the methods of worker {rule!r} {said}; give at least one of {', '.join(METHODS)}"
        )
    return found


def check_endpoint(endpoint: Any) -> None:
    """Raise `ConfigurationError` if a name cannot be an endpoint."""
    if not isinstance(endpoint, str) or not endpoint or "." in endpoint:
        raise ConfigurationError(
            f"the endpoint of a worker is {endpoint!r}; it must be a name without a dot, "
            "which parts it from its blueprint's"
        )


def worker_rules(app: Flask) -> Iterator[tuple[Rule, Worker[..., Any]]]:
    """Yield the rules of an application that workers answer, each with its worker."""
    for rule in app.url_map.iter_rules():
        worker = worker_behind(app.view_functions.get(rule.endpoint))
        if worker is not None:
            yield rule, worker


def registered_endpoint(app: Flask, worker: Worker[..., Any]) -> str:
    """Return the endpoint under which a worker is registered in an application.

    Raises `InvalidUrlError` if it is not, or no longer.
    """
    for endpoint, view in app.view_functions.items():
        if worker_behind(view) is worker:
            return endpoint
    own = f"{BLUEPRINT}.{worker.route.endpoint}"
    if own not in app.view_functions:
        why = (
            "has no route in this application: call tasks.init_app(app), and register the "
            "blueprint it is on"
        )
    elif worker_behind(app.view_functions[own]) is None:
        why = (
            f"no longer has its route, because view_functions[{own!r}] was replaced: wrap the view "
            "with functools.wraps"
        )
    else:
        why = (
            f"no longer has its route, because a function declared later is {own!r} too: give one "
            "of them a name of its own"
        )
    raise InvalidUrlError(f"{worker.function.__module__}.{name_of(worker.function)} {why}")


def check_routes(app: Flask) -> None:
    """Raise `ConfigurationError` if a worker's or webhook's rule has the same URLs as another.

    The other rule may be that of any view.
    """
    for known, rule in _doubles(app.url_map.iter_rules()):
        first, second = (
            app.view_functions.get(known.endpoint),
            app.view_functions.get(rule.endpoint),
        )
        if first != second and (declared_behind(first) or declared_behind(second)):
            raise clash(known, rule)


def check_reached(app: Flask, rule: Rule, settings: Settings) -> None:
    """Raise `ConfigurationError` if a worker's rule is on a subdomain that tasks do not go to."""
    own = own_subdomain(app, settings)
    if rule.subdomain != own:
        raise ConfigurationError(
            f"worker {rule.endpoint!r} is on {_place(rule.subdomain)}, and tasks go to "
            f"{_place(own)} ({in_process_url(app, settings)}), where another route could run for "
            "it: put the worker on a blueprint that is there, or set TASKQUEUE_BASE_URL to a host "
            "that the worker is on"
        )


def check_new(app: Flask, new: Rule) -> None:
    """Raise `ConfigurationError` if an application already has a rule for a new rule's URLs.

    Rules of the same endpoint are allowed.
    """
    for known in app.url_map.iter_rules():
        if known.endpoint != new.endpoint and excludes(known, new):
            raise clash(known, new)


def excludes(known: Rule, rule: Rule) -> bool:
    """Return whether two rules have the same URLs and a method in common."""
    return _pattern(known) == _pattern(rule) and bool(_common(known, rule))


def clash(known: Rule, rule: Rule) -> ConfigurationError:
    """Return the error for two rules that exclude each other."""
    same = f"{', '.join(sorted(_common(known, rule)))} {rule.rule}"
    also = "" if known.rule == rule.rule else f" (as {known.rule})"
    return ConfigurationError(
        f"{same} is the URL of {rule.endpoint!r} and{also} of {known.endpoint!r}, so that "
        "one would run for the other: "
        "give one of them another URL or another method"
    )


def _place(subdomain: str | None) -> str:
    return f"subdomain {subdomain!r}" if subdomain else "the domain itself"


def _doubles(rules: Iterable[Rule]) -> Iterator[tuple[Rule, Rule]]:
    seen: dict[Hashable, list[Rule]] = {}
    for rule in rules:
        alike = seen.setdefault(_pattern(rule), [])
        yield from (
            (known, rule)
            for known in alike
            if known.endpoint != rule.endpoint and _common(known, rule)
        )
        alike.append(rule)


def _pattern(rule: Rule) -> Hashable:
    """Return what identifies the URLs that a rule matches.

    It consists of the rule's parts, without the names of its variables.
    """
    return tuple((part.content, part.static, part.final, part.suffixed) for part in rule._parts)


def _common(known: Rule, rule: Rule) -> set[str]:
    if known.build_only or rule.build_only or known.websocket != rule.websocket:
        return set()
    if known.methods is None or rule.methods is None:
        return (
            {"every method"}
            if known.methods is rule.methods
            else set(known.methods or rule.methods or ())
        )
    return set(known.methods & rule.methods)
