"""Handlers by name: which function answers a task, as pages name it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ..core.arguments.functions import FUNCTIONS, name_of
from .parsed_rules import match
from .routes import bound
from .worker import worker_behind

_WITHIN = "<locals>."


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler of the application: its name, and the rule that it answers.

    The name is that of its function with the module, or the endpoint of a view that is no worker.
    """

    name: str
    rule: str

    @property
    def is_function(self) -> bool:
        """Whether it is a task function, whose URL says nothing but its name."""
        return self.rule.startswith(FUNCTIONS)


def handler_of(app: Flask, url: str, method: str) -> Handler | None:
    """Return the handler that answers a path, which may have a query; None if there is none."""
    if not url.startswith("/"):
        return None
    try:
        rule, _ = match(bound(app), url.partition("?")[0], method)
    except (HTTPException, RequestRedirect):
        return None
    worker = worker_behind(app.view_functions.get(rule.endpoint))
    if rule.rule.startswith(FUNCTIONS):
        return Handler(rule.rule.removeprefix(FUNCTIONS), rule.rule)
    return Handler(rule.endpoint if worker is None else function_name(worker.function), rule.rule)


def function_name(function: Callable[..., Any]) -> str:
    """Return a function's name with its module, without the function that it was defined in."""
    return f"{function.__module__}.{name_of(function).rpartition(_WITHIN)[2]}"
