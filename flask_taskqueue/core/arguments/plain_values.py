"""Plain values, as JSON that says of what kind they were.

What JSON has is written as such; anything else is an object with the key ``$``, its kind, and the
key ``v``. Reading makes values of these kinds and nothing else, so it runs no code of the row's
choosing.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from inspect import isfunction, ismethod
from typing import Any, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from ..errors import InvalidTaskError, PermanentFailure, shown, text_of
from ..json_text import dumps
from .named_functions import NamedFunctions

_KIND = "$"
_FIXED = (type(None), timezone)
_MALFORMED = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)


class Rows(Protocol):
    """The rows of the app's database, by class and primary key."""

    def key_of(self, value: Any) -> tuple[Any, ...] | None:
        """Return the primary key of a row; None for any other value.

        Raises `InvalidTaskError` for a row that has none yet.
        """

    def load(self, kind: type, key: tuple[Any, ...]) -> Any:
        """Return the row of a class with this key. Raises `PermanentFailure` if there is none."""


def _time(value: datetime | time) -> list[Any]:
    zone = value.tzinfo
    if isinstance(zone, _FIXED):
        return [value.isoformat(), None, value.fold]
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        return [value.replace(tzinfo=None).isoformat(), zone.key, value.fold]
    raise InvalidTaskError(f"a time zone of type {type(zone).__name__} cannot be stored: use UTC")


def _read_time(kind: type[Any]) -> Callable[[Any], Any]:
    def read(stored: Any) -> Any:
        text, zone, fold = stored
        found = kind.fromisoformat(text)
        return found.replace(fold=fold, tzinfo=found.tzinfo if zone is None else ZoneInfo(zone))

    return read


_SIMPLE: Mapping[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: (
        lambda value: base64.b64encode(value).decode(),
        lambda v: base64.b64decode(v, validate=True),
    ),
    datetime: (_time, _read_time(datetime)),
    time: (_time, _read_time(time)),
    date: (date.isoformat, date.fromisoformat),
    timedelta: (
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda v: timedelta(*v),
    ),
    Decimal: (str, Decimal),
    UUID: (str, UUID),
    float: (repr, float),
}
"""Kinds of values, each with how it is written and how it is read."""
_SEVERAL: Mapping[type, Callable[[list[Any]], Any]] = {
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    dict: lambda items: dict(items),
}
_KINDS = {kind.__name__: kind for kind in (*_SIMPLE, *_SEVERAL)}


@dataclass(frozen=True, slots=True)
class PlainValues:
    """A writer and reader of values; ``functions`` and ``rows`` say what they may refer to."""

    functions: NamedFunctions
    rows: Rows

    def encoded(self, value: Any) -> Any:
        """Return what JSON has for a value. Raises `InvalidTaskError` if it has nothing for it."""
        try:
            found = self.encode(value)
            dumps(found)
            return found
        except InvalidTaskError:
            raise
        except (TypeError, ValueError) as error:
            raise InvalidTaskError(f"it cannot be stored: {error}") from error
        except RecursionError:
            raise InvalidTaskError("it is nested too deeply, or holds itself") from None

    def decoded(self, stored: Any) -> Any:
        """Return the value for which JSON has this.

        Raises `PermanentFailure` for what `encoded` never returns, and for a row that is gone.
        """
        try:
            return self.decode(stored)
        except _MALFORMED as error:
            raise PermanentFailure(f"the task holds no plain values: {text_of(error)}") from error

    def loaded(self, text: bytes) -> Any:
        """Return what JSON holds, not decoded. Raises `PermanentFailure`."""
        try:
            return json.loads(text)
        except _MALFORMED as error:
            raise PermanentFailure(f"the task holds no JSON: {text_of(error)}") from error

    def encode(self, value: Any) -> Any:
        """Return what JSON has for a value, part by part."""
        kind = type(value)
        if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
            return value
        if kind is list:
            return [self.encode(item) for item in value]
        if kind is dict and _KIND not in value and all(type(key) is str for key in value):
            return {key: self.encode(item) for key, item in value.items()}
        if kind in _SIMPLE:
            return _tagged(kind.__name__, _SIMPLE[kind][0](value))
        if kind in _SEVERAL:
            items = value.items() if kind is dict else value
            return _tagged(kind.__name__, [self.encode(item) for item in items])
        return self._encode_reference(value)

    def _encode_reference(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, Enum):
            if kind.__members__.get(value.name) is not value:
                raise InvalidTaskError(f"{shown(value)} has no name of its own")
            return _tagged("enum", [self.functions.class_name(kind), value.name])
        if isinstance(value, type):
            return _tagged("class", self.functions.class_name(value))
        if isfunction(value) or ismethod(value):
            return _tagged("function", self.functions.name_of(value))
        key = self.rows.key_of(value)
        if key is None:
            raise InvalidTaskError(
                f"a value of type {kind.__module__}.{kind.__qualname__} cannot be stored: give its "
                "key, or plain values"
            )
        return _tagged(
            "row", [self.functions.class_name(kind), [self.encode(item) for item in key]]
        )

    def decode(self, stored: Any) -> Any:
        """Return the value for which JSON has this, part by part."""
        if isinstance(stored, list):
            return [self.decode(item) for item in stored]
        if not isinstance(stored, dict):
            return stored
        if _KIND not in stored:
            return {key: self.decode(item) for key, item in stored.items()}
        if stored.keys() != {_KIND, "v"}:
            raise ValueError(f"{shown(stored)} has no kind of value")
        return self._decode_kind(stored[_KIND], stored["v"])

    def _decode_kind(self, name: Any, stored: Any) -> Any:
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is not None and kind in _SIMPLE:
            return _SIMPLE[kind][1](stored)
        if kind is not None:
            return _SEVERAL[kind]([self.decode(item) for item in stored])
        if name == "class":
            return self.functions.find_class(stored)
        if name == "function":
            return self.functions.find(stored)
        if name not in ("enum", "row"):
            raise ValueError(f"there is no kind of value {shown(name)}")
        of, rest = stored
        found = self.functions.find_class(of)
        if name == "row":
            return self.rows.load(found, tuple(self.decode(item) for item in rest))
        if not issubclass(found, Enum):
            raise ValueError(f"{shown(of)} is no Enum")
        return found.__members__[rest]


def _tagged(kind: str, value: Any) -> dict[str, Any]:
    return {_KIND: kind, "v": value}
