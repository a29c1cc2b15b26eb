"""A queue, as its user works with it: ``tasks.queue("mail")``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Unpack, overload

import sqlalchemy as sa

from ..core import signals
from ..core.errors import ConfigurationError
from ..core.queues.statistics import QueueStatistics
from ..core.settings.engines import refuse_limits
from ..core.settings.queue import LIMITS, LimitOptions, QueueSettings
from ..core.states import State
from ..core.tasks.spec import SpecLike, TaskOptions, TaskSpec
from ..core.tasks.task import Task
from ..runtime import QueueLookup, Runtime
from ..store import Action, Filter, Store
from ..web.worker import Worker
from .adding import AddedMany, add_many, add_task, add_tasks
from .bulk import change_ids, change_matching, purge_queue
from .changes import make_change
from .pausing import await_pause
from .statistics import statistics
from .tasks import Tasks


class Queue:
    """One queue of one app.

    Creating it reads the database only if the queue is not a configured one. Raises
    `UnknownQueueError`.

    The methods that change the queue follow the transaction rule of ``tasks.add`` and take
    ``transactional`` as it does.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.is_configured: bool = name in runtime.settings.queues
        """Whether the configuration makes the queue, rather than ``tasks.add_queue``."""
        if not self.is_configured:
            QueueLookup(runtime)(name)
        self.name = name
        self._runtime = runtime
        self._tasks = Tasks.of(runtime)

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    @overload
    def add(self, url: list[SpecLike], *, transactional: bool | None = None) -> list[Task]: ...

    @overload
    def add(
        self,
        url: str | Worker[..., Any] | TaskSpec | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        transactional: bool | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task: ...

    def add(
        self,
        url: Any = None,
        params: Mapping[str, Any] | None = None,
        *,
        transactional: bool | None = None,
        **options: Any,
    ) -> Task | list[Task]:
        """Add a task as ``tasks.add`` does, or up to 1,000 in one transaction, to this queue.

        Each item of a list is a `TaskSpec`, a URL, a pair of URL and params, or a mapping of
        arguments. If one is malformed, none is added. If the name or unique_key of one is taken,
        the task that has it is returned in its place, with ``was_enqueued`` False; the others are
        stored. Raises `TooManyTasksError`, `DuplicateTaskNameError` and what ``tasks.add`` raises.
        """
        if not isinstance(url, list):
            spec = url if isinstance(url, TaskSpec) else TaskSpec(url, params, **options)
            return add_task(self._runtime, spec.in_queue(self.name), transactional)
        if params is not None or options:
            raise TypeError("a list of tasks takes no params or options: give each of its own")
        return add_tasks(
            self._runtime,
            [TaskSpec.of(spec).in_queue(self.name) for spec in url],
            transactional,
        )

    @property
    def settings(self) -> QueueSettings:
        """The settings of the queue, read now, with the limits that apply now.

        Raises `UnknownQueueError` if it was deleted meanwhile.
        """
        runtime = self._runtime
        known = QueueLookup(runtime)(self.name)
        if not self.is_configured:
            return known
        limits = runtime.store.read(
            lambda connection: runtime.store.queues.limits(connection, self.name)
        )
        return replace(known, **limits)

    def add_many(
        self, specs: Iterable[SpecLike], *, transactional: bool | None = None
    ) -> AddedMany:
        """Add any number of tasks to this queue, as ``tasks.add_many`` does."""
        return add_many(
            self._runtime,
            (spec.in_queue(self.name) for spec in TaskSpec.each(specs)),
            transactional,
        )

    def get(self, name: str) -> Task | None:
        """Return the task with this name, ended or not, or None if there is none."""
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
        """Return the newest tasks of the queue that match, newest first; see ``tasks.find``."""
        store = self._runtime.store
        found = store.read(
            lambda connection: store.search.find(
                connection, self._filter(state, url, name=name, before=before), limit
            )
        )
        return [Task.of(record, self._tasks) for record in found]

    def delete(
        self, tasks: Task | str | Collection[Task | str], *, transactional: bool | None = None
    ) -> int:
        """Cancel tasks, given as such or by their ids, and return how many had not ended.

        See `Task.delete`.
        """
        chosen = [tasks] if isinstance(tasks, Task | str) else list(tasks)
        ids = [task.id if isinstance(task, Task) else task for task in chosen]
        return change_ids(
            self._runtime, Action.DELETE, ids, queue=self.name, transactional=transactional
        )

    def delete_matching(
        self,
        *,
        state: State | str | None = None,
        url: str | None = None,
        transactional: bool | None = None,
    ) -> int:
        """Cancel the tasks that match and have not ended, and return how many.

        The transactions are small, so that others are not kept waiting. Raises
        `BadTransactionStateError` if the session holds changes, because several transactions cannot
        be part of one.
        """
        return self._each(Action.DELETE, state, url, transactional)

    def purge(self, *, transactional: bool | None = None) -> int:
        """Cancel every task that was added before now and has not ended, and return how many.

        Works and raises as `delete_matching`. The queue keeps when its last purge began.
        """
        return purge_queue(self._runtime, self.name, transactional)

    def pause(self, by: str | None = None, *, transactional: bool | None = None) -> bool:
        """Stop taking tasks from the queue, in every process; return False if it was paused.

        Running tasks continue, and tasks can still be added. Once this has returned (or, as part of
        the session's transaction, once that has committed), nothing more of the queue begins: each
        dispatcher has given back what it had leased ahead, which does not count as an attempt. If
        one does not answer within five seconds, a warning says which. ``by`` records who paused the
        queue, in up to 100 characters.
        """

        def work(store: Store, connection: sa.Connection) -> bool:
            return store.queues.pause(connection, self.name, by and by[:100])

        def tell(changed: bool) -> None:
            await_pause(self._runtime, self.name)
            if changed:
                signals.queue_paused.send(self._runtime.app, queue=self.name, by=by)

        return self._change(work, transactional, "pause", tell)

    def resume(self, *, transactional: bool | None = None) -> bool:
        """Take tasks from the queue again; return False if it was not paused."""

        def work(store: Store, connection: sa.Connection) -> bool:
            return store.queues.resume(connection, self.name)

        def tell(changed: bool) -> None:
            if changed:
                signals.queue_resumed.send(self._runtime.app, queue=self.name)

        return self._change(work, transactional, "resume", tell, wakes=True)

    def configure(
        self, *, transactional: bool | None = None, **limits: Unpack[LimitOptions]
    ) -> None:
        """Change limits for all dispatchers.

        They are ``rate`` ("20/m"), ``bucket_size`` and ``max_concurrent``, and for each rate key
        ``rate_per_key`` and ``bucket_size_per_key``. None removes the limit. The values last,
        across restarts too, until the queue's configuration changes. Raises `ConfigurationError`
        for a value that cannot be used, and for a limit of a pull queue, which has none.
        """
        for name in limits:
            if name not in LIMITS:
                raise ConfigurationError(
                    f"{name!r} cannot be changed at run time; {', '.join(LIMITS)} can"
                )
        refuse_limits(self.settings, limits)
        checked = {name: _checked_limit(name, value) for name, value in limits.items()}

        def work(store: Store, connection: sa.Connection) -> bool:
            changed = store.queues.configure(connection, self.name, checked)
            if "rate_per_key" in checked:
                store.locks.rates.restart(connection, self.name)
            return changed

        def tell(_: bool) -> None:
            if checked.get("rate") == 0:
                await_pause(self._runtime, self.name)

        self._change(work, transactional, "configure", tell, wakes=True)

    def run_now(self, *, url: str | None = None, transactional: bool | None = None) -> int:
        """Make scheduled tasks that are not due yet due now, and return how many; none is pulled.

        With ``url``, only tasks with that URL. Works and raises as `delete_matching`.
        """
        return self._each(Action.RUN_NOW, None, url, transactional)

    def requeue_dead(self, *, url: str | None = None, transactional: bool | None = None) -> int:
        """Schedule dead tasks again, as `Task.requeue` does, and return how many.

        With ``url``, only tasks with that URL. Works and raises as `delete_matching`.
        """
        return self._each(Action.REQUEUE, None, url, transactional)

    def statistics(self) -> QueueStatistics:
        """Return how the queue is doing.

        Finished tasks are counted as they finish, so this is cheap however many there are.
        """
        return statistics(self._runtime, [self.name])[0]

    def _filter(self, state: State | str | None, url: str | None, **fields: Any) -> Filter:
        return Filter(
            state=None if state is None else State(state), queue=self.name, url=url, **fields
        )

    def _each(
        self, action: Action, state: State | str | None, url: str | None, transactional: bool | None
    ) -> int:
        return change_matching(
            self._runtime, action, self._filter(state, url), transactional=transactional
        )

    def _change(
        self,
        change: Callable[[Store, sa.Connection], bool],
        transactional: bool | None,
        verb: str,
        tell: Callable[[bool], object] = lambda _: None,
        *,
        wakes: bool = False,
    ) -> bool:
        work, name = partial(self._changed, change), [f"to {verb} queue {self.name}"]
        return make_change(
            self._runtime, work, transactional, wakes=wakes, tell=tell, name=lambda _: name
        )[0]

    def _changed(
        self, change: Callable[[Store, sa.Connection], bool], connection: sa.Connection
    ) -> bool:
        """Change the queue, unless it was deleted meanwhile, in one transaction."""
        store, configured = self._runtime.store, self._runtime.settings.queues
        if not self.is_configured and store.added_queues.find(connection, self.name) is None:
            raise store.added_queues.missing_error(connection, self.name, configured)
        return change(store, connection)


def _checked_limit(name: str, value: Any) -> Any:
    if value is not None:
        return LIMITS[name](name, value)
    if name.startswith("bucket_size"):
        raise ConfigurationError(f"{name} is None; it must be a whole number from 1 to 10000")
    return None
