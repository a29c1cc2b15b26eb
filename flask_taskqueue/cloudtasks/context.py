"""The context of a call: which app it works on, and whose transaction it joins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ..api.audit import Actor, AuditEntry, recorded
from ..api.queue import Queue
from ..core.errors import UnknownQueueError
from ..core.rpc.messages import Fields
from ..core.rpc.resource_names import QueueName, queue_name
from ..core.rpc.status import Code, RpcError, invalid
from ..core.settings.queue import QueueSettings
from ..runtime import FindQueue, Runtime

NO_QUEUE = (
    "Queue does not exist. If you just created the queue, wait at least a minute for the queue to "
    "initialize."
)
NOT_FOUND = "Requested entity was not found."

T = TypeVar("T")
Reply = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the methods of the service share.

    ``transactional`` is that of ``tasks.add``. ``actor`` is who calls, for the audit log; None for
    the app itself, whose own calls are not audited.
    """

    runtime: Runtime
    find_queue: FindQueue
    version: str = "v2"
    transactional: bool | None = None
    actor: Actor | None = None

    def check_parent(self, parent: str, what: str = "parent") -> str:
        """Return the name of a location that the app answers for. Raises `RpcError`."""
        allowed = self.runtime.settings.api_parent
        if allowed is not None and parent != allowed:
            raise RpcError(
                Code.NOT_FOUND,
                f"{what} is in {parent}, and this app answers for {allowed} "
                "(TASKQUEUE_API_PARENT).",
            )
        return parent

    def queue_of(self, fields: Fields, field: str = "name", missing: str = NO_QUEUE) -> QueueName:
        """Return the name of a queue that exists, which a field of the request gives.

        Raises `RpcError`, with the text ``missing`` if there is no such queue.
        """
        return self.existing(queue_name(required(fields, field), field), missing)

    def existing(self, name: QueueName, missing: str = NO_QUEUE) -> QueueName:
        """Return the name of a queue if it exists. Raises `RpcError` otherwise."""
        self.check_parent(name.parent, "the queue")
        if not self.exists(name):
            raise RpcError(Code.NOT_FOUND, missing)
        return name

    def settings_of(self, name: QueueName) -> QueueSettings:
        """Return the settings of a queue. Raises `UnknownQueueError`."""
        return self.find_queue(name.queue)

    def exists(self, name: QueueName) -> bool:
        """Return whether there is a queue, configured or added."""
        try:
            self.find_queue(name.queue)
        except UnknownQueueError:
            return False
        return True

    def queue(self, name: QueueName) -> Queue:
        """Return a queue, to work on it."""
        return Queue(name.queue, self.runtime)

    @contextmanager
    def audited(self, action: str, subject: str) -> Iterator[None]:
        """Write an entry of the audit log with the change that is made within."""
        if self.actor is None:
            yield
            return
        entry = AuditEntry(self.runtime, self.actor, action, subject)
        with recorded(self.runtime, entry):
            yield

    def change(self, action: str, subject: str, work: Callable[[], T]) -> T:
        """Make a change, with its entry in the audit log."""
        with self.audited(action, subject):
            return work()


def required(fields: Fields, name: str) -> Any:
    """Return a field that has to be there. Raises `RpcError`."""
    value = fields.get(name)
    if value is None or value == "":
        raise invalid(f"{name} is required.")
    return value
