"""A queue, as App Engine's code works with it, with its statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ..api.bulk import delete_named
from ..api.pulls import complete_tasks
from ..api.queue import Queue as CoreQueue
from ..api.statistics import statistics
from ..core.errors import UnknownQueueError
from ..core.names import check_queue_name
from ..core.times import to_micros
from ..runtime import QueueLookup, Runtime
from . import leasing
from .adding import add_async, several
from .current import current_runtime
from .errors import BadTaskStateError, DuplicateTaskNameError, translated
from .rpc import UserRPC, check_deadline
from .task import Task


class Queue:
    """A queue by its name; it is looked for when something is done with it.

    Raises `InvalidQueueNameError`.
    """

    def __init__(self, name: str = "default") -> None:
        with translated():
            self._name = check_queue_name(name)

    def __repr__(self) -> str:
        return f"Queue<name={self._name!r}>"

    def __eq__(self, other: object) -> bool:
        return self._name == other.name if isinstance(other, Queue) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as in App Engine, whose queues are not hashable

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    def add(self, task: Any, transactional: bool = False) -> Any:
        """Add a task, or a list of up to 100, and return what was given.

        If the app's session holds uncommitted changes, the tasks are part of its transaction;
        otherwise they are stored at once. With ``transactional`` they always are part of it.

        In a list, a task whose name is taken does not keep the others from being added:
        `TaskAlreadyExistsError` or `TombstonedTaskError` is raised afterwards, and ``was_enqueued``
        says which were added. Raises `BadTaskStateError` for a task that was added already,
        `TooManyTasksError`, `DuplicateTaskNameError`, `BadTransactionStateError`,
        `TransactionalRequestTooLargeError`, `UnknownQueueError`, and `InvalidTaskError` and its
        subclasses for a task that cannot be sent; in each of these cases nothing was added.
        """
        return self.add_async(task, transactional).get_result() if task else []

    def add_async(
        self, task: Any, transactional: bool = False, rpc: UserRPC | None = None
    ) -> UserRPC:
        """Begin what `add` does; ``get_result()`` of what is returned has its result."""
        return add_async(self._name, task, transactional, rpc)

    def delete_tasks(self, task: Any) -> Any:
        """Delete a task, or a list of them, by name, and return what was given.

        ``was_deleted`` is then true of those that had not ended. This is how a task of a pull queue
        succeeds, whoever has leased it. Raises `BadTaskStateError` for a
        task without a name or that was deleted already, `DuplicateTaskNameError`, and
        `UnknownQueueError`.
        """
        return self.delete_tasks_async(task).get_result()

    def delete_tasks_async(self, task: Any, rpc: UserRPC | None = None) -> UserRPC:
        """Begin what `delete_tasks` does; ``get_result()`` of what is returned has its result."""
        tasks, multiple = several(task)
        seen: set[str] = set()
        for given in tasks:
            if not given.name or given.was_deleted:
                what = f"{given.name!r} was deleted already" if given.name else "has no name"
                raise BadTaskStateError(f"the task {what}, so it cannot be deleted")
            if given.name in seen:
                raise DuplicateTaskNameError(f"two tasks are named {given.name!r}")
            seen.add(given.name)
        return (rpc or UserRPC()).make(partial(self._delete, tasks, multiple))

    def delete_tasks_by_name(self, task_name: Any) -> Any:
        """Delete a task, or a list of them, by name, and return a `Task` for each; see above."""
        return self.delete_tasks_by_name_async(task_name).get_result()

    def delete_tasks_by_name_async(self, task_name: Any, rpc: UserRPC | None = None) -> UserRPC:
        """Begin what `delete_tasks_by_name` does; ``get_result()`` has its result."""
        if isinstance(task_name, str):
            return self.delete_tasks_async(Task(name=task_name), rpc)
        return self.delete_tasks_async([Task(name=name) for name in task_name], rpc)

    def lease_tasks(self, lease_seconds: float, max_tasks: int, deadline: float = 10) -> list[Task]:
        """Lease up to ``max_tasks`` tasks of a pull queue, those due first first; return them.

        Nobody else gets them for ``lease_seconds``, up to a week. Delete each when it is done;
        otherwise it can be leased again, as often as its ``task_retry_limit`` says, and is dead
        then. Leases are part of the session's transaction if it holds changes. From a paused queue
        nothing is leased.

        Raises `InvalidLeaseTimeError`, `InvalidMaxTasksError`, TypeError, `UnknownQueueError`, and
        `InvalidQueueModeError` for a push queue.
        """
        check_deadline(deadline)
        found: list[Task] = self.lease_tasks_async(lease_seconds, max_tasks).get_result()
        return found

    def lease_tasks_async(
        self, lease_seconds: float, max_tasks: int, rpc: UserRPC | None = None
    ) -> UserRPC:
        """Begin what `lease_tasks` does; ``get_result()`` of what is returned has its result."""
        return leasing.lease(self._name, lease_seconds, max_tasks, rpc)

    def lease_tasks_by_tag(
        self, lease_seconds: float, max_tasks: int, tag: Any = None, deadline: float = 10
    ) -> list[Task]:
        """Lease tasks with one tag, as `lease_tasks` does.

        Without ``tag`` it is that of the task which has been due longest, which may have none.
        """
        check_deadline(deadline)
        rpc = self.lease_tasks_by_tag_async(lease_seconds, max_tasks, tag)
        found: list[Task] = rpc.get_result()
        return found

    def lease_tasks_by_tag_async(
        self, lease_seconds: float, max_tasks: int, tag: Any = None, rpc: UserRPC | None = None
    ) -> UserRPC:
        """Begin what `lease_tasks_by_tag` does; ``get_result()`` has its result."""
        return leasing.lease(self._name, lease_seconds, max_tasks, rpc, by_tag=True, tag=tag)

    def modify_task_lease(self, task: Task, lease_seconds: float) -> None:
        """Have the lease of a task run out ``lease_seconds`` from now; 0 gives the task back.

        Raises `TaskLeaseExpiredError` if it has run out or was changed, `QueuePausedError`, and
        `TombstonedTaskError` if the task has ended.
        """
        leasing.modify(self._name, task, lease_seconds)

    def purge(self) -> None:
        """Delete every task that was added before now and has not ended.

        It takes several transactions, so it raises `BadTransactionStateError` while the app's
        session holds uncommitted changes. Raises `UnknownQueueError`.
        """
        with translated():
            CoreQueue(self._name, current_runtime()).purge()

    def fetch_statistics(self, deadline: float = 10) -> QueueStatistics:
        """Return how the queue is doing."""
        found: QueueStatistics = QueueStatistics.fetch(self, deadline)
        return found

    def fetch_statistics_async(self, rpc: UserRPC | None = None) -> UserRPC:
        """Begin what `fetch_statistics` does; ``get_result()`` has its result."""
        return QueueStatistics.fetch_async(self, rpc)

    def _delete(self, tasks: Sequence[Task], multiple: bool) -> Callable[[], Any]:
        with translated():
            runtime, names = current_runtime(), [str(task.name) for task in tasks]
            end = complete_tasks if QueueLookup(runtime)(self._name).is_pulled else delete_named
            deleted = end(runtime, self._name, names)

        def tell() -> Any:
            for task, was_there in zip(tasks, deleted, strict=True):
                task.mark_deleted(was_there)
            return tasks if multiple else tasks[0]

        return tell


class QueueStatistics:
    """How a queue was doing when it was asked.

    ``tasks`` counts those that have not ended. ``oldest_eta_usec`` is when the first of them is or
    was due, in microseconds since 1970. ``executed_last_minute`` counts attempts, ``in_flight`` the
    tasks that are attempted now. ``enforced_rate`` is in tasks per second, None without a limit.
    """

    _NAMES = (
        "queue",
        "tasks",
        "oldest_eta_usec",
        "executed_last_minute",
        "in_flight",
        "enforced_rate",
    )

    def __init__(
        self,
        queue: Any,
        tasks: int,
        oldest_eta_usec: int | None = None,
        executed_last_minute: int | None = None,
        in_flight: int | None = None,
        enforced_rate: float | None = None,
    ) -> None:
        self.queue = queue
        self.tasks = tasks
        self.oldest_eta_usec = oldest_eta_usec
        self.executed_last_minute = executed_last_minute
        self.in_flight = in_flight
        self.enforced_rate = enforced_rate

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueueStatistics):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._NAMES)

    __hash__ = None  # type: ignore[assignment]  # its values can be changed, as in App Engine

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._NAMES)
        return f"QueueStatistics({told})"

    @classmethod
    def fetch(cls, queue_or_queues: Any, deadline: float = 10) -> Any:
        """Return the statistics of a queue, or of each of a list of queues, given as such or named.

        A queue that does not exist has no tasks. Raises TypeError for a list of queues and names.
        """
        check_deadline(deadline)
        return cls.fetch_async(queue_or_queues).get_result() if queue_or_queues else []

    @classmethod
    def fetch_async(cls, queue_or_queues: Any, rpc: UserRPC | None = None) -> UserRPC:
        """Begin what `fetch` does; ``get_result()`` of what is returned has its result."""
        several = isinstance(queue_or_queues, Iterable) and not isinstance(queue_or_queues, str)
        given = list(queue_or_queues) if several else [queue_or_queues]
        if not (
            all(isinstance(queue, str) for queue in given)
            or all(isinstance(queue, Queue) for queue in given)
        ):
            raise TypeError("statistics are those of queues, or of the names of queues")
        queues = [Queue(queue) if isinstance(queue, str) else queue for queue in given]
        return (rpc or UserRPC()).make(partial(cls._fetch, queues, several))

    @classmethod
    def _fetch(cls, queues: Sequence[Queue], multiple: bool) -> Callable[[], Any]:
        with translated():
            runtime = current_runtime()
            found = [cls._of(runtime, queue) for queue in queues]
        return lambda: found if multiple else found[0]

    @classmethod
    def _of(cls, runtime: Runtime, queue: Queue) -> QueueStatistics:
        try:
            [known] = statistics(runtime, [queue.name])
        except UnknownQueueError:
            return cls(queue, 0)
        eta = known.oldest_eta
        return cls(
            queue,
            known.tasks,
            None if eta is None else to_micros(eta),
            known.executed_last_minute,
            known.in_flight,
            known.enforced_rate,
        )
