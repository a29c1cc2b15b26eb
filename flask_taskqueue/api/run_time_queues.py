"""What a TaskQueue does with queues: find them, and add, change and delete them at run time."""

from __future__ import annotations

from typing import Unpack

from ..core.settings.queue import QueueOptions
from .added_queues import add_queue, change_queue, delete_queue
from .queue import Queue
from .tasks import Tasks


class RunTimeQueues(Tasks):
    """The queues of an app: those that are configured, and those that are added while it runs."""

    def queue(self, name: str) -> Queue:
        """Return a queue, to inspect it or work on it.

        Raises `UnknownQueueError`.
        """
        return Queue(name, self._runtime)

    def queues(self) -> list[Queue]:
        """Return the configured queues, and those that were added, which the database says."""
        configured, store = self._runtime.settings.queues, self._runtime.store
        added = store.read(store.added_queues.names)
        return [self.queue(name) for name in dict.fromkeys([*configured, *added])]

    def add_queue(
        self, name: str, *, transactional: bool | None = None, **settings: Unpack[QueueOptions]
    ) -> Queue:
        """Add a queue while the app runs, and return it.

        The settings are those of ``TASKQUEUE_QUEUES`` (see `QueueOptions`); ``transactional`` is
        that of `add`. Once this has returned, or once the transaction that it joined has committed,
        every process knows the queue: whoever adds a task reads its settings, and so does every
        claim of a dispatcher, in the claim's own transaction. The host of a ``target`` must be
        allowed by ``TASKQUEUE_TARGETS``. If the name is configured later, the configuration counts.

        Raises `InvalidQueueNameError`, `ConfigurationError` for a setting, `InvalidUrlError` for
        the target, `QueueAlreadyExistsError`, and `TombstonedQueueError` for the name of a queue
        that was deleted in the last three days.
        """
        add_queue(self._runtime, name, settings, transactional, origin="code")
        return self.queue(name)

    def change_queue(
        self, name: str, *, transactional: bool | None = None, **settings: Unpack[QueueOptions]
    ) -> None:
        """Change what is given of a queue that was added; None is the default.

        Each attempt that begins once this is committed follows the new settings, also of tasks that
        were added before. ``priority``, ``target`` and ``tombstone_ttl`` are those of tasks added
        from then on. Raises what `add_queue` raises for its settings, `UnknownQueueError`, and
        `ConfiguredQueueError` for a queue that is configured.
        """
        change_queue(self._runtime, name, settings, transactional)

    def delete_queue(self, name: str, *, transactional: bool | None = None) -> int:
        """Delete a queue that was added, cancel its tasks, and return how many.

        First nothing more can be added to it, then its tasks are cancelled in small transactions,
        as by `Queue.purge`. If the process dies meanwhile, or if a transaction that began before
        stores one more task, the next sweep of any dispatcher cancels the rest. The name is blocked
        for three days, as in Cloud Tasks.

        Raises `UnknownQueueError`, `ConfiguredQueueError` for a queue that is configured, and
        `BadTransactionStateError` if the session holds changes.
        """
        return delete_queue(self._runtime, name, transactional)
