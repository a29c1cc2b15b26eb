"""Rules as werkzeug parses them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import BaseConverter, Map, MapAdapter, Rule

from ..core.arguments.form import can_be_sent
from ..core.errors import ConfigurationError
from .claimed_request import is_automatic

_UNREACHABLE = re.compile(r"[?#\\\s\x00-\x20\x7f]|/\.{1,2}(?=/|$)")


def bound_rule(rule: str, methods: Iterable[str], endpoint: str, url_map: Map) -> Rule:
    """Return a rule as this map reads it, without adding it to the map.

    Raises LookupError and ValueError as werkzeug does.
    """
    found = Rule(
        rule, methods=list(methods), endpoint=endpoint, strict_slashes=url_map.strict_slashes
    )
    found.bind(url_map)
    return found


def variables_of(rule: str) -> frozenset[str]:
    """Return the variables of a rule, whatever converters it names.

    Raises `ConfigurationError` for a malformed rule.
    """
    try:
        parsed = bound_rule(
            rule if rule.startswith("/") else f"/{rule}", ("POST",), "", _Unconverted()
        )
    # Werkzeug compiles a rule to Python, so a repeated variable name is a SyntaxError.
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the rule {rule!r} of a worker cannot be read: {error}"
        ) from error
    fixed = "".join("x" if is_variable else text for is_variable, text in parsed._trace)
    if _UNREACHABLE.search(fixed) or not can_be_sent(fixed):
        raise ConfigurationError(
            f"the rule {rule!r} of a worker has what no path of a URL has, such as a query, "
            "a blank or two dots: leave it out"
        )
    return frozenset(parsed.arguments)


def match(adapter: MapAdapter, path: str, method: str) -> tuple[Rule, Mapping[str, Any]]:
    """Return the rule whose view answers a path, and the values of its variables.

    Raises as werkzeug does, and MethodNotAllowed if Flask answers in the view's place.
    """
    rule, variables = adapter.match(unquote(path), method=method, return_rule=True)
    if is_automatic(rule, method):
        raise MethodNotAllowed(sorted((rule.methods or set()) - {"OPTIONS"}))
    return rule, variables


class _AnyConverters(dict[str, type[BaseConverter]]):
    """A mapping in which every name is that of a converter.

    Only the application knows which converters there really are.
    """

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> type[BaseConverter]:
        return _AnyConverter


class _AnyConverter(BaseConverter):
    def __init__(self, map: Map, *_: Any, **__: Any) -> None:
        super().__init__(map)


class _Unconverted(Map):
    def __init__(self) -> None:
        super().__init__()
        self.converters = _AnyConverters()
