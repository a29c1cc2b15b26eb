"""A reply, and the verdict on it by the code that saw the view run rather than by the reply.

A reply of 2xx proves nothing about a handler: a hook, an error handler or a page of something else
may have sent it. So for the app's own routes the code that calls the view says whether the view was
called and returned. In process, the verdict is put on the delivery; over HTTP it is signed, outside
of everything in the app that changes replies. Other hosts know nothing of this: their reply is the
verdict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal, NamedTuple, get_args

from ..errors import ResultNotJsonError, ResultTruncatedError, text_of
from ..json_text import shown_json
from ..urls import redacted
from . import signatures

_HEADERS = 16_384
_TRUNCATED = ":truncated"
"""The name under which a reply's headers record that the body was longer than what is kept.

No header can have this name.
"""


class OutgoingRequest(NamedTuple):
    """A request as a transport sends it. ``url`` is absolute, or a path for the wsgi transport."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Leave out what the task holds, because a repr ends up in logs."""
        return f"<OutgoingRequest {self.method} {redacted(self.url)}>"


class Reply(NamedTuple):
    """The reply to a request, or the reason why there is none.

    ``kind`` is "reply" when a complete reply came; otherwise ``error`` says why none did, in a
    sentence without secrets.
    """

    status: int | None
    headers: Mapping[str, str]
    """The headers, with names in lower case."""
    body: bytes
    """The body, up to the cap of the transport."""
    truncated: bool = False
    error: str | None = None
    kind: Literal["reply", "timeout", "connection", "tls", "refused"] = "reply"
    severed: bool = False
    """Whether a kept connection broke before the first byte of a reply came.

    Then the request may never have been read.
    """

    def __repr__(self) -> str:
        """Leave out headers and body, because a repr ends up in logs."""
        return f"<Reply {self.status} {self.kind}>"


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
    return _without_mark(json.loads(text or "{}"))


def shown_headers(text: str | None) -> tuple[dict[str, str], bool]:
    """Return what `stored_headers` does, to be shown: no headers if the text holds none."""
    return _without_mark(shown_json(text, dict))


def _without_mark(headers: dict[str, str]) -> tuple[dict[str, str], bool]:
    return headers, headers.pop(_TRUNCATED, None) is not None


def complete_body(body: bytes, truncated: bool, headers: Mapping[str, str]) -> bytes:
    """Return the body of a reply.

    Raises `ResultTruncatedError` if only its beginning was kept, and `ResultNotJsonError` if it is
    none because JSON could not hold the result of the task's function.
    """
    if RESULT_ERROR.lower() in headers:
        raise ResultNotJsonError(headers[RESULT_ERROR.lower()])
    if truncated:
        raise ResultTruncatedError(
            f"the reply was longer than the {len(body)} bytes of it that were kept: raise "
            "TASKQUEUE_REPLY_EXCERPT, or have the handler "
            "store its result itself and return where. What was kept is in `body`"
        )
    return body


def json_body(body: bytes, truncated: bool, headers: Mapping[str, str]) -> Any:
    """Return the body of a reply, decoded from JSON.

    Raises `ResultNotJsonError` for another text, and what `complete_body` raises.
    """
    whole = complete_body(body, truncated, headers)
    try:
        return json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise ResultNotJsonError(
            f"the reply is not JSON: {error}. It is in `text` and `body`; to have it in `json`, "
            "return a dict or a list"
        ) from None


HEADER = "X-TaskQueue-Verdict"

RESULT_ERROR = "X-TaskQueue-Result-Error"
"""The header of a reply that says why the result of the task's function is not in it."""

Kind = Literal[
    "returned", "raised", "retry", "permanent", "lost", "misfit", "no-route", "ping", "unseen"
]

_MOST_OF_ERROR = 1000
"""The number of characters for an error in the header; proxies have little room for headers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a view did.

    It returned, raised, asked for a retry, refused for good or had lost its lease; or there is no
    view at this URL, or none that the task fits, as when a worker's task meets another view.
    "unseen" is no verdict: no view ran, but an exception was reported. ``error`` says what was
    raised, by the view or around it.

    ``status`` is the status of its response, ``retry_after`` the text of its Retry-After.
    ``committed`` says that the handler's own transaction, with the end of the attempt in it, is
    committed; ``reported`` that the app has been told of an exception, by Flask's
    ``got_request_exception``; ``by_worker`` that the view was a worker's.
    """

    kind: Kind
    status: int | None = None
    error: str | None = None
    retry_after: str | None = None
    committed: bool = False
    reported: bool = False
    by_worker: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the view returned a 2xx."""
        return self.kind == "returned" and self.status is not None and 200 <= self.status < 300


@lru_cache(maxsize=128)
def returned(status: int, retry_after: str | None = None) -> Verdict:
    """Return the verdict on a view that returned a response with this status.

    ``retry_after`` is its Retry-After, if the response is not a success.
    """
    return Verdict("returned", status, retry_after=retry_after)


def raised(error: BaseException) -> Verdict:
    """Return the verdict on a view that raised."""
    text = text_of(error)
    return Verdict(
        "raised", error=f"{type(error).__name__}: {text}" if text else type(error).__name__
    )


def of_worker(verdict: Verdict | None, *, by_worker: bool) -> Verdict | None:
    """Return the verdict on a worker's task; it does not count if another view answered.

    Such a view may belong to a release that does not have the worker yet.
    """
    if (
        verdict is None
        or verdict.kind not in ("returned", "raised")
        or by_worker
        or verdict.by_worker
    ):
        return verdict
    what = f"answered {verdict.status}" if verdict.error is None else f"raised {verdict.error}"
    return Verdict(
        "misfit",
        error="this release of the app has no route for the task: no worker's, but another view, "
        f"which {what}",
    )


def of_reply(reply: Reply) -> Verdict | None:
    """Return the verdict on a delivery to another host: its reply, or None if it sent none."""
    if reply.kind != "reply":
        return None
    return Verdict("returned", reply.status, retry_after=reply.headers.get("retry-after"))


def sign(verdict: Verdict, keys: list[bytes], request_signature: str) -> str:
    """Return the header that carries a verdict, bound to the signature of the request."""
    fields = {
        name: value
        for name, value in asdict(replace(verdict, error=_short(verdict.error))).items()
        if value
    }
    text = json.dumps(fields, separators=(",", ":"))
    return f"{signatures.sign(keys, 'verdict', 0, _bound(request_signature, text))} {text}"


def verify(header: str | None, keys: list[bytes], request_signature: str) -> Verdict | None:
    """Return the verdict in a header, if it is signed by one of the keys for this very request.

    Returns None otherwise; never raises.
    """
    if not header:
        return None
    given, brace, rest = header.partition("{")
    text = brace + rest
    if not signatures.matches(keys, "verdict", 0, _bound(request_signature, text), given.strip()):
        return None
    try:
        verdict = Verdict(**json.loads(text))
    except (ValueError, TypeError):
        return None
    return verdict if verdict.kind in get_args(Kind) else None


def _short(error: str | None) -> str | None:
    """Return as much of an error as a header has room for.

    A character that is not ASCII takes the room of six.
    """
    while error and len(json.dumps(error)) > _MOST_OF_ERROR:
        error = error[: min(len(error) - 1, _MOST_OF_ERROR) * 3 // 4]
    return error


def _bound(request_signature: str, text: str) -> bytes:
    return f"{request_signature}\n{text}".encode("utf-8", "replace")
