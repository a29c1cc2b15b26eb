"""Errors for arguments that would not arrive unchanged.

They never hold the value, which may be a secret.
"""

from __future__ import annotations

from datetime import datetime, time
from typing import Any

from ..errors import InvalidTaskError
from .form import can_be_sent
from .functions import label


class Misfit(Exception):
    """The task's arguments do not fit its handler, so that it was not called.

    A parameter is missing, there is one too many, or a value cannot be converted. They may fit the
    handler of another release.
    """


_LARGEST = 10**640
"""The most digits of a number; Python may be configured to read no more."""

_REMEDY = "convert it before, annotate the parameter with its type, or store it and pass its key"


def altered(what: str, value: Any, hint: Any, arrived: Any = None) -> InvalidTaskError:
    """Return the error for an argument; ``arrived`` is the value it would become, or None."""
    kind = type(value).__name__
    return InvalidTaskError(
        f"{what} has a value of type {kind}, which would not arrive as it is: "
        f"{_advice(value, hint, arrived)}"
    )


def unconvertible(what: str, hint: Any) -> TypeError:
    """Return the error for an annotation."""
    return TypeError(
        f"{what} is annotated {label(hint)}, to which a task's value cannot be converted; "
        "use what JSON has, datetime, date, time, timedelta, UUID, Decimal, an Enum, a "
        "dataclass, or a list, dict or | None of those. A parameter that no task fills needs a "
        "default"
    )


def unsayable(what: str, value: Any, hint: Any, form: str) -> InvalidTaskError:
    """Return the error for an argument that only JSON can express, where only ``form`` can be."""
    said = f"{what} has a value of type {type(value).__name__}, which {form} cannot say"
    if hint is Any:
        return InvalidTaskError(
            f"{said} as what it is; annotate the parameter with its type, or give the handler a "
            "method that has a body"
        )
    return InvalidTaskError(
        f"{said}; leave it out, or give the handler a method that has a body, such as POST"
    )


def _advice(value: Any, hint: Any, arrived: Any) -> str:
    if isinstance(value, str) and not can_be_sent(value):
        return "half of a surrogate pair is no text; repair it, or send bytes"
    if isinstance(value, int) and arrived is None and abs(value) > _LARGEST:
        return "it has more digits than can be read; send it as hexadecimal text"
    if isinstance(value, datetime | time) and value.tzinfo is None and value.fold:
        return "it is naive, and its fold would be lost; attach its time zone"
    if isinstance(value, time) and value.tzinfo is not None and value.utcoffset() is None:
        return "its time zone has no offset without a date; send a datetime"
    annotated = "has no annotation that says more" if hint is Any else f"is annotated {label(hint)}"
    if arrived is not None and type(arrived) is not type(value):
        return f"it {annotated}, so it would be of type {type(arrived).__name__}; {_REMEDY}"
    return f"it {annotated}; {_REMEDY}"
