"""What can be done with a queue that is there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from .bulk import change_ids, change_matching
from .core import signals
from .core.clock import to_datetime
from .core.errors import ConfigurationError, UnknownQueueError
from .core.queue_settings import LIMITS
from .core.queue_statistics import QueueStatistics
from .core.states import State
from .core.task import Task
from .runtime import Runtime
from .store import Action, Filter
from .stored import TasksOf


class QueueOperations:
    """One queue of one application. Nothing is read until something is asked. Raises `UnknownQueueError`."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        known = runtime.settings.queues
        if name not in known:
            raise UnknownQueueError(f"there is no queue {name!r}; TASKQUEUE_QUEUES has {', '.join(sorted(known))}")
        self.name = name
        self._runtime = runtime
        self._tasks = TasksOf(runtime)

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    def get(self, name: str) -> Task | None:
        """The task of that name, ended or not; None if there is none."""
        found = self.find(name=name, limit=1)
        return found[0] if found else None

    def find(
        self,
        *,
        state: State | str | None = None,
        url: str | None = None,
        name: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[Task]:
        """The newest tasks of the queue that match, newest first; see ``tasks.find``."""
        store = self._runtime.store
        with store.reading() as connection:
            found = store.newest.find(connection, self._filter(state, url, name=name, before=before), limit)
        return [Task.of(record, self._tasks) for record in found]

    def delete(self, tasks: Task | str | Collection[Task | str]) -> int:
        """Cancel tasks, given as such or by their ids; how many had not ended. See `Task.delete`."""
        one = [tasks] if isinstance(tasks, Task | str) else list(tasks)
        ids = [task.id if isinstance(task, Task) else task for task in one]
        return change_ids(self._runtime, Action.DELETE, ids, queue=self.name)

    def delete_matching(self, *, state: State | str | None = None, url: str | None = None) -> int:
        """Cancel the tasks that match and have not ended; how many. In small transactions, so others are not kept waiting."""
        return self._each(Action.DELETE, state, url)

    def purge(self) -> int:
        """Cancel every task that was added before now and has not ended; how many."""
        return self.delete_matching()

    def pause(self, by: str | None = None) -> bool:
        """Take nothing more from the queue, in any process; what runs goes on, and tasks can be added. False if it was paused.

        ``by`` says who, up to 100 characters, for those who wonder later.
        """
        changed = self._change(lambda queues, connection: queues.pause(connection, self.name, by and by[:100]))
        if changed:
            signals.queue_paused.send(self._runtime.app, queue=self.name, by=by)
        return changed

    def resume(self) -> bool:
        """Take from the queue again; False if it was not paused."""
        changed = self._change(lambda queues, connection: queues.resume(connection, self.name))
        self._runtime.wake()
        if changed:
            signals.queue_resumed.send(self._runtime.app, queue=self.name)
        return changed

    def configure(self, **limits: Any) -> None:
        """Change ``rate`` ("20/m"), ``bucket_size`` or ``max_concurrent`` (None for no limit) for all dispatchers.

        They stay, over restarts too, until the configuration of the queue changes. Raises
        `ConfigurationError` for a value that cannot be used.
        """
        for name in limits:
            if name not in LIMITS:
                raise ConfigurationError(f"{name!r} cannot be changed at run time; {', '.join(LIMITS)} can")
        checked = {name: None if value is None else LIMITS[name](name, value) for name, value in limits.items()}
        if "bucket_size" in checked and checked["bucket_size"] is None:
            raise ConfigurationError("bucket_size is None; it must be a whole number from 1 to 10000")
        self._change(lambda queues, connection: queues.configure(connection, self.name, checked))
        self._runtime.wake()

    def run_now(self, *, url: str | None = None) -> int:
        """Make the scheduled tasks due that are not yet (with this URL only, if it is given); how many."""
        return self._each(Action.RUN_NOW, None, url)

    def requeue_dead(self, *, url: str | None = None) -> int:
        """Schedule dead tasks again (with this URL only, if it is given), as `Task.requeue`; how many."""
        return self._each(Action.REQUEUE, None, url)

    def statistics(self) -> QueueStatistics:
        """How the queue is doing. Finished tasks are counted as they finish, so it costs little however many there are."""
        return statistics(self._runtime, [self.name])[0]

    def _filter(self, state: State | str | None, url: str | None, **fields: Any) -> Filter:
        return Filter(state=None if state is None else State(state), queue=self.name, url=url, **fields)

    def _each(self, action: Action, state: State | str | None, url: str | None) -> int:
        return change_matching(self._runtime, action, self._filter(state, url))

    def _change(self, change: Callable[[Any, sa.Connection], bool]) -> bool:
        store = self._runtime.store
        store.ensure_queues()
        return store.transact(lambda connection: change(store.queues, connection))


def statistics(runtime: Runtime, names: Collection[str] | None = None) -> list[QueueStatistics]:
    """The statistics of some queues, or of all, by name. Raises `UnknownQueueError`."""
    store = runtime.store
    store.ensure_queues()
    with store.reading() as connection:
        rows = {row.name: row for row in store.queues.rows(connection)}
        chosen = sorted(rows) if names is None else list(names)
        for name in chosen:
            if name not in rows:
                raise UnknownQueueError(f"there is no queue {name!r}; there are {', '.join(sorted(rows))}")
        counted = store.statistics.of(connection, chosen)
        gates = store.queues.gates(connection, chosen)
    return [
        QueueStatistics(
            queue=name,
            scheduled=counted[name].scheduled,
            in_flight=counted[name].leased,
            waiting_for_key=counted[name].parked,
            succeeded=counted[name].succeeded,
            dead=counted[name].dead,
            cancelled=counted[name].cancelled,
            oldest_eta=None if counted[name].due_at is None else to_datetime(counted[name].due_at or 0),
            executed_last_minute=counted[name].last_minute,
            executed_last_hour=counted[name].last_hour,
            failed_last_hour=counted[name].failed_last_hour,
            rate=rows[name].rate,
            bucket_size=rows[name].bucket_size,
            max_concurrent=rows[name].max_concurrent,
            enforced_rate=gates[name].enforced,
            paused_at=None if rows[name].paused_at is None else to_datetime(rows[name].paused_at),
            paused_by=rows[name].paused_by,
        )
        for name in chosen
    ]
