"""The documents about the API, which describe what the service answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from flask_taskqueue.cloudtasks.rpcs import RPCS
from flask_taskqueue.cloudtasks.service import _METHODS
from tests.apps import Bench, bench
from tests.cloudtasks.doors import QUEUE, SETTINGS, TOKEN
from tests.databases import TestDatabase

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def one(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An app with the API."""
    with bench(sqlite_database.url, **SETTINGS) as served:
        yield served


def get(one: Bench, path: str, status: int = 200) -> Any:
    """A document, asked for with the token."""
    reply = one.app.test_client().get(f"/taskqueue/api/{path}", headers=BEARER)
    assert reply.status_code == status, reply.text
    return reply.json


@pytest.mark.parametrize("version", RPCS)
def test_the_openapi_document_is_valid(one: Bench, version: str) -> None:
    """By OpenAPI 3.1, with each rpc once."""
    document = get(one, f"{version}/openapi.json")
    validate(document)
    assert document["servers"] == [{"url": "/taskqueue/api"}]
    ids = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert sorted(ids) == sorted(RPCS[version])
    assert "/v2" in get(one, "v2/openapi.json")["paths"].popitem()[0]


@pytest.mark.parametrize("version", RPCS)
def test_the_discovery_document_has_each_rpc(one: Bench, version: str) -> None:
    """And a schema for each message that it refers to."""
    document = get(one, f"$discovery/rest?version={version}")
    assert document["rootUrl"] == "http://localhost/taskqueue/api/"
    methods = list(_methods(document["resources"]["projects"]))
    assert len(methods) == len(RPCS[version])
    assert len({method["id"] for method in methods}) == len(methods)
    names = {found for found in _references(document)}
    assert names <= document["schemas"].keys()
    assert get(one, "$discovery/rest?version=v1", 404)["error"]["status"] == "NOT_FOUND"


def test_the_documents_need_the_token_too(one: Bench) -> None:
    """As everything of the API."""
    for path in ("v2/openapi.json", "$discovery/rest"):
        reply = one.app.test_client().get(f"/taskqueue/api/{path}")
        assert reply.status_code == 403


def test_every_rpc_is_carried_out() -> None:
    """Whatever is in the table is in the service, and the other way round."""
    for rpcs in RPCS.values():
        assert rpcs.keys() == _METHODS.keys()


@pytest.mark.parametrize("version", RPCS)
def test_replies_are_such_as_the_document_says(one: Bench, version: str) -> None:
    """A client that is generated from it can read them."""
    one.tasks.worker("/worker")(lambda: None)
    one.tasks.add("/worker", retry={"task_retry_limit": 1})
    schemas = get(one, f"{version}/openapi.json")["components"]["schemas"]
    for path, name in (
        (QUEUE, "Queue"),
        (f"{QUEUE}/tasks?responseView=FULL", "ListTasksResponse"),
        (QUEUE.rpartition("/queues")[0], "Location"),
    ):
        _check(schemas, {"$ref": f"#/components/schemas/{name}"}, get(one, f"{version}/{path}"))


def _check(schemas: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Check that a value fits its schema, and has no field that the schema lacks."""
    if "$ref" in schema:
        return _check(schemas, schemas[schema["$ref"].rpartition("/")[2]], value)
    if "additionalProperties" in schema:
        for item in value.values():
            _check(schemas, schema["additionalProperties"], item)
    elif schema["type"] == "object":
        assert value.keys() <= schema["properties"].keys()
        for name, item in value.items():
            _check(schemas, schema["properties"][name], item)
    elif schema["type"] == "array":
        for item in value:
            _check(schemas, schema["items"], item)
    else:
        kinds = {"string": str, "integer": int, "number": int | float, "boolean": bool}
        assert isinstance(value, kinds[schema["type"]])  # type: ignore[arg-type]
        assert value in schema.get("enum", [value])
    return None


def _methods(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from resource.get("methods", {}).values()
    for value in resource.get("resources", {}).values():
        yield from _methods(value)


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for inner in part.values():
            yield from _references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner)
