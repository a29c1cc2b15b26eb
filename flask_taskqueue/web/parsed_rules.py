"""Rules as werkzeug reads their texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from werkzeug.routing import BaseConverter, Map, Rule

from ..core.arguments.scalars import can_be_sent
from ..core.errors import ConfigurationError

_UNREACHABLE = re.compile(r"[?#\\\s\x00-\x20\x7f]|/\.{1,2}(?=/|$)")


def bound_rule(rule: str, methods: Iterable[str], endpoint: str, url_map: Map) -> Rule:
    """A rule as this map reads it, without being one of its rules. Raises LookupError and
    ValueError as werkzeug does.
    """
    found = Rule(
        rule, methods=list(methods), endpoint=endpoint, strict_slashes=url_map.strict_slashes
    )
    found.bind(url_map)
    return found


def variables_of(rule: str) -> frozenset[str]:
    """The variables of a rule, whatever converters it names. Raises `ConfigurationError` for a
    malformed one.
    """
    try:
        parsed = bound_rule(
            rule if rule.startswith("/") else f"/{rule}", ("POST",), "", _Unconverted()
        )
    except (
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:  # werkzeug compiles a rule, so a name that is there twice is a SyntaxError
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


class _AnyConverters(dict[str, type[BaseConverter]]):
    """Every name is a converter's: which there are is known to the application only."""

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
