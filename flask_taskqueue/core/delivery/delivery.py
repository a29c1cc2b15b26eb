"""A delivery: an attempt as its handler sees it, and the headers that tell it so."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Collection
from contextvars import Context
from dataclasses import dataclass, field

from ..errors import InvalidTaskError
from ..states import Lease, Record
from ..strike import Strike
from .verdict import Verdict

FAMILIES = ("taskqueue", "appengine", "cloudtasks")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,500}", re.ASCII)
_SCHEDULE = re.compile(r"[\x20-\x7e]{1,100}", re.ASCII)


def delivery_headers(record: Record, families: Collection[str] = FAMILIES[:1]) -> dict[str, str]:
    """Return the task headers of App Engine and Cloud Tasks, under each of the prefixes asked for.

    The retry count is 0 at the first attempt and includes crashes. The execution count is the
    number of earlier attempts that received a reply; Cloud Tasks' does not include replies of 5xx.
    Previous response and retry reason are sent on retries only. If there was no response (a
    timeout, a lost connection, a crash), the previous response is 0, and 504 for Cloud Tasks; the
    retry reason is ours, App Engine's wording, or empty.
    """
    headers: dict[str, str] = {}
    if "taskqueue" in families:
        _TASKQUEUE.add(headers, record, record.executions, "0", record.last_reason or "")
        if batch := record.callback_of or record.batch_id:
            headers["X-TaskQueue-BatchId"] = batch
        if record.schedule:
            headers["X-TaskQueue-Schedule"] = record.schedule
    if "appengine" in families:
        reason = "App Error" if record.last_status else "Instance Unavailable"
        _APPENGINE.add(headers, record, record.executions, "0", reason)
        if record.schedule:
            headers["X-AppEngine-Cron"] = "true"
    if "cloudtasks" in families:
        _CLOUDTASKS.add(headers, record, record.answered, "504", "")
    return headers


def check_words(record: Record) -> None:
    """Check that the values for headers and signatures could have been stored by ``add()``.

    A row may have been written by hand. Raises `InvalidTaskError`.
    """
    check_word(record.id)
    for word in (record.name, record.batch_id, record.callback_of, record.last_reason):
        if word is not None:
            check_word(word)
    if record.schedule is not None and not _SCHEDULE.fullmatch(record.schedule):
        raise InvalidTaskError("the name of a schedule is printable ASCII")


def check_word(word: str) -> None:
    """Check an id or a name, such as that of a queue. Raises `InvalidTaskError`."""
    if not _WORD.fullmatch(word):
        raise InvalidTaskError(
            "id, queue, name, batch and reason are letters, digits, hyphens and underscores"
        )


def proof_headers(record: Record) -> dict[str, str]:
    """Return the headers with which every delivery to the app's own routes is signed."""
    return {
        "X-TaskQueue-QueueName": record.queue,
        "X-TaskQueue-TaskRetryCount": str(record.attempts - 1),
    }


class _Family:
    """The headers of one prefix, whose names are made once."""

    def __init__(self, prefix: str) -> None:
        self._queue = f"{prefix}-QueueName"
        self._name = f"{prefix}-TaskName"
        self._retries = f"{prefix}-TaskRetryCount"
        self._executions = f"{prefix}-TaskExecutionCount"
        self._eta = f"{prefix}-TaskETA"
        self._response = f"{prefix}-TaskPreviousResponse"
        self._reason = f"{prefix}-TaskRetryReason"

    def add(
        self,
        headers: dict[str, str],
        record: Record,
        executions: int,
        no_response: str,
        reason: str,
    ) -> None:
        headers[self._queue] = record.queue
        headers[self._name] = record.name or record.id
        headers[self._retries] = str(record.attempts - 1)
        headers[self._executions] = str(executions)
        headers[self._eta] = f"{record.eta / 1_000_000:.6f}"
        if record.attempts > 1:
            headers[self._response] = str(record.last_status or no_response)
            headers[self._reason] = reason


_TASKQUEUE, _APPENGINE, _CLOUDTASKS = map(_Family, ("X-TaskQueue", "X-AppEngine", "X-CloudTasks"))


_SURE = 0.8
"""The fraction of a lease after which it is not relied upon any more unless it was renewed."""


