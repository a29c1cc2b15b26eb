"""The task that is being handled."""

from __future__ import annotations

import json
import time
from contextvars import ContextVar
from datetime import datetime
from typing import cast

import sqlalchemy as sa
from werkzeug.local import LocalProxy

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError, shown
from ..core.tasks.task import Task, TaskActions
from ..core.times import lease_clock, to_datetime
from ..runtime import Runtime
from .transaction import report_progress

_ASK_AGAIN = 1.0
_REPORT_AGAIN = 0.5
_TOO_MANY = 2**63


class CurrentTask:
    """What a handler can find out about its own task and attempt."""

    def __init__(self, delivery: Delivery, runtime: Runtime, actions: TaskActions) -> None:
        self._delivery = delivery
        self._runtime = runtime
        self._actions = actions
        self._asked_at = delivery.started
        self._reported_at = 0.0

    @property
    def task(self) -> Task:
        """The task as it was when the attempt began."""
        return Task.of(self._delivery.record, self._actions)

    @property
    def id(self) -> str:
        """The task's id, the same at every attempt.

        Hand it to other services as the idempotency key.
        """
        return self._delivery.record.id

    @property
    def attempt(self) -> int:
        """The number of this attempt, counted from 1; attempts that crashed count too."""
        return self._delivery.record.attempts

    @property
    def first_tried_at(self) -> datetime:
        """When the first attempt began, as an aware datetime in UTC."""
        record = self._delivery.record
        return to_datetime(record.first_tried_at or record.started_at or record.eta)

    @property
    def last_status(self) -> int | None:
        """The status of the previous attempt; None without one, or if it had no reply."""
        return self._delivery.record.last_status

    @property
    def batch_id(self) -> str | None:
        """The id of the batch of this task or callback, for ``tasks.get_batch``."""
        return self._delivery.record.callback_of or self._delivery.record.batch_id

    @property
    def keep_result(self) -> bool:
        """Whether the reply is kept if the attempt succeeds (``keep_result`` of ``tasks.add``)."""
        return bool(self._delivery.record.keep_result)

    def progress(self, done: int, total: int | None = None, note: str | None = None) -> None:
        """Report how far the handler has come, for `Task.progress`.

        ``done`` and ``total`` are counts, and ``note`` is a few words. The report is stored at most
        twice a second, and is left out while the database is away or locked. In a transactional
        handler it becomes visible when the handler commits if the database is SQLite, or if the
        task has a unique_key and the transaction has changed the queue or runs at REPEATABLE READ
        or SERIALIZABLE. Raises ValueError for numbers below 0, NaN or above 2⁶³ and for a note that
        is not text, and TypeError for what is no number.
        """
        # NaN is not within any bounds.
        if not all(0 <= number < _TOO_MANY for number in (done, total or 0)):
            raise ValueError(f"progress is {shown(done)} of {shown(total)}: give numbers from 0 up")
        if note is not None and not isinstance(note, str):
            raise ValueError(f"the note of progress is {shown(note)}: give a text")
        now = time.monotonic()
        if now - self._reported_at < _REPORT_AGAIN and done != total:
            return
        self._reported_at = now
        report_progress(
            self._runtime, self._delivery.record, json.dumps([done, total, note and note[:200]])
        )

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0 once it has passed."""
        return max(0.0, self._delivery.expires - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether the result is no longer wanted: the task was deleted, or its lease lost.

        It can take up to a third of the lease to become true. Check it in long loops and return
        early. It is also true if the database was away for so long that the lease may be lost. If
        the handler has seen it then, the task is attempted again, whatever the handler answers.
        """
        delivery = self._delivery
        if (
            delivery.remote
            and not delivery.cancelled
            and time.monotonic() - self._asked_at > _ASK_AGAIN
        ):
            self._asked_at = time.monotonic()
            self._ask()
        return delivery.see_cancelled()

    def _ask(self) -> None:
        """Look whether the attempt is under way, which another process sees to.

        If the database does not answer for so long, that one could not renew the lease either.
        """
        delivery, store, since = self._delivery, self._runtime.store, lease_clock()
        try:
            found = store.read(
                lambda reader: store.leases.is_current(reader, self.id, self.attempt)
            )
        except (TaskQueueError, sa.exc.DBAPIError):
            delivery.fence(since)
            return
        if found is None:
            delivery.cancelled = True
        else:
            delivery.hold(since, self._runtime.settings.lease)


handling: ContextVar[CurrentTask] = ContextVar("flask_taskqueue.current_task")

current_task: CurrentTask = cast(
    CurrentTask,
    LocalProxy(
        handling,
        unbound_message=(
            "There is no current task: current_task works inside a handler (a function under "
            "@tasks.worker) while it is handling a task."
        ),
    ),
)
"""The task that is being handled; a proxy, like Flask's ``request``."""
