"""The dispatcher, one pass of which is called a drain."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime

import sqlalchemy as sa

from ..core.dispatchers import DispatcherHealth
from ..core.errors import TaskQueueError
from ..core.names import chance
from ..core.queues.pacing import MIN_WAIT
from ..process.interrupts import timed_out
from ..process.logs import get_logger
from ..store import AttemptResult, Recorded, Store, refusal
from .attempt import Attempts
from .claimer import Claimer
from .in_flight import Heartbeat, InFlight
from .pool import Collected, Pool
from .postponed import Postponed
from .registration import PauseConfirmations
from .turn import Turn, Turns
from .wakeups import Wakeups

_logger = get_logger()

_LONGEST_BACKOFF = 5.0
_STALLED = 30.0
"""The seconds without a turn, worked or refused, after which a drain counts as stalled."""


class Outages:
    """The outages that one dispatcher meets, noted by its drain.

    `health` may be read in any thread. Each outage is logged once when it begins and once when it
    ends.
    """

    def __init__(self) -> None:
        self.backoff: float = 0.0
        """The seconds for which to leave the database alone."""
        self.tried: float = time.monotonic()
        """When the drain last tried a turn (monotonic clock)."""
        self._turned_at: datetime | None = None
        self._since: datetime | None = None
        self._last_error: str | None = None

    @property
    def health(self) -> DispatcherHealth:
        """The time of the last successful turn, and the outage if there is one."""
        return DispatcherHealth(
            turned_at=self._turned_at, refusing_since=self._since, last_error=self._last_error
        )

    def refused(self, error: Exception) -> None:
        """Note a failure; the next wait is longer, up to five seconds."""
        self.backoff = chance.uniform(0.5, 1) * min(_LONGEST_BACKOFF, self.backoff * 2 + 0.1)
        self.tried = time.monotonic()
        self._last_error = refusal(error) or str(error)
        if self._since is None:
            self._since = datetime.now(UTC)
            _logger.warning(
                "the database refuses to work, and is tried until it does: %s", self._last_error
            )

    def worked(self) -> None:
        """Note a success, which ends an outage."""
        self.backoff = 0.0
        self.tried = time.monotonic()
        self._turned_at = now = datetime.now(UTC)
        if self._since is not None:
            _logger.warning(
                "the database works again, after %.1f s", (now - self._since).total_seconds()
            )
            self._since = None


Observer = Callable[[AttemptResult, bool], None]


class Dispatcher:
    """A dispatcher, which claims due tasks, has them attempted and records the results.

    `drain` does the work, in the thread that calls it; `wake`, `heartbeat` and `stop` may be called
    from other threads. A drain is a loop: it collects from the pool what has ended, takes a turn,
    submits what the turn claimed and waits until something happens (see docs/dispatcher.md).
    """

    def __init__(
        self,
        store: Store,
        attempts: Attempts,
        *,
        dispatcher_id: str,
        concurrency: int,
        lease: float,
        poll_interval: float,
        observe: Observer,
        queues: Collection[str] | None = None,
        renewed: Callable[[], object] = lambda: None,
    ) -> None:
        self.id = dispatcher_id
        self.concurrency = concurrency
        self.queues: tuple[str, ...] | None = None if queues is None else tuple(queues)
        self.ok: int = 0
        self.failed: int = 0
        self.dead: int = 0
        self._store = store
        self._attempts = attempts
        self._lease = lease
        self._poll = poll_interval
        self._observe = observe
        self._in_flight = InFlight()
        self._claimer = Claimer(
            store.claims,
            store.added_queues,
            queues=queues,
            held_by=dispatcher_id,
            lease=lease,
            slots=concurrency,
            kept=self._in_flight.held,
            renewed_at=lambda: self.heartbeat.renewed_at,
        )
        self._pool = Pool(concurrency, attempts, inline=store.database.in_memory)
        self._collected: list[Collected] = []
        late = self._claimer.last_look.lease_trust.lose
        self.heartbeat: Heartbeat = Heartbeat(store, self._in_flight, lease, renewed, late)
        self._postponed = Postponed(store, self._in_flight, self._tell)
        self.pause_confirmations: PauseConfirmations = PauseConfirmations(
            store, self._in_flight, dispatcher_id
        )
        self._outages = Outages()
        self._wakeups = Wakeups(self._pool.signal)
        self._turns = Turns(
            store, self._claimer, self._pool, self._in_flight, self._postponed, self._wakeups
        )

    @property
    def in_flight(self) -> int:
        """The number of tasks being attempted now."""
        return len(self._in_flight)

    @property
    def ended(self) -> int:
        """The number of attempts that have ended."""
        return self.ok + self.failed

    @property
    def health(self) -> DispatcherHealth:
        """The time of the last successful turn, and the outage of the database if there is one."""
        return self._outages.health

    @property
    def stalled_for(self) -> float | None:
        """The seconds since the drain last tried a turn, or None if it does or need not.

        A drain that lingers tries at each poll, so after half a minute its thread is gone or hangs.
        """
        seconds = time.monotonic() - self._outages.tried
        return None if self._wakeups.over or seconds < self._poll + _STALLED else seconds

    @property
    def stuck(self) -> int:
        """The number of threads that did not stop at their deadline and still run."""
        return self._pool.stuck

    def wake(self) -> bool:
        """Say that something may be due; return whether a running drain will see to it."""
        return self._wakeups.call()

    def drain(self, *, linger: bool = False, last: bool = False) -> float | None:
        """Attempt tasks until none is due or in flight; return the seconds until one is due.

        Returns None when nothing waits, and at once when a drain is already under way. With
        ``linger`` the drain goes on until it is retired, and looks again at each poll, when the
        next task falls due and when `wake` is called: a new task waits for no thread to start. The
        ``last`` drain of a process waits for no threads left behind, which end with the process.
        """
        drain = self._wakeups.begin()
        if drain is None:
            return None
        try:
            return self._drain(linger, last)
        finally:
            self._wakeups.end(drain)

    def enforce_deadlines(self) -> None:
        """Interrupt attempts that have reached their deadline; write off those that do not stop."""
        for delivery in self._in_flight.overdue():
            result = self._attempts.result(
                delivery, timed_out(delivery), delivery.expires - delivery.started
            )
            self._pool.replace(delivery, result)
            _logger.warning(
                "task %s does not stop at its deadline; its thread is left behind",
                delivery.record.id,
            )

    def retire(self) -> None:
        """Stop taking tasks; those in flight go on."""
        self._wakeups.close()

    def wait_idle(self, seconds: float) -> bool:
        """Wait up to ``seconds`` until no drain is under way; return whether that is so."""
        return self._wakeups.wait_idle(seconds)

    def stop(self, grace: float) -> int:
        """Stop taking tasks, let those in flight end within ``grace`` seconds, release the rest.

        Returns how many were given back. Their attempts are not counted. A task that was sent to
        another process is due again only when its deadline has passed, because until then its
        handler may still be running.
        """
        self.retire()
        with suppress(KeyboardInterrupt):  # a second Ctrl-C ends the wait
            self.wait_idle(grace)
        held, away = self._in_flight.held(), self._in_flight.away()
        self._in_flight.lost(set(held))
        self._pool.close()
        return self._postponed.give_back(held, away)

    def _drain(self, linger: bool, last: bool) -> float | None:
        wait = 0.0
        while True:
            self._collected += self._pool.collect(wait)
            if self._wakeups.over:
                self._collected += self._pool.recall()
            self.enforce_deadlines()
            turn = self._turn()
            if turn is None:
                if self._wakeups.over and not self._in_flight.holds_any(retired=True):
                    return None
                wait = self._outages.backoff
                continue
            wait, retired = 0.0, self._wakeups.over
            if self._in_flight.holds_any(retired=retired or last) or (
                (linger or turn.lanes is None) and not retired
            ):
                wait = self._wait_after(turn)
            elif self._wakeups.may_end():
                return None if turn.lanes is None else turn.lanes.next_in()

    def _turn(self) -> Turn | None:
        """Take a turn, submit what it claimed; return None, with nothing changed, if refused."""
        try:
            self.heartbeat.catch_up()
            self._postponed.try_again()
            turn = self._turns.take(self._collected)
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            self._outages.refused(error)
            self._claimer.last_look.lease_trust.lose()
            return None
        self._outages.worked()
        self._submit(turn)
        self._tell(turn.recorded)
        self._tell(Recorded(turn.ended, frozenset()))
        self._collected += self.pause_confirmations.see_to(self._pool, calls=self._wakeups.calls)
        return turn

    def _submit(self, turn: Turn) -> None:
        deliveries = self._attempts.begin(turn.claimed, alone=turn.alone)
        self._in_flight.begin(deliveries, turn.since, self._lease)
        self._pool.submit(deliveries)

    def _tell(self, recorded: Recorded) -> None:
        """Count the results and pass them to the observer."""
        self._claimer.note(recorded.results)
        for change in recorded.circuits:
            log = _logger.warning if change.is_open else _logger.info
            log("%s", change)
        for result in recorded.results:
            self._count(result)
            self._observe(result, result.record.id in recorded.lost)

    def _wait_after(self, turn: Turn) -> float:
        """Return the seconds in which nothing can happen unless a task ends or `wake` is called."""
        room = self._turns.room
        if turn.lanes is None and room > 0:
            return MIN_WAIT if turn.found_all else 0.0
        next_in = self._claimer.last_look.next_in if room > 0 else None
        return max(
            0.001,
            min(
                self._poll,
                self._poll if next_in is None else next_in,
                self._in_flight.until_deadline(),
                self._postponed.next_in(),
                self.pause_confirmations.next_in(),
            ),
        )

    def _count(self, result: AttemptResult) -> None:
        if result.outcome.reason == "success":
            self.ok += 1
        else:
            self.failed += 1
            self.dead += result.outcome.state == "dead"
