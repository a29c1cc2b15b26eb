"""A handler's named parameters: filled from the task, converted by their annotations."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, Union
from uuid import UUID

from .errors import PermanentFailure

_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_MISSING = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    annotation: Any
    default: Any
    many: bool
    optional: bool


class Parameters:
    """The named parameters of one handler."""

    def __init__(self, handler: str, parameters: Mapping[str, _Parameter], rest: bool) -> None:
        self.names = frozenset(parameters) | ({"**"} if rest else set())
        self._handler = handler
        self._parameters = parameters
        self._rest = rest

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """The parameters of a function. Raises TypeError for one that cannot be filled by name."""
        name = getattr(function, "__qualname__", repr(function))
        hints = type_hints(function)
        parameters: dict[str, _Parameter] = {}
        rest = False
        for one in inspect.signature(function).parameters.values():
            if one.kind in (one.POSITIONAL_ONLY, one.VAR_POSITIONAL):
                raise TypeError(f"parameter {one.name!r} of handler {name} cannot be filled by name: make it an ordinary one")
            if one.kind is one.VAR_KEYWORD:
                rest = True
            else:
                parameters[one.name] = _parameter(name, one, hints.get(one.name))
        return cls(name, parameters, rest)

    def bind(self, values: Mapping[str, Any], *, skip: Collection[str] = ()) -> dict[str, Any]:
        """The arguments for a call. A form brings a list per name, a JSON object a value.

        Names in ``skip`` (variables of the URL) are filled already. Raises `PermanentFailure`
        naming the parameter that is missing or cannot be converted.
        """
        arguments: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if name in skip:
                continue
            value = self._value(parameter, values.get(name, _MISSING))
            if value is not _MISSING:
                arguments[name] = value
        if self._rest:
            arguments |= {name: _single(value) for name, value in values.items() if name not in self._parameters}
        return arguments

    def _value(self, parameter: _Parameter, raw: Any) -> Any:
        if raw is _MISSING or raw == []:
            if parameter.default is not _MISSING:
                return _MISSING
            if parameter.optional:
                return None
            raise PermanentFailure(f"parameter {parameter.name!r} of handler {self._handler} is missing from the task")
        if raw is None and parameter.optional:
            return None
        try:
            if parameter.many:
                return [_convert(parameter.annotation, one) for one in (raw if isinstance(raw, list) else [raw])]
            return _convert(parameter.annotation, _single(raw))
        except (ValueError, TypeError, InvalidOperation) as error:
            wanted = getattr(parameter.annotation, "__name__", str(parameter.annotation))
            raise PermanentFailure(f"parameter {parameter.name!r} of handler {self._handler} has a value that is no {wanted}") from error


def dump(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a task for a handler called so. Raises TypeError when the arguments do not fit."""
    bound = _signature(function).bind(*args, **kwargs)
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        named |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return {name: _text(value) for name, value in named.items() if value is not None}


_signature = lru_cache(maxsize=1024)(inspect.signature)


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """What the parameters are annotated with. The return annotation may name what is not there at run time."""

    def bare() -> None: ...

    plain = inspect.unwrap(function)
    bare.__annotations__ = {name: hint for name, hint in getattr(plain, "__annotations__", {}).items() if name != "return"}
    return typing.get_type_hints(bare, globalns=getattr(plain, "__globals__", {}))


def _parameter(handler: str, one: inspect.Parameter, hint: Any) -> _Parameter:
    optional = False
    if typing.get_origin(hint) in (Union, types.UnionType):
        choices = [choice for choice in typing.get_args(hint) if choice is not type(None)]
        optional = len(choices) < len(typing.get_args(hint))
        hint = choices[0] if len(choices) == 1 else _refuse(handler, one)
    many = typing.get_origin(hint) is list
    if many:
        hint = typing.get_args(hint)[0]
    if not (hint in (None, Any, object) or hint in _CONVERTERS or _is_enum(hint) or typing.get_origin(hint) is Literal):
        _refuse(handler, one)
    return _Parameter(one.name, hint, one.default, many, optional)


def _refuse(handler: str, one: inspect.Parameter) -> Any:
    raise TypeError(
        f"parameter {one.name!r} of handler {handler} is annotated {one.annotation!r}, to which a task's value cannot be converted; "
        "use str, int, float, bool, datetime, date, UUID, Decimal, an Enum, a Literal, or a list or | None of one"
    )


def _single(raw: Any) -> Any:
    return raw[-1] if isinstance(raw, list) and raw else raw


def _convert(annotation: Any, raw: Any) -> Any:
    if annotation in (None, Any, object):
        return raw
    if _is_enum(annotation):
        return _enum(annotation, raw)
    if typing.get_origin(annotation) is Literal:
        return next(choice for choice in typing.get_args(annotation) if str(choice) == str(raw)) if _offered(annotation, raw) else _fail()
    return _CONVERTERS[annotation](raw)


def _offered(annotation: Any, raw: Any) -> bool:
    return str(raw) in map(str, typing.get_args(annotation))


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _enum(annotation: type[Enum], raw: Any) -> Enum:
    for member in annotation:
        if str(member.value) == str(raw):
            return member
    return annotation[raw] if raw in annotation.__members__ else _fail()


def _fail() -> Any:
    raise ValueError


def _to_text(raw: Any) -> str:
    return raw if isinstance(raw, str) else str(_number(raw))


def _number(raw: Any) -> Any:
    return raw if isinstance(raw, int | float) and not isinstance(raw, bool) else _fail()


def _to_int(raw: Any) -> int:
    if isinstance(raw, str):
        return int(raw)
    return int(raw) if _number(raw) == int(raw) else _fail()


def _to_float(raw: Any) -> float:
    return float(raw if isinstance(raw, str) else _number(raw))


def _to_bool(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    return _TRUTHS[str(raw).lower()] if str(raw).lower() in _TRUTHS else _fail()


def _to_datetime(raw: Any) -> datetime:
    instant = datetime.fromisoformat(raw)
    return instant if instant.tzinfo is not None else _fail()


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    str: _to_text,
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    datetime: _to_datetime,
    date: date.fromisoformat,
    UUID: UUID,
    Decimal: lambda raw: Decimal(str(raw)),
    dict: lambda raw: raw if isinstance(raw, dict) else _fail(),
}


def _text(value: Any) -> Any:
    if isinstance(value, Enum):
        return _text(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | tuple | set | frozenset):
        return [_text(one) for one in value]
    return str(value)
