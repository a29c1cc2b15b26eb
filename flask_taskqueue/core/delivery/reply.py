"""A request as it is sent, and the reply to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from ..errors import ResultTruncatedError
from ..urls import redacted

_HEADERS = 16_384
_TRUNCATED = ":truncated"
"""The name under which a reply's headers record that the body was longer than what is kept.

No header can have this name.
"""


@dataclass(frozen=True, slots=True, repr=False)
class OutgoingRequest:
    """A request as a transport sends it. ``url`` is absolute, or a path for the wsgi transport."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Leave out what the task holds, because a repr ends up in logs."""
        return f"<OutgoingRequest {self.method} {redacted(self.url)}>"


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request, or the reason why there is none.

    ``kind`` is "reply" when a complete reply came; otherwise ``error`` says why none did, in a
    sentence without secrets.
    """

    status: int | None
    headers: Mapping[str, str] = field(repr=False)
    """The headers, with names in lower case."""
    body: bytes = field(repr=False)
    """The body, up to the cap of the transport."""
    truncated: bool = False
    error: str | None = None
    kind: Literal["reply", "timeout", "connection", "tls", "refused"] = "reply"
    severed: bool = False
    """Whether a kept connection broke before the first byte of a reply came.

    Then the request may never have been read.
    """


def kept_headers(reply: Reply) -> str | None:
    """Return the headers of a reply as they are stored: from the first on, as many as fit.

    They also record whether the body was cut.
    """
    headers = {name: value for name, value in reply.headers.items() if not name.startswith(":")}
    headers = {_TRUNCATED: "1", **headers} if reply.truncated else headers
    text = json.dumps(headers)
    if len(text) <= _HEADERS:
        return text if headers else None
    sizes = accumulate(len(json.dumps({name: value})) for name, value in headers.items())
    return json.dumps(
        {
            name: value
            for (name, value), size in zip(headers.items(), sizes, strict=True)
            if size <= _HEADERS
        }
    )


def stored_headers(text: str | None) -> tuple[dict[str, str], bool]:
    """Return the headers of a stored reply, and whether only the beginning of its body was kept."""
    headers: dict[str, str] = json.loads(text or "{}")
    return headers, headers.pop(_TRUNCATED, None) is not None


def complete_body(body: bytes, truncated: bool) -> bytes:
    """Return the body of a reply. Raises `ResultTruncatedError` if only its beginning was kept."""
    if truncated:
        raise ResultTruncatedError(
            f"the reply was longer than the {len(body)} bytes of it that were kept: raise "
            "TASKQUEUE_REPLY_EXCERPT, or have the handler "
            "store its result itself and return where. What was kept is in `body`"
        )
    return body
