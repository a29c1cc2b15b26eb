"""The request that add() makes from its arguments, and any request as a curl command."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ..arguments.form import can_be_sent, encode, fields
from ..errors import InvalidHeaderError, InvalidTaskError, InvalidUrlError, TaskTooLargeError
from ..json_text import document
from ..urls import MAX_LENGTH, redacted

MAX_NAME = 100
MAX_VALUE = 8 * 1024
MAX_ALL = 16 * 1024

_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\x21-\x7e\xa0-\xff](?:[\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?|")
_REFUSED = frozenset(
    "host content-length transfer-encoding connection keep-alive te trailer upgrade expect "
    "forwarded cookie".split()
)
_RESERVED = ("x-taskqueue-", "webhook-", "proxy-", "x-forwarded-")
_DROPPED = ("x-appengine-", "x-cloudtasks-")


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers, if they can be sent as they are (RFC 9110, 5.1 and 5.5).

    App Engine's own task headers are dropped, as App Engine does. Raises `InvalidHeaderError` for a
    name that is not a token or has an underscore (which some servers read as a hyphen), a value
    with control characters or more than 8 kB, more than 16 kB in all, a name given twice, and names
    that belong to the connection or to the task queue.
    """
    if not headers:
        return {}
    if not isinstance(headers, Mapping):
        raise InvalidHeaderError(
            f"headers are {type(headers).__name__}; they must be a mapping from names to values"
        )
    kept = {
        name: value for name, value in headers.items() if not str(name).lower().startswith(_DROPPED)
    }
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
        raise InvalidHeaderError(
            f"header name {name!r} must be up to {MAX_NAME} letters, digits and hyphens, "
            "without underscores"
        )
    lower = name.lower()
    if lower in _REFUSED or lower.startswith(_RESERVED):
        raise InvalidHeaderError(
            f"header {name!r} is set by the connection or by the task queue; leave it out"
        )


def _check_value(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidHeaderError(
            f"the value of header {name!r} is {type(value).__name__}; it must be a text"
        )
    if len(value) > MAX_VALUE or not _VALUE.fullmatch(value):
        raise InvalidHeaderError(
            f"the value of header {name!r} must be up to {MAX_VALUE} printable Latin-1 "
            "characters, without blanks at its ends"
        )


METHODS = ("POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
PULL = "PULL"
"""The method of tasks of pull queues, which are not sent."""
WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class _Unset(Enum):
    UNSET = "not given"


UNSET: Final = _Unset.UNSET
"""The mark of an argument that was not given, unlike None, which is a JSON value."""


@dataclass(frozen=True, slots=True, repr=False)
class TaskRequest:
    """The request that a task sends."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Leave out what the task holds, because a repr ends up in logs."""
        return f"<TaskRequest {self.method} {redacted(self.url)}>"

    @property
    def size(self) -> int:
        """The size in bytes, counted as App Engine counts it."""
        return (
            len(self.method)
            + len(self.url)
            + len(self.body)
            + sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        )


def build_request(
    url: str,
    params: Mapping[str, Any] | None = None,
    *,
    json: Any = UNSET,
    payload: str | bytes | None = None,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    max_body: int,
) -> TaskRequest:
    """Return the request of a task; the rules are those of App Engine's Task.

    Raises `InvalidTaskError` for arguments that exclude each other, an unknown method and values
    that cannot be sent, and `TaskTooLargeError` above ``max_body`` bytes.
    """
    check_method(method)
    checked = check_headers(headers)
    content, content_type = _content(json, payload)
    _check_combination(url, method, params, content)
    if params:
        encoded = encode(fields(params))
        if method in WITHOUT_BODY or method == "PUT":
            url = f"{url}?{encoded}"
        else:
            content, content_type = encoded.encode(), FORM
    if content is not None and not any(name.lower() == "content-type" for name in checked):
        checked["Content-Type"] = content_type
    request = TaskRequest(method, url, checked, content or b"")
    if len(url) > MAX_LENGTH:
        raise InvalidUrlError(
            f"with its params the url has {len(url)} characters; it may have {MAX_LENGTH}"
        )
    check_size(request, max_body)
    return request


def check_size(request: TaskRequest, max_body: int) -> None:
    """Raise `TaskTooLargeError` for a request of more than ``max_body`` bytes."""
    if request.size > max_body:
        raise TaskTooLargeError(
            f"the task has {request.size} bytes; TASKQUEUE_MAX_BODY allows {max_body}. Store "
            "the data and send its key"
        )


def check_method(method: str) -> str:
    """Return a method in capitals. Raises `InvalidTaskError` for one that tasks cannot have."""
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise InvalidTaskError(f"invalid method {method!r}; it must be one of {', '.join(METHODS)}")
    return method.upper()


def _content(json: Any, payload: str | bytes | None) -> tuple[bytes | None, str]:
    if json is not UNSET:
        if payload is not None:
            raise InvalidTaskError("json and payload exclude each other: give one body")
        try:
            return document(json), JSON
        except (TypeError, ValueError) as error:
            raise InvalidTaskError(f"json cannot be encoded: {error}") from error
    if isinstance(payload, str):
        if not can_be_sent(payload):
            raise InvalidTaskError(
                "payload holds half of a surrogate pair, which is no text: repair it, or give bytes"
            )
        return payload.encode(), "text/plain; charset=utf-8"
    if payload is None or isinstance(payload, bytes):
        return payload, "application/octet-stream"
    raise InvalidTaskError(f"payload is {type(payload).__name__}; it must be str or bytes")


def _check_combination(url: str, method: str, params: object, content: bytes | None) -> None:
    if "?" in url and params:
        raise InvalidTaskError("the url has a query and there are params: put all into one of them")
    if "?" in url and method == "POST" and content is None:
        raise InvalidTaskError("a POST's url may not have a query: give it as params")
    if content is not None and method in WITHOUT_BODY:
        raise InvalidTaskError(f"a {method} has no body: give params, which become the query")
    if content is not None and params and method != "PUT":
        raise InvalidTaskError(
            "params and a body (json or payload) exclude each other: the params are the body"
        )


def curl(method: str, url: str, headers: Mapping[str, str], body: bytes) -> str:
    """Return a command for a POSIX shell that sends the request, byte for byte.

    >>> print(curl("POST", "http://localhost/w", {"X-A": "it's"}, b"a=1"))
    curl -X POST http://localhost/w -H 'X-A: it'"'"'s' --data-binary a=1
    """
    words = ["curl", "-X", method, url]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    if not body:
        return shlex.join(words)
    text = _text(body)
    if text is None or text.startswith("@"):  # which would name a file
        encoded = base64.b64encode(body).decode()
        return f"echo {encoded} | base64 -d | {shlex.join([*words, '--data-binary', '@-'])}"
    return shlex.join([*words, "--data-binary", text])


def _text(body: bytes) -> str | None:
    """Return a body as text if a terminal can show it; None otherwise."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return (
        text if all(character.isprintable() or character in "\n\t" for character in text) else None
    )
