"""Conversion by annotation: values from JSON or from a form's texts, and back to JSON."""

from __future__ import annotations

import base64
import json
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Any, Literal, Union
from uuid import UUID

import cattrs
from cattrs.preconf.json import JsonConverter, make_converter

from ..json_text import dumps
from .scalars import to_bool, to_decimal, to_duration, to_float, to_instant, to_int, to_text

Read = Callable[[Any, Any], Any]
"""A function that makes a value from JSON, given its annotation."""

BAD_VALUE = (
    cattrs.BaseValidationError,
    cattrs.StructureHandlerNotFoundError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""The errors that converting raises for a value that does not fit."""

_PLAIN = (str, int, float, bool, bytes)


def make(*, naive: bool, form: bool = False) -> JsonConverter:
    """Return a converter for JSON's own types, some of the standard library's, and dataclasses.

    It converts values that the standard library can write as text (dates, durations, UUIDs,
    decimals, enums), dataclasses, and containers of all these. Unless ``naive`` is allowed, a
    datetime must have its offset. In a ``form`` bytes are those of a text; in JSON they are in base
    85.
    """
    converter = make_converter(structure_fallback_factory=_refuse)
    for kind, read in _reads(naive=naive, form=form).items():
        converter.register_structure_hook(
            kind, _exactly(kind, read) if kind in _PLAIN else _ignoring_hint(read)
        )
    for kind, write in _WRITES.items():
        converter.register_unstructure_hook(kind, write)
    converter.register_structure_hook_func(_is_enum, _read_member)
    converter.register_unstructure_hook_func(_is_enum, _written_member)
    converter.register_structure_hook_func(
        _is_literal, lambda raw, hint: _choice(_choices(hint), raw)
    )
    converter.register_structure_hook_func(_is(object), lambda raw, _: raw)
    converter.register_structure_hook_func(_is(type(None)), _none)
    _guard_containers(converter)
    return converter


def _reads(*, naive: bool, form: bool) -> dict[Any, Callable[[Any], Any]]:
    return {
        str: to_text,
        int: to_int,
        float: to_float,
        bool: to_bool,
        Decimal: to_decimal,
        timedelta: to_duration,
        UUID: UUID,
        time: lambda raw: time.fromisoformat(raw),  # late: freezing clocks replaces it
        bytes: str.encode if form else _from_base85,
        datetime: (lambda raw: datetime.fromisoformat(raw)) if naive else to_instant,
    }


_WRITES: dict[Any, Callable[[Any], Any]] = {
    UUID: str,
    Decimal: str,
    timedelta: timedelta.total_seconds,
    time: time.isoformat,
}


def read_of(converter: JsonConverter, hint: Any) -> Read | None:
    """Return a function that makes values of an annotation, or None if there is none."""
    return (
        _hook(converter, hint)
        if all(_hook(converter, part) is not None for part in _parts(hint))
        else None
    )


def written(converter: JsonConverter, value: Any, hint: Any) -> Any:
    """Return a value as JSON holds it. Raises one of `BAD_VALUE`."""
    return json.loads(dumps(converter.unstructure(value, unstructure_as=hint)))


def takes_several(hint: Any) -> bool:
    """Return whether an annotation asks for several values; a form then repeats the name."""
    hint = _bare(hint)
    if _is_union(hint):
        return all(takes_several(part) for part in typing.get_args(hint) if part is not type(None))
    kind = typing.get_origin(hint) or hint
    return (
        isinstance(kind, type)
        and issubclass(kind, Collection)
        and not issubclass(kind, str | bytes | Mapping | Enum)
    )


def may_be_none(hint: Any) -> bool:
    """Return whether an annotation allows None by name."""
    hint = _bare(hint)
    return hint is type(None) or (
        _is_union(hint) and any(may_be_none(part) for part in typing.get_args(hint))
    )


def _from_base85(raw: str) -> bytes:
    found = base64.b85decode(raw)
    if base64.b85encode(found).decode() != raw:
        raise ValueError("not in base 85")
    return found


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda hint: hint is kind


def _exactly(kind: type, read: Callable[[Any], Any]) -> Read:
    """Read values of a type; cattrs also asks it for the enums derived from that type."""
    return lambda raw, hint: read(raw) if hint is kind else _read_member(raw, hint)


def _ignoring_hint(read: Callable[[Any], Any]) -> Read:
    return lambda raw, _: read(raw)


def _none(raw: Any, _: Any) -> None:
    if raw is not None:
        raise TypeError("not null")


def _refuse(hint: Any) -> Read:
    raise cattrs.StructureHandlerNotFoundError("no value can be made of it", hint)


def _bare(hint: Any) -> Any:
    """Return an annotation without its metadata and aliases."""
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _hook(converter: JsonConverter, hint: Any) -> Read | None:
    if (
        isinstance(hint, type)
        and issubclass(hint, _PLAIN)
        and hint not in _PLAIN
        and not _is_enum(hint)
    ):
        return None
    if hasattr(hint, "__mapper__"):  # a row of SQLAlchemy's would arrive as a copy
        return None
    try:
        return converter.get_structure_hook(hint)
    except (
        cattrs.StructureHandlerNotFoundError,
        AttributeError,
        NameError,
        RecursionError,
        TypeError,
    ):
        return None


def _parts(hint: Any) -> Iterator[Any]:
    """Yield the parts of an annotation; cattrs looks at some of them only once there is a value."""
    hint = _bare(hint)
    if not _is_literal(hint):
        for part in typing.get_args(hint):
            if part is not ...:
                yield part
                yield from _parts(part)


def _written_member(member: Enum) -> Any:
    """Return a member's value if JSON can hold it, otherwise its name."""
    value = member.value
    return value if type(value) in (str, int, float, bool) else member.name


def _read_member(raw: Any, hint: Any) -> Any:
    return _member(list(hint), raw) or _composed(hint, raw)


def _member(members: list[Any], raw: Any) -> Any:
    for member in members:
        if type(member.value) is type(raw) and member.value == raw:
            return member
    return next(
        (member for member in members if str(member.value) == str(raw) or member.name == raw), None
    )


def _composed(hint: Any, raw: Any) -> Any:
    """Return an enum member that the enum does not list: several flags combined, or an alias."""
    if isinstance(raw, str) and raw in hint.__members__:
        return hint[raw]
    return hint(to_int(raw) if issubclass(hint, int | Flag) else raw)


def _choices(hint: Any) -> list[tuple[Any, Any]]:
    return [
        (_written_member(choice) if isinstance(choice, Enum) else choice, choice)
        for choice in typing.get_args(hint)
    ]


def _choice(choices: list[tuple[Any, Any]], raw: Any) -> Any:
    for text, choice in choices:
        if type(text) is type(raw) and text == raw:
            return choice
    for text, choice in choices:
        if text is not None and str(text) == str(raw):
            return choice
    raise ValueError("none of the choices")


def _guard_containers(converter: JsonConverter) -> None:
    """Let only a list become a container.

    Without this, cattrs takes a text for a list of its characters, and an object for a list of its
    names.
    """
    building: set[Any] = set()

    def is_wanted(hint: Any) -> bool:
        kind = typing.get_origin(hint) or hint
        return isinstance(kind, type) and takes_several(kind) and hint not in building

    def guarded(hint: Any) -> Read:
        building.add(hint)
        try:
            read = converter.get_structure_hook(hint, cache_result=False)
        finally:
            building.discard(hint)

        def checked(raw: Any, hint: Any) -> Any:
            if not isinstance(raw, list):
                raise TypeError("no list")
            return read(raw, hint)

        return checked

    converter.register_structure_hook_factory(is_wanted, guarded)
