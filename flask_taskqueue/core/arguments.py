"""The arguments of a plain function, as JSON and back, by their annotations."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from datetime import time, timedelta
from decimal import Decimal, InvalidOperation
from types import GenericAlias
from typing import Any
from uuid import UUID

import cattrs
from cattrs.preconf.json import JsonConverter, make_converter

from .errors import InvalidTaskError, PermanentFailure
from .parameters import type_hints

_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_BAD_VALUE = (cattrs.BaseValidationError, cattrs.StructureHandlerNotFoundError, ValueError, TypeError, KeyError, InvalidOperation)


def _converter() -> JsonConverter:
    """JSON for what the standard library writes as text, beside what cattrs knows (datetime, Enum, dataclasses, containers)."""
    converter = make_converter()
    for kind in (UUID, Decimal):
        converter.register_unstructure_hook(kind, str)
        converter.register_structure_hook(kind, lambda text, kind: kind(text))
    converter.register_unstructure_hook(timedelta, timedelta.total_seconds)
    converter.register_structure_hook(timedelta, lambda seconds, _: timedelta(seconds=seconds))
    converter.register_unstructure_hook(time, time.isoformat)
    converter.register_structure_hook(time, lambda text, _: time.fromisoformat(text))
    return converter


_CONVERTER = _converter()


class Arguments:
    """How one function's arguments are written and read.

    An object has a member per parameter, by name; ``*`` and ``**`` parameters have theirs under
    the name with its stars. A parameter added with a default, or moved, leaves stored tasks valid.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        self._signature = inspect.signature(function)
        self._hints = type_hints(function)

    def dump(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call, as JSON holds them.

        Raises TypeError when they do not fit the function, `InvalidTaskError` naming the parameter
        whose value would not be the same when it is read again.
        """
        bound = self._signature.bind(*args, **kwargs)
        return {self._key(name): self._written(name, value) for name, value in bound.arguments.items()}

    def load(self, values: Mapping[str, Any]) -> inspect.BoundArguments:
        """The call that was stored. Raises `PermanentFailure` naming the parameter that is missing, unknown or malformed."""
        keys = {self._key(name): name for name in self._signature.parameters}
        unknown = values.keys() - keys.keys()
        if unknown:
            raise PermanentFailure(f"function {self._name} has no parameter {min(unknown)!r}, which the task brings")
        arguments = {name: self._read(name, values[key]) for key, name in keys.items() if key in values}
        bound = inspect.BoundArguments(self._signature, arguments)
        for one in self._signature.parameters.values():
            if one.name not in arguments and one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                raise PermanentFailure(f"parameter {one.name!r} of function {self._name} is missing from the task")
        bound.apply_defaults()
        return bound

    def _key(self, name: str) -> str:
        return _STARS.get(self._signature.parameters[name].kind, "") + name

    def _hint(self, name: str) -> Any:
        hint = self._hints.get(name, Any)
        kind = self._signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return GenericAlias(tuple, (hint, ...))
        return GenericAlias(dict, (str, hint)) if kind is inspect.Parameter.VAR_KEYWORD else hint

    def _written(self, name: str, value: Any) -> Any:
        hint = self._hint(name)
        try:
            written = json.loads(json.dumps(_CONVERTER.unstructure(value, unstructure_as=hint), allow_nan=False))
            if _CONVERTER.structure(written, hint) == value:
                return written
        except (*_BAD_VALUE, AttributeError, RecursionError) as error:
            raise self._refusal(name, value) from error
        raise self._refusal(name, value)

    def _refusal(self, name: str, value: Any) -> InvalidTaskError:
        hint = self._hints.get(name)
        how = "annotate it with its type" if hint is None else f"it is annotated {getattr(hint, '__name__', hint)}"
        return InvalidTaskError(
            f"parameter {name!r} of function {self._name} has a value of type {type(value).__name__}, "
            f"which JSON would not give back the same; {how}, "
            "or store the data and pass its key"
        )

    def _read(self, name: str, written: Any) -> Any:
        try:
            return _CONVERTER.structure(written, self._hint(name))
        except _BAD_VALUE as error:
            found = f"a value of type {type(written).__name__}, which does not fit"
            raise PermanentFailure(f"parameter {name!r} of function {self._name} has {found}") from error


def result_json(value: Any) -> str | None:
    """What a function returned, as JSON; None if JSON cannot hold it."""
    try:
        return json.dumps(_CONVERTER.unstructure(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
