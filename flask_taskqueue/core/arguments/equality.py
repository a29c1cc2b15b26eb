"""Comparison of a value with the one that would arrive: equal, with the same types throughout."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from inspect import signature
from typing import Any

_PLAIN = frozenset({str, int, bool, bytes, type(None)})
_INSTANTS = (datetime, date)  # in a tuple, where tools that freeze clocks in tests leave them


def same(given: Any, arrived: Any) -> bool:
    """Return whether ``arrived`` is what was given.

    True is not 1, and 1 is 1.0 only where a float was asked for. An aware datetime is the same if
    its clock shows the same with the same offset; the name of its time zone does not matter.
    """
    kind = type(given)
    if kind in _PLAIN:
        return bool(given == arrived) and (
            kind is type(arrived) or (kind is int and type(arrived) is float)
        )
    if isinstance(given, datetime | time | date):
        return _same_instant(given, arrived)
    if kind is not type(arrived):
        return False
    if isinstance(given, float):
        return bool(given == arrived) and math.copysign(1, given) == math.copysign(1, arrived)
    if isinstance(given, Decimal):
        return bool(given.as_tuple() == arrived.as_tuple())
    return _same_parts(given, arrived)


def _same_parts(given: Any, arrived: Any) -> bool:
    if isinstance(given, Mapping):
        return _same_row(given.keys(), arrived.keys()) and _same_row(
            given.values(), arrived.values()
        )
    if isinstance(given, list | tuple | deque):
        kept = not isinstance(given, deque) or given.maxlen == arrived.maxlen
        return kept and _same_row(given, arrived)
    if isinstance(given, set | frozenset):
        found = {member: member for member in arrived}
        return bool(given == arrived) and all(same(member, found[member]) for member in given)
    names = _field_names(given)
    if names is not None:
        return all(same(getattr(given, name), getattr(arrived, name, None)) for name in names)
    return bool(given == arrived)


def _same_row(given: Any, arrived: Any) -> bool:
    return len(given) == len(arrived) and all(map(same, given, arrived))


def _field_names(value: Any) -> list[str] | None:
    kind = type(value)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        beside = value.__dataclass_fields__.keys() - names  # ClassVar and InitVar
        if beside and beside & signature(kind).parameters.keys():
            # No task holds an InitVar, so what was made of it must be what its default makes.
            names += getattr(value, "__dict__", ())
        return names
    attributes = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else [field.name for field in attributes]


def _same_instant(given: Any, arrived: Any) -> bool:
    if type(given) is not type(arrived) and not _is_frozen(given, arrived):
        return False
    if isinstance(given, datetime | time):
        zones = given.tzinfo is None, arrived.tzinfo is None
        if (
            zones[0] != zones[1]
            or given.utcoffset() != arrived.utcoffset()
            or (zones[0] and given.fold != arrived.fold)
        ):
            return False
        return bool(given.replace(tzinfo=None, fold=0) == arrived.replace(tzinfo=None, fold=0))
    return bool(given == arrived)


def _is_frozen(given: Any, arrived: Any) -> bool:
    """Return whether the types differ only because a test has replaced datetime and date."""
    known = {*_INSTANTS, datetime, date}
    return (
        type(given) in known
        and type(arrived) in known
        and isinstance(given, _INSTANTS[0]) == isinstance(arrived, _INSTANTS[0])
    )
