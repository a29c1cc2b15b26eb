"""The OpenAPI document of the REST routes, made from the table of rpcs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...core.rpc.messages import Dictionary, Kind, Message, Repeated
from ...core.rpc.status import Code
from ...core.version import __version__
from ..rpc import Rpc
from ..rpcs import RPCS

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "status"],
            "properties": {
                "code": {"type": "integer", "description": "The status of the response."},
                "message": {"type": "string"},
                "status": {"type": "string", "enum": [code.name for code in Code]},
            },
        }
    },
}
_COLLECTION = re.compile(r"([a-z]{1,20})/\*")


def openapi(url_prefix: str, version: str = "v2") -> dict[str, Any]:
    """Return the document of a version, in OpenAPI 3.1; ``url_prefix`` is where the routes are."""
    paths: dict[str, Any] = {}
    for rpc in RPCS[version].values():
        template, names = _template(rpc)
        place = paths.setdefault(f"/{version}/{template}", {})
        place[rpc.verb.lower()] = _operation(rpc, names)
    messages = collected(version)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Cloud Tasks API of Flask-TaskQueue",
            "version": version,
            "description": f"Cloud Tasks' REST API, answered by Flask-TaskQueue {__version__}.",
        },
        "servers": [{"url": url_prefix or "/"}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": {
                **{name: message.definition() for name, message in messages.items()},
                "Error": _ERROR,
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Goog-Api-Key"},
            },
        },
    }


def collected(version: str) -> dict[str, Message]:
    """Return the messages of a version, by name."""
    found: dict[str, Message] = {}
    for rpc in RPCS[version].values():
        _collect(rpc.request, found)
        _collect(rpc.reply, found)
    return dict(sorted(found.items()))


def _template(rpc: Rpc) -> tuple[str, list[str]]:
    """Return the path with its ids as parameters, and the names of these.

    >>> _template(RPCS["v2"]["PauseQueue"])
    ('projects/{projectsId}/locations/{locationsId}/queues/{queuesId}:pause', \
['projectsId', 'locationsId', 'queuesId'])
    """
    names = [f"{collection}Id" for collection in _COLLECTION.findall(rpc.form)]
    return _COLLECTION.sub(r"\1/{\1Id}", rpc.form) + rpc.suffix, names


def _operation(rpc: Rpc, names: Iterable[str]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    parameters += [
        {"name": name, "in": "query", "schema": dict(kind.schema())}
        for name, kind in query_fields(rpc).items()
    ]
    operation: dict[str, Any] = {
        "operationId": rpc.name,
        "summary": rpc.doc,
        "parameters": parameters,
        "responses": {
            "200": _content("The reply.", rpc.reply.schema()),
            "default": _content("An error.", {"$ref": "#/components/schemas/Error"}),
        },
    }
    if rpc.body is not None:
        body = rpc.request if rpc.body == "*" else rpc.request.fields[rpc.body]
        operation["requestBody"] = {"content": {"application/json": {"schema": body.schema()}}}
    return operation


def query_fields(rpc: Rpc) -> Mapping[str, Kind]:
    """Return the fields of a request that its query gives."""
    taken = {rpc.variable.partition(".")[0], rpc.body}
    if rpc.body == "*":
        return {}
    return {name: kind for name, kind in rpc.request.fields.items() if name not in taken}


def _content(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _collect(kind: Kind, found: dict[str, Message]) -> None:
    """Gather the messages that one is made of."""
    if isinstance(kind, Repeated | Dictionary):
        _collect(kind.of, found)
    elif isinstance(kind, Message) and kind.name not in found:
        found[kind.name] = kind
        for part in kind.fields.values():
            _collect(part, found)
