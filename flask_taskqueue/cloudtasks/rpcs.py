"""The rpcs of the Cloud Tasks API: names, paths and messages of each version, in one table.

The REST routes, the gRPC methods, the OpenAPI and the discovery document are made from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.rpc.messages import EMPTY, INTEGER, TEXT, Kind, Mask, Message, Repeated
from . import messages as m
from .rpc import Rpc

_LOCATIONS = "google.cloud.location.Locations"
_OPERATIONS = "google.longrunning.Operations"
_LOCATION = "projects/*/locations/*"
_QUEUE = f"{_LOCATION}/queues/*"
_TASK = f"{_QUEUE}/tasks/*"


def _rpcs(queue: Message, read_mask: Mapping[str, Kind]) -> Iterable[Rpc]:
    """Return the rpcs of a version; ``read_mask`` is a field that only v2beta3 has."""
    page, named = m.PAGE, m.NAMED
    queues = Message("ListQueuesResponse", {"queues": Repeated(queue), "nextPageToken": TEXT})
    yield Rpc(
        "ListQueues",
        "GET",
        f"{{parent={_LOCATION}}}/queues",
        Message("ListQueuesRequest", {"parent": TEXT, "filter": TEXT, **page, **read_mask}),
        queues,
        None,
        "List the queues.",
    )
    yield Rpc(
        "GetQueue",
        "GET",
        f"{{name={_QUEUE}}}",
        Message("GetQueueRequest", {**named, **read_mask}),
        queue,
        None,
        "Return a queue.",
    )
    yield Rpc(
        "CreateQueue",
        "POST",
        f"{{parent={_LOCATION}}}/queues",
        Message("CreateQueueRequest", {"parent": TEXT, "queue": queue}),
        queue,
        "queue",
        "Create a queue.",
    )
    yield Rpc(
        "UpdateQueue",
        "PATCH",
        f"{{queue.name={_QUEUE}}}",
        Message("UpdateQueueRequest", {"queue": queue, "updateMask": Mask(queue)}),
        queue,
        "queue",
        "Change a queue, or create it.",
    )
    yield Rpc(
        "DeleteQueue",
        "DELETE",
        f"{{name={_QUEUE}}}",
        Message("DeleteQueueRequest", named),
        EMPTY,
        None,
        "Delete a queue with its tasks.",
    )
    for verb, doc in (
        ("Purge", "Cancel all tasks of a queue."),
        ("Pause", "Stop taking tasks from a queue."),
        ("Resume", "Take tasks from a queue again."),
    ):
        yield Rpc(
            f"{verb}Queue",
            "POST",
            f"{{name={_QUEUE}}}:{verb.lower()}",
            Message(f"{verb}QueueRequest", named),
            queue,
            "*",
            doc,
        )


def _task_rpcs() -> Iterable[Rpc]:
    named = m.NAMED
    yield Rpc(
        "ListTasks",
        "GET",
        f"{{parent={_QUEUE}}}/tasks",
        Message("ListTasksRequest", {"parent": TEXT, "responseView": m.VIEW, **m.PAGE}),
        m.TASKS,
        None,
        "List the tasks of a queue that have not ended.",
    )
    yield Rpc(
        "GetTask",
        "GET",
        f"{{name={_TASK}}}",
        Message("GetTaskRequest", {**named, "responseView": m.VIEW}),
        m.TASK,
        None,
        "Return a task that has not ended.",
    )
    yield Rpc(
        "CreateTask",
        "POST",
        f"{{parent={_QUEUE}}}/tasks",
        m.CREATE_TASK,
        m.TASK,
        "*",
        "Add a task.",
    )
    yield Rpc(
        "BatchCreateTasks",
        "POST",
        f"{{parent={_QUEUE}}}/tasks:batchCreate",
        Message(
            "BatchCreateTasksRequest",
            {"parent": TEXT, "requests": Repeated(m.CREATE_TASK), "requestId": TEXT},
        ),
        m.OPERATION,
        "*",
        "Add up to 100 tasks, each by itself.",
    )
    yield Rpc(
        "DeleteTask",
        "DELETE",
        f"{{name={_TASK}}}",
        Message("DeleteTaskRequest", named),
        EMPTY,
        None,
        "Cancel a task.",
    )
    yield Rpc(
        "BatchDeleteTasks",
        "POST",
        f"{{parent={_QUEUE}}}/tasks:batchDelete",
        Message(
            "BatchDeleteTasksRequest",
            {"parent": TEXT, "names": Repeated(TEXT), "requestId": TEXT},
        ),
        m.OPERATION,
        "*",
        "Cancel up to 1,000 tasks, each by itself.",
    )
    yield Rpc(
        "RunTask",
        "POST",
        f"{{name={_TASK}}}:run",
        Message("RunTaskRequest", {**named, "responseView": m.VIEW}),
        m.TASK,
        "*",
        "Run a task now.",
    )


def _other_rpcs() -> Iterable[Rpc]:
    resource: Mapping[str, Kind] = {"resource": TEXT}
    options = Message("GetPolicyOptions", {"requestedPolicyVersion": INTEGER})
    policies: Iterable[tuple[str, Mapping[str, Kind], Message, str]] = (
        ("GetIamPolicy", {"options": options}, m.POLICY, "Return the policy, which is empty."),
        (
            "SetIamPolicy",
            {"policy": m.POLICY, "updateMask": Mask(m.POLICY)},
            m.POLICY,
            "Not supported.",
        ),
        (
            "TestIamPermissions",
            {"permissions": Repeated(TEXT)},
            m.PERMISSIONS,
            "Return the permissions asked about: the token grants all of them.",
        ),
    )
    for verb, more, reply, doc in policies:
        yield Rpc(
            verb,
            "POST",
            f"{{resource={_QUEUE}}}:{verb[0].lower()}{verb[1:]}",
            Message(f"{verb}Request", {**resource, **more}),
            reply,
            "*",
            doc,
        )
    yield Rpc(
        "ListLocations",
        "GET",
        "{name=projects/*}/locations",
        Message("ListLocationsRequest", {**m.NAMED, "filter": TEXT, **m.PAGE}),
        m.LOCATIONS,
        None,
        "List the one location.",
        _LOCATIONS,
    )
    yield Rpc(
        "GetLocation",
        "GET",
        f"{{name={_LOCATION}}}",
        Message("GetLocationRequest", m.NAMED),
        m.LOCATION,
        None,
        "Return a location.",
        _LOCATIONS,
    )
    config = f"{_LOCATION}/cmekConfig"
    yield Rpc(
        "GetCmekConfig",
        "GET",
        f"{{name={config}}}",
        Message("GetCmekConfigRequest", m.NAMED),
        m.CMEK_CONFIG,
        None,
        "Not supported.",
    )
    yield Rpc(
        "UpdateCmekConfig",
        "PATCH",
        f"{{cmek_config.name={config}}}",
        Message(
            "UpdateCmekConfigRequest",
            {"cmekConfig": m.CMEK_CONFIG, "updateMask": Mask(m.CMEK_CONFIG)},
        ),
        m.CMEK_CONFIG,
        "cmekConfig",
        "Not supported.",
    )
    yield Rpc(
        "GetOperation",
        "GET",
        f"{{name={_LOCATION}/operations/*}}",
        Message("GetOperationRequest", m.NAMED),
        m.OPERATION,
        None,
        "Not supported: operations are finished when they are returned.",
        _OPERATIONS,
    )


def _of_version(version: str, rpcs: Iterable[Rpc]) -> Mapping[str, Rpc]:
    fields: list[dict[str, Any]] = [{**vars(rpc), "version": version} for rpc in rpcs]
    return {given["name"]: Rpc(**given) for given in fields}


RPCS: Mapping[str, Mapping[str, Rpc]] = {
    "v2": _of_version("v2", [*_rpcs(m.QUEUE, {}), *_task_rpcs(), *_other_rpcs()]),
    "v2beta3": _of_version(
        "v2beta3",
        [
            *_rpcs(m.BETA_QUEUE, {"readMask": Mask(m.BETA_QUEUE)}),
            *_task_rpcs(),
            *_other_rpcs(),
        ],
    ),
}
"""The rpcs by version and name."""
