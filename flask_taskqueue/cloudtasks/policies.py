"""The rpcs about access, locations and operations, which have little to say here."""

from __future__ import annotations

from ..core.rpc.messages import Fields
from ..core.rpc.resource_names import location_name, project_name
from ..core.rpc.status import Code, RpcError
from .context import NOT_FOUND, Context, Reply, required

_LOCATION = "local"
_EMPTY = {"version": 1, "etag": "ACAB"}


def get_policy(context: Context, fields: Fields) -> Reply:
    """Return the policy of a queue, which is always empty: the token is the permission."""
    context.queue_of(fields, "resource", NOT_FOUND)
    return dict(_EMPTY)


def test_permissions(context: Context, fields: Fields) -> Reply:
    """Return the permissions that were asked about: whoever has the token has all of them."""
    context.queue_of(fields, "resource", NOT_FOUND)
    return {"permissions": fields.get("permissions", [])}


def list_locations(context: Context, fields: Fields) -> Reply:
    """Return the location of ``TASKQUEUE_API_PARENT``, or one that stands for any."""
    project = project_name(required(fields, "name"))
    parent = context.runtime.settings.api_parent or f"{project}/locations/{_LOCATION}"
    return {"locations": [_location(parent)]} if parent.startswith(f"{project}/") else {}


def get_location(context: Context, fields: Fields) -> Reply:
    """Return a location."""
    return _location(context.check_parent(location_name(required(fields, "name"), "name"), "name"))


def not_supported(context: Context, fields: Fields) -> Reply:
    """Refuse an rpc that has nothing to work on here."""
    raise RpcError(
        Code.UNIMPLEMENTED,
        "This rpc is not supported: there are no IAM policies, keys of KMS and long-running "
        "operations here.",
    )


def _location(name: str) -> Reply:
    return {"name": name, "locationId": name.rpartition("/")[2]}
