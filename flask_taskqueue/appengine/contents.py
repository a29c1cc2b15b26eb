"""The contents of a task: its URL, headers, payload and params, by the rules of App Engine's Task.

They differ from those of ``tasks.add``: any value of a parameter is sent as its ``str()``, values
in bytes are sent as they are, and a POST without params or payload has no body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from requests.structures import CaseInsensitiveDict

from .errors import InvalidTaskError, InvalidUrlError
from .limits import MAX_URL_LENGTH

FORM = "application/x-www-form-urlencoded"
TEXT = "text/plain; charset=utf-8"
_WITHOUT_BODY = ("GET", "HEAD", "DELETE")

Headers = CaseInsensitiveDict[Any]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a task sends; ``url`` has the query, ``payload`` is text if it was made of params."""

    method: str
    url: str
    headers: Headers
    payload: Any


def split_url(url: str) -> tuple[str, str]:
    """Return the path and the query of a URL, both empty for the queue's own URL.

    Raises `InvalidUrlError` for anything but a path with an optional query.
    """
    if not url:
        return "", ""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidUrlError(f"url {url!r} cannot be read: {error}") from error
    if parts.scheme or parts.netloc:
        raise InvalidUrlError(f"url {url!r} names a scheme or a host; it must be a path")
    if parts.fragment:
        raise InvalidUrlError(f"url {url!r} has a fragment, which is never sent: leave it out")
    if not parts.path.startswith("/"):
        raise InvalidUrlError(f"url {url!r} must begin with a slash")
    if len(parts.path) > MAX_URL_LENGTH:
        raise InvalidUrlError(
            f"the url's path has {len(parts.path)} characters; it may have {MAX_URL_LENGTH}"
        )
    return parts.path, parts.query


def fill(
    method: str,
    path: str,
    query: str,
    headers: Headers,
    params: Mapping[Any, Any],
    payload: Any,
) -> Contents:
    """Return what a task with these arguments sends; Content-Type is set where it is missing.

    Raises `InvalidTaskError` for arguments that exclude each other and for an unknown method.
    """
    if method in ("POST", "PULL"):
        return _with_body(method, path, query, headers, params, payload)
    if method != "PUT" and method not in _WITHOUT_BODY:
        raise InvalidTaskError(f"there is no method {method!r} for a task")
    if payload and method in _WITHOUT_BODY:
        raise InvalidTaskError(f"a {method} has no payload; POST, PUT and PULL do")
    body = _body(payload, headers) if payload else None
    rest = encoded(params) if params else query
    return Contents(method, f"{path}?{rest}" if rest else path, headers, body)


def encoded(params: Mapping[Any, Any]) -> str:
    """Return params in the form of a URL's query; an iterable repeats its key."""
    return urlencode(list(pairs(params)))


def pairs(values: Mapping[Any, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values as bytes, one pair for each value of an iterable."""
    for key, value in values.items():
        several = hasattr(value, "__iter__") and not isinstance(value, str | bytes)
        for single in value if several else [value]:
            yield _bytes(key), _bytes(single)


def _with_body(
    method: str,
    path: str,
    query: str,
    headers: Headers,
    params: Mapping[Any, Any],
    payload: Any,
) -> Contents:
    """Return what a POST sends, or what a task of a pull queue holds."""
    if payload and params:
        raise InvalidTaskError(f"a {method} has a payload or params, not both")
    if query:
        raise InvalidTaskError("the url of a POST has no query: give it as params")
    if params and method == "POST":
        headers.setdefault("Content-Type", FORM)
        return Contents(method, path, headers, encoded(params))
    if params:
        payload = encoded(params)
    if method == "PULL" and payload is None:
        raise InvalidTaskError("a task of a pull queue needs a payload, or params")
    return Contents(method, path, headers, _body(payload, headers))


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _body(payload: Any, headers: Headers) -> Any:
    if payload == "":
        return b""
    if isinstance(payload, str):
        headers.setdefault("Content-Type", TEXT)
        return payload.encode()
    if payload and not isinstance(payload, bytes):
        raise InvalidTaskError(
            f"the payload is of type {type(payload).__name__}; it must be text or bytes"
        )
    return payload
