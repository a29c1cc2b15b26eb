"""The arguments of a plain function, as JSON and back, by their annotations."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import Any

from .converter import BAD_VALUE, Read, make, read_of, written
from .equality import same
from .functions import name_of, type_hints
from .refusals import Misfit, altered, unconvertible

_STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
_CONVERTER = make(naive=True)


@dataclass(frozen=True, slots=True)
class _Argument:
    """A parameter: its key in the JSON object, and the reader of its value, None if nothing can."""

    key: str
    hint: Any
    read: Read | None
    needed: bool

    @classmethod
    def of(cls, function: str, parameter: inspect.Parameter, hint: Any) -> _Argument:
        if parameter.kind is parameter.VAR_POSITIONAL:
            hint = GenericAlias(tuple, (hint, ...))
        elif parameter.kind is parameter.VAR_KEYWORD:
            hint = (
                typing.get_args(hint)[0]
                if typing.get_origin(hint) is typing.Unpack
                else GenericAlias(dict, (str, hint))
            )
        needed = parameter.default is parameter.empty and parameter.kind not in _STARS
        read = read_of(_CONVERTER, hint)
        if read is None and (needed or parameter.kind in _STARS):
            raise unconvertible(parameter, f"function {function}")
        return cls(_STARS.get(parameter.kind, "") + parameter.name, hint, read, needed)


class Arguments:
    """The writer and reader of one function's arguments.

    The JSON object has a member per parameter, by name; ``*`` and ``**`` parameters have theirs
    under the name with its stars. Stored tasks stay valid when a parameter is moved, or added with
    a default. Raises TypeError for a parameter without default to whose annotation no value can be
    converted.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = name_of(function)
        self._signature = inspect.signature(function)
        hints = type_hints(function)
        self._arguments = {
            name: _Argument.of(self._name, parameter, hints.get(name, Any))
            for name, parameter in self._signature.parameters.items()
        }
        self._keys = {parameter.key: name for name, parameter in self._arguments.items()}

    def dump(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call as JSON holds them.

        Raises TypeError if they do not fit the function, and `InvalidTaskError`, naming the
        parameter, for a value that would not be the same when it is read again.
        """
        bound = self._signature.bind(*args, **kwargs)
        return {
            self._arguments[name].key: self._written(name, value)
            for name, value in bound.arguments.items()
        }

    def load(self, values: Mapping[str, Any]) -> inspect.BoundArguments:
        """Return the stored call.

        Raises `Misfit` naming the parameter that is missing, unknown or malformed.
        """
        unknown = values.keys() - self._keys.keys()
        if unknown:
            raise Misfit(
                f"function {self._name} has no parameter {min(unknown)!r}, which the task brings"
            )
        arguments = {
            name: self._read(name, values[key]) for key, name in self._keys.items() if key in values
        }
        for name, argument in self._arguments.items():
            if argument.needed and name not in arguments:
                raise Misfit(
                    f"parameter {name!r} of function {self._name} is missing from the task"
                )
        bound = inspect.BoundArguments(self._signature, arguments)
        bound.apply_defaults()
        return bound

    def _written(self, name: str, value: Any) -> Any:
        argument = self._arguments[name]
        what = f"parameter {name!r} of function {self._name}"
        arrived: Any = None
        try:
            stored = written(_CONVERTER, value, argument.hint)
            arrived = self._value(argument, stored)
            if same(value, arrived):
                return stored
        except BAD_VALUE as error:
            raise altered(what, value, argument.hint) from error
        raise altered(what, value, argument.hint, arrived)

    def _read(self, name: str, stored: Any) -> Any:
        try:
            return self._value(self._arguments[name], stored)
        except BAD_VALUE as error:
            found = f"a value of type {type(stored).__name__}, which does not fit"
            raise Misfit(f"parameter {name!r} of function {self._name} has {found}") from error

    @staticmethod
    def _value(argument: _Argument, stored: Any) -> Any:
        if argument.read is None:
            raise TypeError("nothing reads it")
        return argument.read(stored, argument.hint)


def result_json(value: Any) -> str | None:
    """Return what a function returned as JSON; None if JSON cannot hold it."""
    try:
        return json.dumps(_CONVERTER.unstructure(value), allow_nan=False)
    except BAD_VALUE:
        return None
