"""The discovery document, from which Google's older clients are made at run time."""

from __future__ import annotations

from typing import Any

from ...core.rpc.messages import Choice, Dictionary, Kind, Message, Repeated
from ..rpc import Rpc
from ..rpcs import RPCS
from .openapi import collected, query_fields

_PLACES = {
    "CreateTask": "create",
    "BatchCreateTasks": "batchCreate",
    "BatchDeleteTasks": "batchDelete",
    "UpdateQueue": "patch",
    "GetCmekConfig": "getCmekConfig",
    "UpdateCmekConfig": "updateCmekConfig",
    "GetIamPolicy": "getIamPolicy",
    "SetIamPolicy": "setIamPolicy",
    "TestIamPermissions": "testIamPermissions",
}
"""The names of methods that are not the first word of their rpc."""


def discovery(root: str, url_prefix: str, version: str) -> dict[str, Any]:
    """Return the document of a version; ``root`` is the URL of the host."""
    base = f"{root.rstrip('/')}{url_prefix}/"
    projects: dict[str, Any] = {}
    for rpc in RPCS[version].values():
        _add(projects, rpc)
    messages = {
        name: {"id": name, **_properties(message)} for name, message in collected(version).items()
    }
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"cloudtasks:{version}",
        "name": "cloudtasks",
        "version": version,
        "title": "Cloud Tasks API of Flask-TaskQueue",
        "protocol": "rest",
        "rootUrl": base,
        "servicePath": "",
        "baseUrl": base,
        "basePath": "",
        "batchPath": "batch",
        "parameters": {
            "alt": {"type": "string", "location": "query", "default": "json"},
            "key": {"type": "string", "location": "query"},
            "fields": {"type": "string", "location": "query"},
            "prettyPrint": {"type": "boolean", "location": "query", "default": "true"},
        },
        "resources": {"projects": projects},
        "schemas": messages,
    }


def _add(projects: dict[str, Any], rpc: Rpc) -> None:
    """Add a method to the resource that it is about."""
    collections = [part for part in rpc.form.split("/")[::2] if part.isalpha()][1:]
    below = rpc.suffix.strip("/").partition(":")[0]
    if rpc.suffix.startswith("/"):
        collections.append(below)
    if "cmekConfig" in collections:
        collections.remove("cmekConfig")
    place = projects
    for collection in collections:
        place = place.setdefault("resources", {}).setdefault(collection, {})
    name = _PLACES.get(rpc.name) or _first_word(rpc.name)
    variable = rpc.variable.rpartition(".")[2]
    method: dict[str, Any] = {
        "id": ".".join(["cloudtasks", "projects", *collections, name]),
        "httpMethod": rpc.verb,
        "path": f"{rpc.version}/{{+{variable}}}{rpc.suffix}",
        "description": rpc.doc,
        "parameterOrder": [variable],
        "parameters": {
            variable: {
                "type": "string",
                "location": "path",
                "required": True,
                "pattern": f"^{rpc.form.replace('*', '[^/]+')}$",
            },
            **{
                field: {**_property(kind), "location": "query"}
                for field, kind in query_fields(rpc).items()
            },
        },
        "response": {"$ref": rpc.reply.name},
    }
    if rpc.body is not None:
        body = rpc.request if rpc.body == "*" else rpc.request.fields[rpc.body]
        method["request"] = _property(body)
    place.setdefault("methods", {})[name] = method


def _first_word(name: str) -> str:
    """Return the first word of a name in camel case, in lower case.

    >>> _first_word("PauseQueue")
    'pause'
    """
    rest = name[1:]
    end = next((at for at, letter in enumerate(rest) if letter.isupper()), len(rest))
    return name[: end + 1].lower()


def _properties(message: Message) -> dict[str, Any]:
    properties = {
        name: _property(kind) | ({"readOnly": True} if name in message.output else {})
        for name, kind in message.fields.items()
    }
    return {"type": "object", "properties": properties}


def _property(kind: Kind) -> dict[str, Any]:
    if isinstance(kind, Message):
        return {"$ref": kind.name}
    if isinstance(kind, Repeated):
        return {"type": "array", "items": _property(kind.of)}
    if isinstance(kind, Dictionary):
        return {"type": "object", "additionalProperties": _property(kind.of)}
    if isinstance(kind, Choice):
        return {"type": "string", "enum": list(kind.numbers)}
    return dict(kind.schema())
