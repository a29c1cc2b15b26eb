"""Finding stored tasks, waiting for them and changing them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from blinker import NamedSignal

from ..core import signals
from ..core.durations import seconds
from ..core.errors import BadTaskStateError, TransientError, WaitTimeoutError
from ..core.states import Record, State
from ..core.tasks.options import check_flag
from ..core.tasks.task import Batch, Result, Task
from ..core.times import to_datetime, to_micros
from ..process.logs import get_logger
from ..runtime import Runtime
from ..store import Filter
from ..store.tasks.filters import LastStatus
from .changes import make_change, refuse_own_task

_logger = get_logger()
_LONGEST_NAP = 0.25


class Tasks:
    """The stored tasks of one app; `TaskQueue` offers those of the current one."""

    def __init__(self, find_runtime: Callable[[], Runtime]) -> None:
        self._find_runtime = find_runtime

    @classmethod
    def of(cls, runtime: Runtime) -> Tasks:
        """Return the tasks of this app."""
        return Tasks(lambda: runtime)

    @property
    def _runtime(self) -> Runtime:
        return self._find_runtime()

    def get(self, task_id: str) -> Task:
        """Return the task with this id, as it is now. Raises `UnknownTaskError`."""
        store = self._runtime.store
        return store.read(lambda connection: Task.of(store.search.get(connection, task_id), self))

    def find(
        self,
        *,
        state: State | str | None = None,
        queue: str | None = None,
        url: str | None = None,
        name: str | None = None,
        batch: Batch | str | None = None,
        status: str | int | None = None,
        since: datetime | timedelta | None = None,
        attempts_at_least: int | None = None,
        search: str | None = None,
        limit: int = 100,
        before: Task | str | None = None,
    ) -> list[Task]:
        """Return the newest tasks that match every argument given, newest first.

        At most ``limit`` tasks are returned. ``status`` is that of the last attempt: a number, a
        class such as "5xx", or a reason such as "timeout". ``since`` is the earliest creation time,
        given as an aware datetime or as a timedelta before now. ``search`` is a part of the id, the
        name, the URL or the last error, in upper or lower case; only the newest 100,000 tasks are
        searched. ``before`` is a task or its id: only older tasks are found, so that you can ask
        for the next page.

        Raises ValueError for an unknown state or status, and for a naive ``since``.
        """
        wanted = filter_of(
            state=state,
            queue=queue,
            url=url,
            name=name,
            batch=batch,
            status=status,
            since=since,
            attempts_at_least=attempts_at_least,
            search=search,
            before=before,
        )
        store = self._runtime.store
        return store.read(
            lambda connection: [
                Task.of(record, self) for record in store.search.find(connection, wanted, limit)
            ]
        )

    def wait(self, task_id: str, timeout: float | str | timedelta | None = None) -> Task:
        """Block until a task has ended; see `Task.wait`."""
        patience = None if timeout is None else seconds(timeout, what="timeout")
        limit = None if patience is None else time.monotonic() + patience
        if self._runtime.app.testing and self._runtime.scheduler is None:
            _logger.warning(
                "waiting for task %s, but while testing no dispatcher starts by itself: call "
                "tasks.drain() first",
                task_id,
            )
        nap = 0.005
        with self._runtime.making_way():
            while True:
                refused: TransientError | None = None
                try:
                    if (task := self.get(task_id)).state.is_finished:
                        return task
                    found = f"is still {task.state}"
                except TransientError as error:
                    refused, found = error, f"cannot be read ({error})"
                if limit is not None and time.monotonic() >= limit:
                    raise WaitTimeoutError(
                        f"task {task_id} {found} after {patience:g} s"
                    ) from refused
                time.sleep(nap)
                nap = min(nap * 1.5, _LONGEST_NAP)

    def requeue(self, task_id: str, *, transactional: bool | None = None) -> Task:
        """Schedule a dead task again; see `Task.requeue`."""

        def work(connection: sa.Connection) -> Record:
            self._runtime.store.tasks.requeue(connection, task_id)
            return self._runtime.store.tasks.get(connection, task_id)

        return self._changed(
            work, transactional, f"to requeue task {task_id}", signals.task_requeued
        )

    def run_now(
        self, task_id: str, *, force: bool = False, transactional: bool | None = None
    ) -> Task:
        """Make a scheduled task due; see `Task.run_now`."""
        check_flag("force", force)

        def work(connection: sa.Connection) -> Record:
            if force:
                self._refuse_engine(self._runtime.store.tasks.get(connection, task_id))
            self._runtime.store.tasks.run_now(connection, task_id, force=force)
            return self._runtime.store.tasks.get(connection, task_id)

        return self._changed(work, transactional, f"to run task {task_id} now")

    def _refuse_engine(self, record: Record) -> None:
        queue = self._runtime.settings.queues.get(record.queue)
        if queue is not None and queue.engine is not None:
            raise BadTaskStateError(
                f"task {record.id} is delivered by the engine of its queue, Cloud Tasks, which "
                "cannot be forced: run it now without force"
            )

    def delete(self, task_id: str, *, transactional: bool | None = None) -> bool:
        """Cancel a task; see `Task.delete`."""
        refuse_own_task(self._runtime, [task_id], transactional)
        store, runtime = self._runtime.store, self._runtime

        def tell(deleted: bool) -> None:
            if deleted and signals.task_deleted.receivers:
                signals.task_deleted.send(runtime.app, task=Tasks.of(runtime).get(task_id))

        def work(connection: sa.Connection) -> bool:
            return store.tasks.delete(connection, task_id)

        return make_change(
            runtime,
            work,
            transactional,
            wakes=False,
            tell=tell,
            name=lambda _: [f"to delete task {task_id}"],
        )[0]

    def result(self, task_id: str) -> Result | None:
        """Return the reply that a task succeeded with; see `Task.result`."""
        store = self._runtime.store

        def look(reader: sa.Connection) -> sa.Row[Any] | None:
            keeps = store.tasks.get(reader, task_id).keep_result
            return store.finished_tasks.last_success(reader, task_id) if keeps else None

        row = store.read(look)
        if row is None:
            return None
        encryption = self._runtime.encryption
        return Result.stored(
            row.status,
            encryption.decrypt_text(row.reply_headers),
            encryption.decrypt(bytes(row.reply_body or b"")),
        )

    def get_batch(self, batch_id: str) -> Batch:
        """Return a batch, as it is now. Raises `UnknownBatchError`."""
        store = self._runtime.store
        row = store.read(lambda connection: store.batches.get(connection, batch_id))
        return batch_of(row)

    def _changed(
        self,
        work: Callable[[sa.Connection], Record],
        transactional: bool | None,
        what: str,
        signal: NamedSignal | None = None,
    ) -> Task:
        """Change one task, send its signal, and return the task as it is then."""
        actions = Tasks.of(self._runtime)

        def tell(record: Record) -> None:
            if signal is not None:
                signal.send(self._runtime.app, task=Task.of(record, actions))

        record, commitment = make_change(
            self._runtime, work, transactional, tell=tell, name=lambda _: [what]
        )
        return Task.of(record, actions, commitment=commitment)


def filter_of(
    *,
    state: State | str | None = None,
    queue: str | None = None,
    url: str | None = None,
    name: str | None = None,
    batch: Batch | str | None = None,
    status: str | int | None = None,
    since: datetime | timedelta | None = None,
    attempts_at_least: int | None = None,
    search: str | None = None,
    before: Task | str | None = None,
) -> Filter:
    """Return the filter that the arguments of ``tasks.find`` describe.

    Raises ValueError for a value that makes no sense.
    """
    return Filter(
        state=None if state is None else State(state),
        queue=queue,
        url=url,
        name=name,
        batch=batch.id if isinstance(batch, Batch) else batch,
        status=None if status is None else LastStatus.parse(status),
        since=None if since is None else _earliest(since),
        attempts_at_least=attempts_at_least,
        search=search or None,
        before=before.id if isinstance(before, Task) else before,
    )


def batch_of(row: sa.Row[Any]) -> Batch:
    """Make the batch of a row."""
    return Batch(
        id=row.id,
        created_at=to_datetime(row.created_at),
        finished_at=None if row.finished_at is None else to_datetime(row.finished_at),
        total=row.total,
        succeeded=row.succeeded,
        dead=row.dead,
        cancelled=row.cancelled,
    )


def _earliest(since: datetime | timedelta) -> int:
    instant = (
        datetime.now(UTC) - timedelta(seconds=seconds(since, what="since"))
        if isinstance(since, timedelta)
        else since
    )
    if instant.utcoffset() is None:
        raise ValueError(
            f"since is {instant.isoformat()}, which is naive: attach its time zone, as in "
            "datetime.now(UTC)"
        )
    return to_micros(instant)
