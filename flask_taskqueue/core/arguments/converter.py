"""Conversion by annotation: values from JSON or from a form's texts, and back to JSON."""

from __future__ import annotations

import base64
import json
import math
import typing
from collections.abc import Callable
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Any
from uuid import UUID

import cattrs
from cattrs.preconf.json import JsonConverter, make_converter

from ..json_text import dumps
from .functions import is_literal, parts_of, takes_several

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
_TRUTHS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)


def readers(hint: Any) -> tuple[Read, Read] | None:
    """Return what makes values of an annotation from JSON, and from a form's texts.

    None if nothing does: JSON's own types are made, some that the standard library can write as
    text (dates, durations, UUIDs, decimals, enums), dataclasses, and containers of all these.
    """
    # cattrs looks at some of the parts only once there is a value.
    if any(_hook(_JSON, part) is None for part in parts_of(hint)):
        return None
    from_json, from_form = _hook(_JSON, hint), _hook(_FORM, hint)
    return None if from_json is None or from_form is None else (from_json, from_form)


def written(value: Any, hint: Any) -> Any:
    """Return a value as JSON holds it. Raises one of `BAD_VALUE`."""
    return json.loads(dumps(_JSON.unstructure(value, unstructure_as=hint)))


def plain(value: Any) -> Any:
    """Return a value of any type in JSON's own types, as far as there is a way to write it.

    Raises one of `BAD_VALUE`.
    """
    return _JSON.unstructure(value)


def _converter(read_bytes: Callable[[Any], bytes]) -> JsonConverter:
    converter = make_converter(structure_fallback_factory=_refuse)
    for kind, read in (_READS | {bytes: read_bytes}).items():
        converter.register_structure_hook(
            kind, _exactly(kind, read) if kind in _PLAIN else _ignoring_hint(read)
        )
    for kind, write in _WRITES.items():
        converter.register_unstructure_hook(kind, write)
    converter.register_structure_hook_func(_is_enum, _read_member)
    converter.register_unstructure_hook_func(_is_enum, _written_member)
    converter.register_structure_hook_func(
        is_literal, lambda raw, hint: _choice(_choices(hint), raw)
    )
    converter.register_structure_hook_func(_is(object), lambda raw, _: raw)
    converter.register_structure_hook_func(_is(type(None)), _none)
    _guard_containers(converter)
    return converter


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


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


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
    return hint(_to_int(raw) if issubclass(hint, int | Flag) else raw)


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


def _to_text(raw: Any) -> str:
    """Return a text; a number counts as one, a truth value does not."""
    return raw if isinstance(raw, str) else str(_number(raw))


def _to_int(raw: Any) -> int:
    """Return a whole number. Raises ValueError for any other."""
    if isinstance(raw, str):
        return int(raw)
    number = _number(raw)
    return number if isinstance(number, int) else _whole(number)


def _to_float(raw: Any) -> float:
    """Return a number, given as such or as text."""
    return float(raw if isinstance(raw, str) else _number(raw))


def _to_bool(raw: Any) -> bool:
    """Return a truth value, given as such or as a word such as "on" or "0"."""
    if isinstance(raw, bool):
        return raw
    word = str(raw).lower()
    if word not in _TRUTHS:
        raise ValueError("neither true nor false")
    return _TRUTHS[word]


def _to_decimal(raw: Any) -> Decimal:
    """Return a decimal number, given as text or as a JSON number."""
    return Decimal(raw if isinstance(raw, str) else str(_number(raw)))


def _to_duration(raw: Any) -> timedelta:
    """Return the duration of a number of seconds."""
    return timedelta(seconds=_to_float(raw))


def _number(raw: Any) -> Any:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("no number")
    return raw


def _whole(number: float) -> int:
    if not math.isfinite(number) or number != int(number):
        raise ValueError("not whole")
    return int(number)


_READS: dict[Any, Callable[[Any], Any]] = {
    str: _to_text,
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    Decimal: _to_decimal,
    timedelta: _to_duration,
    UUID: UUID,
    time: lambda raw: time.fromisoformat(raw),  # late: freezing clocks replaces it
    datetime: lambda raw: datetime.fromisoformat(raw),
}
_WRITES: dict[Any, Callable[[Any], Any]] = {
    UUID: str,
    Decimal: str,
    timedelta: timedelta.total_seconds,
    time: time.isoformat,
}
_JSON = _converter(_from_base85)
_FORM = _converter(str.encode)
