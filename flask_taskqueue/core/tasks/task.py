"""A task, its result and its batch, as their user sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from ..delivery.verdict import complete_body, json_body, stored_headers
from ..errors import BadTransactionStateError
from ..json_text import shown_json
from ..queues.rate_keys import split_rate_key
from ..states import Record, State
from ..times import to_datetime
from ..urls import redacted
from .spec import Disposition


class TaskActions(Protocol):
    """The actions that a task asks of the queue that holds it."""

    def wait(self, task_id: str, timeout: float | str | timedelta | None) -> Task: ...
    def requeue(self, task_id: str, *, transactional: bool | None) -> Task: ...
    def delete(self, task_id: str, *, transactional: bool | None) -> bool: ...
    def run_now(self, task_id: str, *, force: bool, transactional: bool | None) -> Task: ...
    def result(self, task_id: str) -> Result | None: ...


@dataclass(frozen=True, slots=True)
class Result:
    """The reply that a task succeeded with.

    ``body`` holds at most ``TASKQUEUE_REPLY_EXCERPT`` bytes of it; ``truncated`` says whether there
    was more.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    truncated: bool = False

    @classmethod
    def stored(cls, status: int, headers: str | None, body: bytes) -> Result:
        """Return the result of a reply that was stored with these headers."""
        kept, truncated = stored_headers(headers)
        return cls(status, kept, body, truncated)

    @property
    def text(self) -> str:
        """The body as text.

        Raises `ResultTruncatedError` if only its beginning was kept, and `ResultNotJsonError` if
        JSON could not hold what the task's function returned.
        """
        return complete_body(self.body, self.truncated, self.headers).decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The body, decoded from JSON; None if the task's function returned None.

        Raises `ResultTruncatedError` if only its beginning was kept, and `ResultNotJsonError`, a
        ValueError, if it is not JSON, or JSON could not hold what the function returned.
        """
        if self.status == 204:
            return None
        return json_body(self.body, self.truncated, self.headers)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress that a handler reported."""

    done: int
    total: int | None = None
    note: str | None = None

    @classmethod
    def stored(cls, text: str | None) -> Progress | None:
        """Return the progress that a task's row holds, if it holds one."""
        return cls(*kept) if text and (kept := shown_json(text, list)) and len(kept) <= 3 else None


def progress_report(state: State, progress: Progress | None) -> dict[str, Any]:
    """Return how far a task has come, as an object for JSON."""
    known = progress or Progress(0)
    return {
        "state": state.value,
        "finished": state.is_finished,
        "done": known.done,
        "total": known.total,
        "note": known.note,
    }


@dataclass(slots=True)
class Commitment:
    """Whether the transaction that stored a task has committed; shared by all who wait for it."""

    is_committed: bool = True

    def commit(self) -> None:
        """Record that it has committed."""
        self.is_committed = True


