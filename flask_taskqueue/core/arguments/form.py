"""Params: values by name, as a form or a query can express them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, KeysView, Mapping, ValuesView
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from ..errors import InvalidTaskError


class Call(dict[str, Any]):
    """The params of a call to a handler: texts for a form, the original arguments in ``given``.

    The variables of the handler's URL are made from ``given``, because only the app knows them.
    """

    __slots__ = ("given",)

    def __init__(self, texts: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__(texts)
        self.given: Mapping[str, Any] = given


_SEVERAL = (list, tuple, set, frozenset, range, Iterator, KeysView, ValuesView)


def fields(params: Any) -> dict[str, Any]:
    """Return params by name, with a list for several values of one name.

    A MultiDict, such as ``request.form``, may have several. Raises `InvalidTaskError` for anything
    but a mapping.
    """
    if type(params) is dict or isinstance(params, Call):
        return params
    if not isinstance(params, Mapping):
        raise InvalidTaskError(
            f"params are {type(params).__name__}; they must be a mapping from names to values"
        )
    lists: Callable[[], Any] | None = getattr(params, "lists", None)
    return dict(lists()) if lists is not None else _collected(params)


def listed(params: Any) -> dict[str, Any]:
    """Return params that can be sent more than once, with a list in place of each iterator.

    Raises `InvalidTaskError` for a value that `encode` refuses.
    """
    found = {
        name: list(value) if isinstance(value, Iterator) else value
        for name, value in fields(params).items()
    }
    encode(found)
    return found


def encode(params: Mapping[str, Any]) -> str:
    """Return params as a form, in which a list repeats its name.

    A form can express texts, numbers, dates and UUIDs. Raises `InvalidTaskError`, naming the param,
    for everything else: None, an empty list, objects, and values that would be read as other ones.
    """
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if type(name) is not str or not name.isascii():
            name = _name(name)
        if type(value) is str and value.isascii():
            pairs.append((name, value))
        elif isinstance(value, _SEVERAL) and not hasattr(value, "_fields"):
            before = len(pairs)
            pairs += [(name, _text(name, item)) for item in value]
            if len(pairs) == before:
                raise InvalidTaskError(
                    f"param {name!r} is empty, which a form cannot say: leave it out, or use json="
                )
        else:
            pairs.append((name, _text(name, value)))
    return urlencode(pairs)


def form_text(value: Any) -> str | None:
    """Return the text of an argument in a form; None for a value that a form cannot express.

    Members of an Enum are written as the texts of their values, and a naive datetime as it is: the
    handler's annotation says what they are.
    """
    if isinstance(value, Enum):
        return None if isinstance(value.value, Enum) else form_text(value.value)
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        return _text("", value)
    except InvalidTaskError:
        return None


def can_be_sent(text: str) -> bool:
    """Return whether a text can be encoded: half of a surrogate pair cannot."""
    return text.isascii() or _is_unicode(text)


def _collected(params: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the params of another mapping that repeats names, with a list for each of them."""
    found: dict[Any, Any] = {}
    for name, value in params.items():
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(name: Any) -> str:
    if not isinstance(name, str) or not can_be_sent(name):
        raise InvalidTaskError(
            f"params have a name of type {type(name).__name__}, which is no text that can be "
            "sent: give a text"
        )
    return str.__str__(name)


def _text(name: str, value: Any) -> str:
    if value is None:
        raise InvalidTaskError(
            f"param {name!r} is None, which a form cannot say: leave it out, or use json="
        )
    for kind, write in _WRITTEN:
        if isinstance(value, kind):
            return write(name, value)
    raise InvalidTaskError(
        f"param {name!r} has a value of type {type(value).__name__}, which a form cannot say: "
        "give a text, a number, a date, a UUID or a list of those, or use json="
    )


def _of_text(name: str, value: str) -> str:
    if not can_be_sent(value):
        raise InvalidTaskError(
            f"param {name!r} holds half of a surrogate pair, which is no text: repair it, or "
            "send bytes as payload="
        )
    return str.__str__(value)


def _of_bytes(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidTaskError(
            f"param {name!r} is bytes that are no UTF-8, which a form cannot say: use payload="
        ) from None


def _of_number(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    try:
        if isinstance(value, int):
            return int.__repr__(value)
    except ValueError:
        raise InvalidTaskError(
            f"param {name!r} has more digits than can be read: send it as hexadecimal text"
        ) from None
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise InvalidTaskError(
            f"param {name!r} is no finite number: give the text that its receiver expects"
        )
    return str(value) if isinstance(value, Decimal) else float.__repr__(value)


def _of_instant(name: str, value: date | time) -> str:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidTaskError(
            f"param {name!r} is a naive datetime: attach its time zone, as in "
            "datetime.now(UTC), or give a text"
        )
    return value.isoformat()


_WRITTEN: tuple[tuple[Any, Callable[[str, Any], str]], ...] = (
    (str, _of_text),
    (int | float | Decimal, _of_number),
    (bytes, _of_bytes),
    (date | time, _of_instant),
    (UUID, lambda _, value: str(value)),
)
