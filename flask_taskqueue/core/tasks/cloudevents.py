"""CloudEvents 1.0: the attributes of an event, and how HTTP carries them."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from ..arguments.refusals import Misfit
from ..errors import InvalidTaskError, shown
from ..states import Record
from ..times import to_datetime
from .request import WITHOUT_BODY

VERSION = "1.0"
PREFIX = "ce-"
_FORMATS = "application/cloudevents"
_STRUCTURED = f"{_FORMATS}+json"
_BATCH = f"{_FORMATS}-batch"
_NAME = re.compile(r"[a-z0-9]{1,20}", re.ASCII)
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What stands for itself in a header; the rest is percent-encoded (HTTP binding, 3.1.3.2)."""
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ELSEWHERE = {
    "id": "it is the task's id",
    "data": "it is the body: give json=, payload= or params",
    "data_base64": "it is the body: give payload=",
    "datacontenttype": "it is the Content-Type: give headers={'Content-Type': ...}",
}
_TEXTS = ("subject", "dataschema")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """An event, as a handler gets it whose parameter is annotated with this class.

    ``data`` is the JSON value if ``datacontenttype`` is JSON's, or in structured mode without one,
    and otherwise the bytes. ``extensions`` are the other attributes, by name.
    """

    id: str
    source: str
    type: str
    specversion: str = VERSION
    time: datetime | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Any = field(default=None, repr=False)
    extensions: Mapping[str, Any] = field(default_factory=dict)


def with_event(
    headers: Mapping[str, str] | None, event: object, method: str
) -> Mapping[str, str] | None:
    """Return the headers of a task with those of its event.

    Raises `InvalidTaskError` for headers that the event sets as well, for a body that is an event
    already, for a method without a body, and as `event_headers` does.
    """
    if method in WITHOUT_BODY:
        raise InvalidTaskError(f"a {method} has no body, so it is no CloudEvent: use POST")
    of_event = event_headers(event)
    if not isinstance(headers, Mapping | None):
        return headers  # which is refused
    for name, value in (headers or {}).items():
        if str(name).lower().startswith(PREFIX):
            raise InvalidTaskError(f"header {name!r} belongs to the event: put it into event=")
        if str(name).lower() == "content-type" and str(value).lower().startswith(_FORMATS):
            raise InvalidTaskError(
                f"the Content-Type {value!r} says that the body is an event with its attributes: "
                "leave out event=, or give the Content-Type of the data"
            )
    return {**(headers or {}), **of_event}


def event_headers(event: object) -> dict[str, str]:
    """Return the headers of an outgoing event, without its id, which its task has.

    Without a time, that of the task is added with the id. Raises `InvalidTaskError` for anything
    but a mapping with ``type`` and ``source``, and for attributes that are invalid or set
    elsewhere.
    """
    if not isinstance(event, Mapping):
        raise InvalidTaskError(
            f"event is {shown(event)}; it must be a mapping of attributes, such as "
            "{'type': 'com.example.order.placed', 'source': '/shop'}"
        )
    found = {name: _text_of(name, value) for name, value in event.items() if value is not None}
    for name in ("type", "source"):
        if not found.get(name):
            raise InvalidTaskError(f"an event needs {name!r}, a text that is not empty")
    for name in _TEXTS:
        if found.get(name) == "":
            raise InvalidTaskError(f"the attribute {name!r} of an event is empty: leave it out")
    if found.setdefault("specversion", VERSION) != VERSION:
        raise InvalidTaskError(
            f"an event has specversion {shown(found['specversion'])}; it must be {VERSION!r}"
        )
    return {PREFIX + name: quote(text, safe=_PLAIN) for name, text in found.items()}