@dataclass(slots=True, eq=False)
class Delivery:
    """One attempt under way.

    In process, this object itself, in the WSGI environ under `ENVIRON_KEY`, proves that a request
    comes from this app's dispatcher, because no HTTP client can put an object there. ``started``
    and ``expires`` are seconds of the monotonic clock, ``held_until`` of the clock of leases.
    """

    record: Record
    started: float
    expires: float
    held_until: float = math.inf
    """The time until which this process may be sure of its lease.

    It lies before the time at which the lease runs out, unless the lease is renewed.
    """
    thread_id: int | None = None
    cancelled: bool = False
    """Whether nobody waits for the result any more.

    The task was deleted, or its lease was lost.
    """
    lease_uncertain: bool = False
    """Whether ``cancelled`` is set only because its lease may have run out.

    The lease may turn out to be held after all.
    """
    cancel_seen: bool = False
    """Whether its handler has seen ``cancelled`` while its lease was uncertain.

    The handler may have stopped half way, so its reply does not count as a success.
    """
    suspect: bool = False
    """Whether one more death of its process would condemn its task."""
    alone_for: float = 0.0
    """The number of seconds from its start within which nothing begins beside it."""
    interrupted: bool = False
    """Whether its deadline is going to be raised, or has been."""
    strike: Strike | None = None
    """The strike that raises the deadline."""
    shields: int = 0
    """The number of parts of its thread's work that must not be interrupted now."""
    postponed: bool = False
    """Whether the deadline is raised as soon as those parts are done."""
    cancel: Callable[[], bool] | None = None
    """A function that ends what the shielded part of its thread's work waits for.

    That is a coroutine in an event loop; the function returns whether it was possible just now.
    """
    abandoned: bool = False
    """Whether its thread did not stop at the deadline.

    Results that the thread still brings are not trusted.
    """
    remote: bool = False
    """Whether the dispatcher that waits for the reply is in another process."""
    ping: bool = False
    """Whether it only tests that the route is reached, without calling a handler."""
    entered: bool = False
    """Whether it has begun.

    Its view was called in this process, or it was handed to a transport that leads out of the
    process.
    """
    away: bool = False
    """Whether it was handed to a transport that leads out of this process.

    This process cannot end its work there.
    """
    own: bool = True
    """Whether it goes to the app's own routes."""
    verdict: Verdict | None = None
    """The outcome, as reported by the code that saw its view run."""
    traceback: str | None = field(default=None, repr=False)
    """The traceback of the exception that its view raised in this process."""
    by_worker: bool = False
    """Whether the view that it reached is a worker's."""
    reported: bool = False
    """Whether the app was told of its exception, or the traceback was logged."""
    silenced: bool = False
    """Whether its end was reported for its thread, which was left behind.

    What the thread still raises is not reported.
    """
    context: Context | None = None
    """The context in which the app was called here.

    Anything logged in this context belongs to the delivery.
    """
    waited: float = 0.0
    """The number of seconds that its transaction waited for its turn to write.

    They say nothing about how long the handler takes.
    """
    computed: float = 0.0
    """The number of seconds of processor time that its thread has used."""
    over: bool = False
    guard: threading.Lock = field(default_factory=threading.Lock)
    """A lock held while ``over`` is set and while the deadline's exception is raised.

    It keeps the exception from being raised outside of the delivery.
    """

    @property
    def lease(self) -> Lease:
        """The ids of its task and its lease."""
        return self.record.lease

    @property
    def goes_on(self) -> bool:
        """Whether its thread was left behind and still works on it."""
        return self.abandoned and self.thread_id is not None and not self.over

    def hold(self, since: float, lease: float) -> None:
        """Note that its lease was taken or renewed, for so many seconds, by a statement of then.

        ``since`` is on the clock of leases.
        """
        with self.guard:
            self.held_until = since + _SURE * lease
            if self.lease_uncertain and not self.cancel_seen:
                self.lease_uncertain = self.cancelled = False

    def fence(self, now: float) -> None:
        """Tell its handler if the lease may have run out, before anybody else can take the task."""
        with self.guard:
            if now > self.held_until and not self.cancelled:
                self.lease_uncertain = self.cancelled = True

    def see_cancelled(self) -> bool:
        """Return whether it is cancelled, for its handler, and note what the handler was told."""
        with self.guard:
            self.cancel_seen |= self.cancelled and self.lease_uncertain
            return self.cancelled

    def may_begin(self, now: float) -> bool:
        """Return whether its lease still holds, as far as this process knows."""
        return not self.cancelled and now <= self.held_until

    def abandon(self) -> bool:
        """Give up on its thread; return False if it is over, or was given up already."""
        with self.guard:
            if self.over or self.abandoned:
                return False
            self.abandoned = self.cancelled = True
            return True

    def claim_report(self) -> bool:
        """Claim for its thread that what it raises is reported; return False if it is silenced."""
        with self.guard:
            self.reported |= not self.silenced
            return not self.silenced

    def silence(self) -> None:
        """Claim for the dispatcher that its end is reported, unless its thread was earlier."""
        with self.guard:
            self.silenced = not self.reported


ENVIRON_KEY = "flask_taskqueue.delivery"