@dataclass(frozen=True, slots=True)
class Task:
    """What was known of a task when this value was read; it does not change afterwards.

    ``eta`` is the earliest time asked for and never changes; ``due_at`` is when the task may next
    be taken (for a leased one, when its lease runs out; None once it has ended). ``attempts``
    counts deliveries started, ``crashes`` those whose process died. A scheduled task without
    ``due_at`` waits for its key, or for a token of its rate key. ``disposition`` says what add()
    did: "added", "replaced" (this task took the place of another), "skipped" or "debounced" (in
    both cases this is the task that was already there). ``last_reason`` is one word for the outcome
    of the last attempt: "success", "failure" (an unsuccessful reply), "timeout", "connection",
    "tls", "crash", "permanent". All datetimes are aware, in UTC.
    """

    id: str
    name: str | None
    queue: str
    url: str
    method: str
    state: State
    priority: int
    eta: datetime
    due_at: datetime | None
    created_at: datetime
    first_tried_at: datetime | None
    finished_at: datetime | None
    attempts: int
    crashes: int
    last_status: int | None
    last_reason: str | None
    last_error: str | None
    unique_key: str | None
    concurrency_key: str | None
    serial_key: str | None
    rate_key: str | None
    expires_at: datetime | None
    batch_id: str | None
    schedule: str | None
    progress: Progress | None
    disposition: Disposition | None = field(compare=False)
    _actions: TaskActions = field(repr=False, compare=False)
    _commitment: Commitment = field(repr=False, compare=False)

    @classmethod
    def of(
        cls,
        record: Record,
        actions: TaskActions,
        disposition: Disposition | None = None,
        commitment: Commitment | None = None,
    ) -> Task:
        """Return the task of a row."""
        kind, _, key = (record.lock_key or "").partition(":")
        return cls(
            id=record.id,
            name=record.name,
            queue=record.queue,
            url=record.url,
            method=record.method,
            state=State.of(record),
            priority=record.priority,
            eta=to_datetime(record.eta),
            due_at=_instant(record.due_at),
            created_at=to_datetime(record.created_at),
            first_tried_at=_instant(record.first_tried_at),
            finished_at=_instant(record.finished_at),
            attempts=record.attempts,
            crashes=record.crashes,
            last_status=record.last_status,
            last_reason=record.last_reason,
            last_error=record.last_error,
            unique_key=record.unique_key,
            concurrency_key=key if kind == "c" else None,
            serial_key=key if kind == "s" else None,
            rate_key=split_rate_key(record.lock_key or "")[1] if kind == "r" else None,
            expires_at=_instant(record.expires_at),
            batch_id=record.batch_id,
            schedule=record.schedule,
            progress=Progress.stored(record.progress),
            disposition=disposition,
            _actions=actions,
            _commitment=commitment or Commitment(),
        )

    def __repr__(self) -> str:
        """Leave out the query string and user information, because a repr ends up in logs."""
        return (
            f"<Task {self.id} {self.method} {redacted(self.url)} {self.state} queue={self.queue}>"
        )

    @property
    def was_enqueued(self) -> bool:
        """Whether add() stored this task, rather than finding one; the word is App Engine's."""
        return self.disposition in ("added", "replaced")

    @property
    def is_committed(self) -> bool:
        """Whether the task is stored for good.

        It is False only for a task that add() made part of the session's transaction, until that
        commits; it stays False if the transaction is rolled back. A task that was read is
        committed.
        """
        return self._commitment.is_committed

    @property
    def result(self) -> Result | None:
        """The reply that the task succeeded with, read now; needs ``keep_result``."""
        return self._actions.result(self.id)

    def report(self) -> dict[str, Any]:
        """Return how far the task has come, as an object for JSON that a page may show.

        It has ``state``, ``finished``, ``done``, ``total`` and ``note``: nothing of what the task
        holds, and no error. ``TASKQUEUE_PROGRESS`` opens a route that answers with it; call this in
        a view of your own that checks who asks.
        """
        return progress_report(self.state, self.progress)

    def wait(self, timeout: float | str | timedelta | None = None) -> Task:
        """Block until the task has ended and return it as it is then.

        ``timeout`` is a duration, in seconds or as "10m"; None waits for ever, even while the
        database is away. Raises `WaitTimeoutError` when it passes (the task itself continues),
        `ConfigurationError` for anything but a duration, and `BadTransactionStateError` for a task
        whose own transaction has not been committed, or, on SQLite, while the session holds changes
        that the task would have to wait for.
        """
        if not self.is_committed:
            raise BadTransactionStateError(
                f"task {self.id} is part of a transaction that has not been committed: "
                "commit the session first"
            )
        return self._actions.wait(self.id, timeout)

    def requeue(self, *, transactional: bool | None = None) -> Task:
        """Schedule a dead task again, due now, its attempts and crashes counted from zero.

        This method, `delete` and `run_now` follow the transaction rule of ``tasks.add``: they are
        part of the session's transaction if it holds changes; ``transactional`` True or False
        forces one or the other.

        Raises `BadTaskStateError` unless the task is dead, and `UnknownTaskError` if it was pruned.
        """
        return self._actions.requeue(self.id, transactional=transactional)

    def delete(self, *, transactional: bool | None = None) -> bool:
        """Cancel the task; return whether it was still scheduled or leased.

        A delivery under way is not interrupted, but ``current_task.cancelled`` becomes true within
        a heartbeat, and its result is not recorded as success. Until it ends, tasks that wait for
        its key or its place in the queue keep waiting.
        """
        return self._actions.delete(self.id, transactional=transactional)

    def run_now(self, *, force: bool = False, transactional: bool | None = None) -> Task:
        """Make a scheduled task due now; its eta stays what it was.

        With ``force`` its next attempt begins as soon as a dispatcher has a free slot, before
        others, even if its queue is paused, at its rate or full, or if its receiver asked for less.
        It takes no token of the rate, but a place while it runs. Keys are respected: it may still
        have to wait for its own. What comes after that attempt is as usual.

        Raises `BadTaskStateError` unless the task is scheduled, and for a task of a pull queue,
        whose lease a worker may hold.
        """
        return self._actions.run_now(self.id, force=force, transactional=transactional)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else to_datetime(micros)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was known of a batch when this value was read."""

    id: str
    created_at: datetime
    finished_at: datetime | None
    total: int
    succeeded: int
    dead: int
    cancelled: int

    @property
    def pending(self) -> int:
        """The number of its tasks that have not ended."""
        return max(0, self.total - self.succeeded - self.dead - self.cancelled)

    @property
    def is_finished(self) -> bool:
        """Whether all tasks have ended; dead ones that are requeued later are not counted again."""
        return self.finished_at is not None
