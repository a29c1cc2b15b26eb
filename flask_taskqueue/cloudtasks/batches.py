"""The rpcs about many tasks: each task by itself, in an operation that is finished at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..core.names import task_id
from ..core.rpc.messages import Fields
from ..core.rpc.resource_names import QueueName, task_name
from ..core.rpc.status import Code, RpcError, invalid
from ..core.rpc.wire import timestamp_text
from . import tasks
from .context import Context, Reply
from .errors import translated

_CREATED = 100
_DELETED = 1000
_NONE = "None of the requests succeeded; metadata.failedRequests says why."


def create(context: Context, fields: Fields) -> Reply:
    """Add tasks, each by itself."""
    queue = context.queue_of(fields, "parent")

    def one(request: Any) -> Reply:
        if request.get("parent", str(queue)) != str(queue):
            raise invalid(f"the parent of a request is not that of the batch, {queue}.")
        return tasks.create(context, {**request, "parent": str(queue)})

    return _operation(context, "BatchCreateTasks", queue, fields.get("requests", []), _CREATED, one)


def delete(context: Context, fields: Fields) -> Reply:
    """Cancel tasks, each by itself."""
    queue = context.queue_of(fields, "parent")

    def one(name: Any) -> None:
        found = task_name(name, "a name")
        if found.queue != queue:
            raise invalid(f"{found} is not in the queue of the batch, {queue}.")
        tasks.delete_named(context, found)

    return _operation(context, "BatchDeleteTasks", queue, fields.get("names", []), _DELETED, one)


def _operation(
    context: Context,
    rpc: str,
    queue: QueueName,
    items: Sequence[Any],
    most: int,
    do_one: Callable[[Any], Reply | None],
) -> Reply:
    """Return the operation of a batch, which is done. Raises `RpcError` for none or too many."""
    if not 1 <= len(items) <= most:
        raise invalid(f"the batch has {len(items)} items; it must have 1 to {most}.")
    begun = _now()
    done: list[Reply | None] = []
    failed: dict[str, Any] = {}
    for number, item in enumerate(items):
        try:
            with translated(context.runtime):
                done.append(do_one(item))
        except RpcError as error:
            failed[str(number)] = error.status
    state = "SUCCEEDED" if not failed else "PARTIALLY_SUCCEEDED" if done else "FAILED"
    package = f"type.googleapis.com/google.cloud.tasks.{context.version}"
    metadata: Reply = {
        "@type": f"{package}.{rpc}Metadata",
        "startTime": begun,
        "endTime": _now(),
        "state": state,
        **({"failedRequests": failed} if failed else {}),
    }
    operation = {
        "name": f"{queue.parent}/operations/{task_id()}",
        "metadata": metadata,
        "done": True,
    }
    if not done:
        return {**operation, "error": {"code": Code.ABORTED.number, "message": _NONE}}
    if rpc == "BatchDeleteTasks":
        return {**operation, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}}
    return {**operation, "response": {"@type": f"{package}.{rpc}Response", "tasks": done}}


def _now() -> str:
    return timestamp_text(time.time_ns() // 1000)
