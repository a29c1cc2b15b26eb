"""A delivery: one attempt under way in this process."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field

from ..record import Record
from ..strike import Strike
from .verdict import Verdict


@dataclass(slots=True, eq=False)
class Delivery:
    """One attempt under way.

    In process this object itself, in the WSGI environ under `ENVIRON_KEY`, proves that a request
    comes from this application's dispatcher: no HTTP client can put an object there.
    ``started``, ``expires`` and ``held_until`` are seconds of the monotonic clock.
    """

    record: Record
    started: float
    expires: float
    held_until: float = math.inf
    """When nobody here may be sure of its lease any more: before it runs out, unless it is
    renewed.
    """
    thread_id: int | None = None
    cancelled: bool = False
    """Whether the task was deleted or its lease lost meanwhile: nobody waits for the result any
    more.
    """
    doubted: bool = False
    """Whether ``cancelled`` says no more than that its lease may have run out, which may turn
    out not to be so.
    """
    heeded: bool = False
    """Whether its handler has looked and been told so: it may have stopped half way, so that
    its reply is no success.
    """
    suspect: bool = False
    """Whether one more death of its process condemns its task."""
    alone_for: float = 0.0
    """Seconds from its start for which nothing is begun beside it."""
    interrupted: bool = False
    """Whether its deadline is going to be raised, or was."""
    strike: Strike | None = None
    """What raises it."""
    shields: int = 0
    """How many parts of its thread's work must not be interrupted now."""
    postponed: bool = False
    """Whether the deadline is raised when they are done."""
    cancel: Callable[[], bool] | None = None
    """Ends what the shielded part of its thread's work waits for, a coroutine in an event loop;
    whether that was possible just now.
    """
    abandoned: bool = False
    """Whether its thread did not stop at the deadline; what it still brings is not trusted."""
    remote: bool = False
    """Whether the dispatcher that waits for the reply is another process."""
    ping: bool = False
    """Whether it only asks if the route is reached; no handler sees it."""
    entered: bool = False
    """Whether it has begun: its view was called in this process, or it was handed to a
    transport that leads out of it.
    """
    away: bool = False
    """Whether it was handed to a transport that leads out of this process: what became of it
    there, this process cannot end.
    """
    own: bool = True
    """Whether it goes to the application's own routes."""
    verdict: Verdict | None = None
    """What became of it, said by whoever saw its view run."""
    traceback: str | None = field(default=None, repr=False)
    """Of what its view raised in this process, as it is to be kept."""
    reported: bool = False
    """Whether an exception of it has been told to the application, or logged with its traceback."""
    context: Context | None = None
    """In which the application was called here: to what is in it belongs what is logged of the
    delivery.
    """
    waited: float = 0.0
    """Seconds that its transaction waited for its turn to write: they say nothing of how quick
    the handler is.
    """
    computed: float = 0.0
    """Seconds of processor time that its thread has used."""
    over: bool = False
    guard: threading.Lock = field(default_factory=threading.Lock)
    """Held while ``over`` is set and while the deadline's exception is raised, so that it never
    lands outside.
    """

    @property
    def lease(self) -> tuple[str, str]:
        """Its task's id and its lease's."""
        return self.record.id, self.record.lease_id or ""

    @property
    def goes_on(self) -> bool:
        """Whether its thread was left behind, and is still at it."""
        return self.abandoned and self.thread_id is not None and not self.over

    def is_ours(self, now: float) -> bool:
        """Whether it may be begun: its lease still holds, as far as this process knows."""
        return not self.cancelled and now <= self.held_until

    def abandon(self) -> bool:
        """Give up on its thread; False if it is over, or given up already."""
        with self.guard:
            if self.over or self.abandoned:
                return False
            self.abandoned = self.cancelled = True
            return True


ENVIRON_KEY = "flask_taskqueue.delivery"
