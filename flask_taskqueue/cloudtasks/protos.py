"""The protobuf messages of the rpcs, from the package google-cloud-tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from google.cloud import tasks_v2, tasks_v2beta3
from google.cloud.location import locations_pb2
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, json_format
from google.protobuf.message import DecodeError, Message

from ..core.rpc.status import Code, RpcError, invalid
from .rpc import Rpc
from .rpcs import RPCS

_SHARED: Mapping[str, Any] = {
    "Empty": empty_pb2.Empty,
    "GetIamPolicyRequest": iam_policy_pb2.GetIamPolicyRequest,
    "SetIamPolicyRequest": iam_policy_pb2.SetIamPolicyRequest,
    "TestIamPermissionsRequest": iam_policy_pb2.TestIamPermissionsRequest,
    "TestIamPermissionsResponse": iam_policy_pb2.TestIamPermissionsResponse,
    "Policy": policy_pb2.Policy,
    "Operation": operations_pb2.Operation,
    "ListLocationsRequest": locations_pb2.ListLocationsRequest,
    "ListLocationsResponse": locations_pb2.ListLocationsResponse,
    "GetLocationRequest": locations_pb2.GetLocationRequest,
    "Location": locations_pb2.Location,
    "GetOperationRequest": operations_pb2.GetOperationRequest,
}


_PACKAGES: Mapping[str, Any] = {"v2": tasks_v2, "v2beta3": tasks_v2beta3}


@dataclass(frozen=True, slots=True)
class Method:
    """An rpc with the protobuf messages that it takes and returns."""

    rpc: Rpc
    request: Callable[[], Message]
    reply: Callable[[], Message]

    def read(self, data: bytes) -> dict[str, Any]:
        """Return a request as proto3 JSON. Raises `RpcError`."""
        message = self.request()
        try:
            message.ParseFromString(data)
            found: dict[str, Any] = json_format.MessageToDict(message)
        except (DecodeError, json_format.Error, ValueError, TypeError) as error:
            raise invalid(f"the request cannot be read: {error}") from error
        return found

    def write(self, reply: Mapping[str, Any]) -> bytes:
        """Return a reply, which is proto3 JSON, as bytes.

        Fields that this version of google-cloud-tasks does not know are left out.
        """
        message = self.reply()
        json_format.ParseDict(dict(reply), message, ignore_unknown_fields=True)
        data: bytes = message.SerializeToString()
        return data


@lru_cache(maxsize=1)
def methods() -> Mapping[str, Method]:
    """Return the methods that this version of the package knows, by their gRPC paths."""
    found: dict[str, Method] = {}
    for version, rpcs in RPCS.items():
        for rpc in rpcs.values():
            request, reply = (
                _message(_PACKAGES[version], message_type.name)
                for message_type in (rpc.request, rpc.reply)
            )
            if request is not None and reply is not None:
                found[rpc.grpc_path] = Method(rpc, request, reply)
    return found


def _message(package: Any, name: str) -> Callable[[], Message] | None:
    if name in _SHARED:
        shared: Callable[[], Message] = _SHARED[name]
        return shared
    kind = getattr(package, name, None)
    return None if kind is None else kind.pb()


def unknown(path: str) -> RpcError:
    """Return the error for a method that is none of the API's."""
    return RpcError(Code.UNIMPLEMENTED, f"there is no method {path}")
