"""The REST form of an rpc: which one a request is, and the message it carries."""

from __future__ import annotations

import json
from typing import Any

from flask import Request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from ..core.errors import shown
from ..core.rpc.status import Code, RpcError, invalid
from .rpc import Rpc
from .rpcs import RPCS

_SYSTEM = frozenset(
    "alt access_token callback fields key oauth_token prettyPrint quotaUser uploadType "
    "upload_protocol".split()
)
"""The parameters that every API of Google's takes, and that change nothing here."""
_ENVELOPE = 65_536
_BATCH = 16_777_216


def find_rpc(version: str, verb: str, path: str) -> tuple[Rpc, str]:
    """Return the rpc that a request is for, and the resource that its path names.

    Raises `RpcError`.
    """
    for rpc in RPCS[version].values():
        if rpc.verb == verb and (match := rpc.pattern.fullmatch(path)):
            return rpc, match[1]
    raise RpcError(Code.NOT_FOUND, f"there is no method {verb} /{version}/{shown(path)[1:-1]}")


def message_of(rpc: Rpc, resource: str, request: Request, max_body: int) -> dict[str, Any]:
    """Return the message that a request carries; the path says which resource it is about.

    Raises `RpcError`.
    """
    fields = _query(request.args)
    if rpc.body is not None:
        body = _json(_body(request, _limit(rpc, max_body)))
        fields = fields | (body if rpc.body == "*" else {rpc.body: body})
    first, _, last = rpc.variable.partition(".")
    if not last:
        return {**fields, first: resource}
    name = rpc.body or first
    return {**fields, name: {**fields.get(name, {}), last: resource}}


def _query(args: MultiDict[str, str]) -> dict[str, Any]:
    """Return the fields that the query gives."""
    return {
        name: values[0] if len(values) == 1 else values
        for name, values in args.lists()
        if name not in _SYSTEM and not name.startswith("$")
    }


def most_bytes(max_body: int) -> int:
    """Return the most bytes that the body of any request may have: that of a batch."""
    return max(2 * max_body + _ENVELOPE, _BATCH)


def _limit(rpc: Rpc, max_body: int) -> int:
    """Return the most bytes that the body of a request may have.

    In base64 a payload is a third longer.
    """
    return most_bytes(max_body) if rpc.name.startswith("Batch") else 2 * max_body + _ENVELOPE


def _body(request: Request, limit: int) -> bytes:
    """Return the body of a request, of which no more than ``limit`` bytes are read."""
    length = request.content_length
    try:
        if length is None:
            body = request.stream.read(limit + 1)
        elif length <= limit:
            body = request.get_data()
        else:
            raise _too_long(limit)
    except (HTTPException, OSError) as error:  # servers raise OSError for malformed chunks
        told = error.description if isinstance(error, HTTPException) else error
        raise invalid(f"the body cannot be read: {told}") from error
    if len(body) > limit:
        raise _too_long(limit)
    return body


def _too_long(limit: int) -> RpcError:
    return invalid(f"the request is longer than {limit} bytes, which TASKQUEUE_MAX_BODY leads to")


def _json(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid("the body is not JSON") from error
    if not isinstance(found, dict):
        raise invalid("the body is JSON, but not an object")
    return found
