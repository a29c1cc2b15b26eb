"""The service: every rpc of Cloud Tasks, carried out by this app's queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..api.audit import Actor
from ..core.rpc.messages import Fields
from ..runtime import QueueLookup, Runtime
from . import batches, policies, queue_changes, queues, tasks
from .context import Context, Reply
from .errors import translated
from .rpc import Rpc
from .rpcs import RPCS

_METHODS: Mapping[str, Callable[[Context, Fields], Reply]] = {
    "ListQueues": queues.list_all,
    "GetQueue": queues.get,
    "CreateQueue": queue_changes.create,
    "UpdateQueue": queue_changes.update,
    "DeleteQueue": queue_changes.delete,
    "PurgeQueue": queues.purge,
    "PauseQueue": queues.pause,
    "ResumeQueue": queues.resume,
    "ListTasks": tasks.list_some,
    "GetTask": tasks.get,
    "CreateTask": tasks.create,
    "BatchCreateTasks": batches.create,
    "DeleteTask": tasks.delete,
    "BatchDeleteTasks": batches.delete,
    "RunTask": tasks.run,
    "GetIamPolicy": policies.get_policy,
    "SetIamPolicy": policies.not_supported,
    "TestIamPermissions": policies.test_permissions,
    "ListLocations": policies.list_locations,
    "GetLocation": policies.get_location,
    "GetCmekConfig": policies.not_supported,
    "UpdateCmekConfig": policies.not_supported,
    "GetOperation": policies.not_supported,
}


class CloudTasks:
    """The Cloud Tasks API of one app.

    ``transactional`` is that of ``tasks.add``: with None, what a call changes is part of the
    session's transaction if the session holds changes.
    """

    def __init__(self, runtime: Runtime, *, transactional: bool | None = None) -> None:
        self.runtime = runtime
        self._transactional = transactional

    def call(
        self, rpc: str | Rpc, request: Mapping[str, Any], *, actor: Actor | None = None
    ) -> Reply:
        """Carry out an rpc, by its name in v2 or as the table has it, and return the reply.

        Request and reply are messages in proto3 JSON. ``actor`` is who calls, for the audit log.
        Raises `RpcError`, whatever the request holds.
        """
        known = RPCS["v2"][rpc] if isinstance(rpc, str) else rpc
        context = Context(
            runtime=self.runtime,
            find_queue=QueueLookup(self.runtime, self._transactional),
            version=known.version,
            transactional=self._transactional,
            actor=actor,
        )
        with translated(self.runtime):
            return _METHODS[known.name](context, known.request.parse(dict(request)))
