"""The handover of a task's reply to the task that follows it.

Until then the following task has a mark, `NewTask.reply_to`, for the place that `REPLY` stood in:
``json:`` or ``form:`` with the name of the value, ``payload:`` for the body, or ``payload:own`` if
the task has a content type of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..arguments.form import encode, fields
from ..arguments.placeholder import REPLY, is_inside
from ..delivery.verdict import RESULT_ERROR
from ..errors import InvalidTaskError
from ..json_text import document
from .request import FORM, WITHOUT_BODY, TaskRequest
from .spec import NewTask, SpecOptions, TaskSpec
from .task import Result

UNFILLED = "X-TaskQueue-Unfilled"
"""The header of a stored task that did not get the reply: it says why, and is never sent."""

_REASON_LENGTH = 1000
_JSON, _FORM, _PAYLOAD = "json", "form", "payload"


class UnfilledError(InvalidTaskError):
    """A stored task did not get the reply of the task before; the message says why."""


def take_out(spec: TaskSpec) -> tuple[TaskSpec, str | None]:
    """Return a task without the `REPLY` that it holds, and the mark for its place.

    Raises `InvalidTaskError` if it holds more than one, or the whole of ``json`` is one.
    """
    places = _places(spec)
    if not places:
        return spec, None
    if len(places) > 1:
        raise InvalidTaskError("a task has REPLY once: give it as one argument")
    ((kind, name),) = places
    options: SpecOptions = {**spec.options}
    params = spec.params
    if kind == _JSON:
        options["json"] = {**options["json"], name: None}
    elif kind == _FORM:
        if "json" in options or options.get("payload") is not None:
            raise InvalidTaskError("params and a body (json or payload) exclude each other")
        params = {key: value for key, value in fields(params).items() if key != name}
    else:
        options["payload"] = b""
    return TaskSpec(spec.url, params, **options), f"{kind}:{name}"


def has_reply(spec: TaskSpec) -> bool:
    """Return whether a task has a value that is `REPLY`."""
    options = spec.options
    given = [options.get("json"), options.get("payload"), spec.params]
    return is_inside(given)


def awaiting(request: TaskRequest, reply_to: str) -> TaskRequest:
    """Return the request that waits for a reply. Raises `InvalidTaskError` if it has no body."""
    kind, _, name = reply_to.partition(":")
    if request.method in WITHOUT_BODY or (kind == _FORM and request.method == "PUT"):
        raise InvalidTaskError(
            f"REPLY would be part of the URL of a {request.method}: put it into a body, as a value "
            "of json= or the params of a POST"
        )
    if (kind, name) == (_PAYLOAD, ""):
        headers = {key: value for key, value in request.headers.items() if not _is_type(key)}
        return replace(request, headers=headers)
    return request


def hand_over(new: NewTask, reply: Result, max_body: int) -> NewTask:
    """Return the task with the reply in its place.

    Raises `InvalidTaskError` with the rest of a sentence that begins with "the reply".
    """
    if (error := reply.headers.get(RESULT_ERROR.lower())) is not None:
        raise InvalidTaskError(f"does not hold what the function returned: {error}")
    if reply.truncated:
        raise InvalidTaskError(
            f"is longer than the {len(reply.body)} bytes of it that were kept: raise "
            "TASKQUEUE_REPLY_EXCERPT, or store the result and reply where it is"
        )
    kind, _, name = (new.reply_to or "").partition(":")
    request = new.request
    if kind == _JSON:
        request = replace(request, body=_with_value(request.body, name, _value(reply)))
    elif kind == _FORM:
        body = _with_field(request.body, name, _value(reply))
        request = replace(request, body=body, headers=_typed(request, FORM))
    elif kind == _PAYLOAD:
        found = reply.headers.get("content-type", "application/octet-stream")
        request = replace(request, body=reply.body, headers=_typed(request, found))
    else:
        raise InvalidTaskError(f"has no place in it: {kind!r} is none")
    if request.size > max_body:
        raise InvalidTaskError(
            f"makes it too large: it would have {request.size} bytes, and TASKQUEUE_MAX_BODY "
            f"allows {max_body}. Store the result and reply where it is"
        )
    return replace(new, request=request, reply_to=None)


def unfilled(new: NewTask, reason: str) -> NewTask:
    """Return the task as it is stored without the reply, to end at its first attempt."""
    headers = {**new.request.headers, UNFILLED: reason[:_REASON_LENGTH]}
    return replace(new, request=replace(new.request, headers=headers), reply_to=None)


def check_filled(headers: Mapping[str, Any]) -> None:
    """Raise `UnfilledError` for the headers of a stored task that did not get the reply."""
    if UNFILLED in headers:
        raise UnfilledError(str(headers[UNFILLED]))


def _places(spec: TaskSpec) -> list[tuple[str, str]]:
    """Return the places of a task that hold `REPLY`, each with its kind and name."""
    whole, headers = spec.options.get("json"), spec.options.get("headers")
    for what, values in (("json", whole), ("params", spec.params)):
        if any(map(is_inside, _outer(values))):
            raise InvalidTaskError(
                f"REPLY is deeper inside of {what}: it can only be a whole value there, as in "
                f'{what}={{"page": REPLY}}; have the task put it where it belongs'
            )
    if whole is REPLY:
        raise InvalidTaskError(
            "json is REPLY: give payload=REPLY, which passes the reply on as it is, JSON or not"
        )
    found = [(_JSON, name) for name in _named(whole)]
    found += [(_FORM, name) for name in _named(spec.params)]
    if spec.options.get("payload") is REPLY:
        own = isinstance(headers, Mapping) and any(map(_is_type, headers))
        found.append((_PAYLOAD, "own" if own else ""))
    return found


def _outer(values: Any) -> Iterable[Any]:
    """Return what can be the reply of a task only as a whole."""
    if not isinstance(values, Mapping):
        return [values]
    return [*values.values(), [*values]]


def _named(values: Any) -> list[str]:
    """Return the names under which a mapping has `REPLY`."""
    pairs = values.items() if isinstance(values, Mapping) else ()
    return [name for name, value in pairs if value is REPLY and isinstance(name, str)]


def _value(reply: Result) -> Any:
    """Return what a reply says: the value of JSON, another text, None for no content."""
    if reply.status == 204:
        return None
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise InvalidTaskError(
                f"is said to be JSON and cannot be read as such: {error}"
            ) from None
    try:
        return reply.body.decode()
    except UnicodeDecodeError:
        raise InvalidTaskError(
            "is no UTF-8 text: give payload=REPLY, which passes on any bytes"
        ) from None


def _with_value(body: bytes, name: str, value: Any) -> bytes:
    try:
        return document({**json.loads(body), name: value})
    except (TypeError, ValueError) as error:
        raise InvalidTaskError(f"does not fit: {error}") from None


def _with_field(body: bytes, name: str, value: Any) -> bytes:
    try:
        field = encode({name: value}).encode()
    except InvalidTaskError as error:
        raise InvalidTaskError(f"does not fit: {error}") from None
    return b"&".join(part for part in (body, field) if part)


def _typed(request: TaskRequest, content_type: str) -> dict[str, str]:
    """Return the headers of a request with a content type, unless it has one of its own."""
    if any(map(_is_type, request.headers)):
        return request.headers
    return {**request.headers, "Content-Type": content_type}


def _is_type(header: object) -> bool:
    return str(header).lower() == "content-type"