def identity_of(record: Record, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the id and the time of a task's event, unless its headers have them.

    They are the task's own, so they stay the same whenever it is attempted again.
    """
    own = {
        f"{PREFIX}id": record.id,
        f"{PREFIX}time": to_datetime(record.created_at).isoformat().replace("+00:00", "Z"),
    }
    given = {name.lower() for name in headers}
    return {name: value for name, value in own.items() if name not in given}


def is_event(headers: Mapping[str, str]) -> bool:
    """Return whether headers say that a request is an event in binary mode."""
    return any(name.lower() == f"{PREFIX}specversion" for name in headers)


def read_event(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """Return the event that a request carries, in binary or structured mode.

    Raises `Misfit`, which says what is missing or malformed, if it carries none.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    content_type = lower.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == _STRUCTURED:
        return _structured(body)
    if content_type.startswith(_BATCH):
        raise Misfit("the body is a batch of CloudEvents, and a task is one event")
    if content_type.startswith(_FORMATS):
        raise Misfit(f"the event is {content_type}; only {_STRUCTURED} can be read")
    attributes: dict[str, Any] = {
        name.removeprefix(PREFIX): _decoded(value)
        for name, value in lower.items()
        if name.startswith(PREFIX)
    }
    attributes["datacontenttype"] = lower.get("content-type")
    return _event(attributes, _data(body, content_type) if body else None)


def _structured(body: bytes) -> CloudEvent:
    """Return the event of a JSON document (JSON event format, 3.1)."""
    document = _json(body)
    if not isinstance(document, dict):
        raise Misfit("the body is no CloudEvent, which is a JSON object")
    attributes = {name: value for name, value in document.items() if value is not None}
    data, encoded = attributes.pop("data", None), attributes.pop("data_base64", None)
    content_type = str(attributes.get("datacontenttype", ""))
    if encoded is not None:
        if data is not None:
            raise Misfit("the event has both data and data_base64")
        try:
            data = _data(b64decode(encoded, validate=True), content_type)
        except (Base64Error, TypeError, ValueError) as error:
            raise Misfit("the data_base64 of the event is no base64") from error
    elif data is not None and content_type and not _is_json(content_type):
        try:
            data = (data if isinstance(data, str) else json.dumps(data)).encode()
        except UnicodeEncodeError as error:
            raise Misfit("the data of the event holds half of a surrogate pair") from error
    return _event(attributes, data)


def _event(attributes: dict[str, Any], data: Any) -> CloudEvent:
    for name in ("id", "source", "type", "specversion"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise Misfit(f"the task is no CloudEvent: its attribute {name!r} is missing")
    if attributes["specversion"] != VERSION:
        raise Misfit(
            f"the event has specversion {shown(attributes['specversion'])}; only {VERSION!r} is "
            "known"
        )
    for name in (*_TEXTS, "datacontenttype"):
        if not isinstance(attributes.get(name), str | None):
            raise Misfit(f"the attribute {name!r} of the event is no text")
    known = {
        name: attributes.pop(name, None)
        for name in ("id", "source", "type", "specversion", *_TEXTS, "datacontenttype")
    }
    time = _time(attributes.pop("time", None))
    return CloudEvent(**known, time=time, data=data, extensions=attributes)


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.upper())  # RFC 3339 has t and z, too
    except (AttributeError, ValueError) as error:
        raise Misfit(f"the time of the event is {shown(text)}, which is none") from error
    if found.tzinfo is None:
        raise Misfit(f"the time of the event is {shown(text)}, without an offset")
    return found


def _data(body: bytes, content_type: str) -> Any:
    return _json(body) if _is_json(content_type) else body


def _is_json(content_type: str) -> bool:
    """Return whether a media type is JSON's: its subtype is json, or ends in +json."""
    subtype = content_type.partition(";")[0].strip().lower().rpartition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Misfit("the body of the event is no JSON, which its Content-Type says") from error


def _decoded(value: str) -> str:
    """Return the text that a header stands for (HTTP binding, 3.1.3.2)."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return unquote(value)


def _text_of(name: object, value: Any) -> str:
    if name in _ELSEWHERE:
        raise InvalidTaskError(f"an event has no attribute {name!r} here: {_ELSEWHERE[str(name)]}")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidTaskError(
            f"the attribute {shown(name)} of an event must be 1 to 20 lower-case letters and digits"
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return str(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    if name == "time" or not isinstance(value, str) or _UNSENDABLE.search(value):
        kinds = (
            "an aware datetime"
            if name == "time"
            else "a text without control characters, a whole number of 32 bits, or True or False"
        )
        raise InvalidTaskError(
            f"the attribute {name!r} of an event is {shown(value)}; give {kinds}"
        )
    return value
