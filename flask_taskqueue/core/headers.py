"""Headers of tasks: what users may set, and what they may not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import InvalidHeaderError

MAX_NAME = 100
MAX_VALUE = 8 * 1024
MAX_ALL = 16 * 1024

_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\x21-\x7e\xa0-\xff](?:[\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?|")
_REFUSED = frozenset("host content-length transfer-encoding connection keep-alive te trailer upgrade expect forwarded cookie".split())
_RESERVED = ("x-taskqueue-", "webhook-", "proxy-", "x-forwarded-")
_DROPPED = ("x-appengine-", "x-cloudtasks-")


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers, if they can be sent as they are (RFC 9110, 5.1 and 5.5).

    App Engine's own task headers are dropped, as App Engine does. Raises `InvalidHeaderError` for
    a name that is no token or has an underscore (which some servers read as a hyphen), a value
    with control characters or more than 8 kB, more than 16 kB in all, a name given twice, and names
    that belong to the connection or to the task queue.
    """
    if not headers:
        return {}
    if not isinstance(headers, Mapping):
        raise InvalidHeaderError(f"headers are {type(headers).__name__}; they must be a mapping from names to values")
    kept = {name: value for name, value in headers.items() if not str(name).lower().startswith(_DROPPED)}
    for name, value in kept.items():
        _check_name(name)
        _check_value(name, value)
    if len({name.lower() for name in kept}) < len(kept):
        raise InvalidHeaderError("a header is given twice, in different cases; give it once")
    if sum(len(name) + len(value) + 4 for name, value in kept.items()) > MAX_ALL:
        raise InvalidHeaderError(f"the headers have more than {MAX_ALL} bytes together")
    return kept


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidHeaderError(f"header name {name!r} must be up to {MAX_NAME} letters, digits and hyphens, without underscores")
    lower = name.lower()
    if lower in _REFUSED or lower.startswith(_RESERVED):
        raise InvalidHeaderError(f"header {name!r} is set by the connection or by the task queue; leave it out")


def _check_value(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidHeaderError(f"the value of header {name!r} is {type(value).__name__}; it must be a text")
    if len(value) > MAX_VALUE or not _VALUE.fullmatch(value):
        raise InvalidHeaderError(
            f"the value of header {name!r} must be up to {MAX_VALUE} printable Latin-1 characters, without blanks at its ends"
        )
