"""Errors for arguments that would not arrive unchanged.

They never hold the value, which may be a secret.
"""

from __future__ import annotations

import inspect
from datetime import datetime, time
from typing import Any

from ..errors import InvalidTaskError
from .functions import label
from .scalars import can_be_sent


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


def unconvertible(parameter: inspect.Parameter, of: str) -> TypeError:
    """Return the error for an annotation."""
    return TypeError(
        f"parameter {parameter.name!r} of {of} is annotated {parameter.annotation!r}, to "
        "which a task's value cannot be converted; "
        "use what JSON has, datetime, date, time, timedelta, UUID, Decimal, an Enum, a "
        "dataclass, or a list, dict or | None of those"
    )


def _advice(value: Any, hint: Any, arrived: Any) -> str:
    if isinstance(value, str) and not can_be_sent(value):
        return "half of a surrogate pair is no text; repair it, or send bytes"
    if isinstance(value, int) and arrived is None and abs(value) > _LARGEST:
        return "it has more digits than can be read; send it as hexadecimal text"
    if isinstance(value, datetime) and value.tzinfo is None and arrived is None:
        return "it is naive; attach its time zone, as in datetime.now(UTC)"
    if isinstance(value, time) and value.tzinfo is not None and value.utcoffset() is None:
        return "its time zone has no offset without a date; send a datetime"
    annotated = "has no annotation that says more" if hint is Any else f"is annotated {label(hint)}"
    if arrived is not None and type(arrived) is not type(value):
        return f"it {annotated}, so it would be of type {type(arrived).__name__}; {_REMEDY}"
    return f"it {annotated}; {_REMEDY}"
