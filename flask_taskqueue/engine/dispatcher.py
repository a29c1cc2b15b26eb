"""The dispatcher: one pass of it is a drain."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.dispatchers import DispatcherHealth
from ..core.errors import TaskQueueError
from ..core.queues.lanes import Lanes
from ..core.queues.pacing import GLANCE, Pace
from ..core.record import Record
from ..process.interrupts import timed_out
from ..store import LockedError, Recorded, Result, Store
from .attempt import Attempts
from .claimer import Taken, Taking
from .completed import Landings
from .in_flight import Flights, Heartbeat
from .outages import Outages
from .pauses import Answers
from .pool import InlineSlot, Slots
from .postponed import Apart
from .wakeups import Shift

logger = logging.getLogger("flask_taskqueue")

Observer = Callable[[Result, bool], None]

_NOTHING = Recorded((), frozenset())


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one transaction brought."""

    recorded: Recorded
    taken: list[Record]
    lanes: Lanes | None
    """What a look saw, if all of it that may be taken was: what is due next can be waited for.
    Otherwise None.
    """
    since: float = 0.0
    """When its leases began at the latest, on the monotonic clock: before the statement that
    took them.
    """
    guessed: bool = False
    """Whether it took, without a look, all that it found."""
    alone: bool = False
    """Whether what it took is a suspect, tried alone."""


class Dispatcher:
    """Takes due tasks, has them attempted and records what became of them.

    `drain` does the work, in the thread that calls it; `wake`, `heartbeat` and `stop` may be called
    from others. Each turn of a drain is one transaction: it records what has finished since the
    last and claims as many tasks as slots are free. While handlers are brisk it claims a little
    ahead, and what it claimed in the turn before is attempted while this one's commit waits for
    the disk; what turns out to wait behind a slow one is given back (see `Landings`).
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
        self.queues = None if queues is None else tuple(queues)
        self.ok = self.failed = self.dead = 0
        self._store = store
        self._taking = Taking(
            store.claims, queues=queues, held_by=dispatcher_id, lease=lease, slots=concurrency
        )
        self._attempts = attempts
        self._lease = lease
        self._poll = poll_interval
        self._observe = observe
        self._slots = (
            InlineSlot(self._run) if store.database.in_memory else Slots(concurrency, self._run)
        )
        self._pace = Pace(self._slots.size, computing=attempts.in_process)
        self._landings = Landings(self._pace)
        self._surplus: list[Delivery] = []
        self._flights = Flights()
        self.heartbeat = Heartbeat(store, self._flights, lease, renewed)
        self._apart = Apart(store, self._flights, self._tell)
        self.answers = Answers(store, self._flights, dispatcher_id)
        self._outages = Outages()
        self._shift = Shift(self._landings.signal)

    @property
    def in_flight(self) -> int:
        """How many tasks are being attempted now."""
        return len(self._flights)

    @property
    def ended(self) -> int:
        """How many attempts have ended."""
        return self.ok + self.failed

    @property
    def health(self) -> DispatcherHealth:
        """How it gets on with the database."""
        return self._outages.health

    @property
    def stuck(self) -> int:
        """How many threads did not stop at their deadline and still run."""
        return self._slots.stuck

    def wake(self, *, sure: bool = True) -> bool:
        """Say that something may be due. Whether a drain is under way that will see to it.

        When it is ``sure``, because it was added here, the drain takes without looking first.
        """
        return self._shift.call(sure=sure)

    def _free(self, ended: int = 0) -> int:
        """How many tasks may be taken now, when so many of those in flight have ended."""
        if self._shift.over:
            return 0
        return min(
            self._pace.capacity, self._pace.depth - len(self._flights) - self._apart.crowded + ended
        )

    def drain(self, *, linger: bool = False) -> float | None:
        """Attempt tasks until nothing is due and nothing in flight; the seconds until the next is
        due.

        Returns None when nothing waits, and at once when a drain is under way already. With
        ``linger`` it goes on, and looks again at each poll, when the next task falls due and when
        `wake` is called, until it is retired: a task that is added then waits for no thread to be
        started.
        """
        drain = self._shift.begin()
        if drain is None:
            return None
        try:
            return self._drain(linger)
        finally:
            self._shift.end(drain)

    def enforce_deadlines(self) -> None:
        """Interrupt what has reached its deadline; write off what has not stopped since."""
        for delivery in self._flights.overdue():
            self._slots.write_off()
            result = self._attempts.result(
                delivery, timed_out(delivery), delivery.expires - delivery.started
            )
            self._landings.land((delivery, result), signal=True)
            logger.warning(
                "task %s does not stop at its deadline; its thread is left behind",
                delivery.record.id,
            )

    def retire(self) -> None:
        """Take nothing more; what is in flight goes on."""
        self._shift.close()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no drain is under way, up to so many seconds; whether that is so."""
        return self._shift.wait_idle(seconds)

    def stop(self, grace: float) -> int:
        """Take nothing more, wait up to ``grace`` seconds for what is in flight, give the rest
        back.

        Returns how many were given back. Their attempts are not counted. What was sent to another
        process is due again when its deadline has passed: till then its handler may be at it.
        """
        self.retire()
        with suppress(KeyboardInterrupt):  # a second Ctrl-C: no more waiting
            self.wait_idle(grace)
        held, away = self._flights.held(), self._flights.away()
        self._flights.lost({task_id for task_id, _ in held})
        self._slots.close()
        return self._apart.give_back(held, away)

    def _drain(self, linger: bool) -> float | None:
        wait = 0.0
        while True:
            self._landings.gather(
                min(wait, self._outages.backoff) if self._landings.unrecorded else wait,
                self._flights,
                self._slots,
            )
            self._surplus += self._slots.take_late()
            if self._landings.stalled or self._shift.over:
                self._surplus += self._slots.take_back()
            self._pace.try_alone(time.monotonic())
            self.enforce_deadlines()
            turn = self._try_turn()
            if turn is None:
                if self._shift.over and not self._flights.holds_any:
                    return None
                wait = self._outages.backoff
                continue
            wait = 0.0
            if self._flights.holds_any or ((linger or turn.lanes is None) and not self._shift.over):
                wait = self._patience(turn)
            elif self._shift.may_end():
                return None if turn.lanes is None else turn.lanes.next_in()

    def _try_turn(self) -> _Turn | None:
        """Record, look and claim; None when the database did not let it happen, and everything
        is as before.
        """
        try:
            self.heartbeat.catch_up()
            self._apart.try_again()
            turn = self._turn([result for _, result in self._landings.unrecorded])
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            self._outages.refused(error)
            return None
        self._outages.worked()
        self._start(turn)
        self._tell(turn.recorded)
        self._tell(Recorded(self._taking.ended(), frozenset()))
        self._surplus += self.answers.heed(self._slots, called=self._shift.hear_asked())
        return turn

    def _turn(self, results: list[Result]) -> _Turn:
        """One transaction, unless there is nothing to write; several where one of the
        application's has locked something.
        """
        free = self._free(len(results) + len(self._surplus))
        lanes = None
        if free <= 0 and not (results or self._surplus):
            return _Turn(_NOTHING, [], None)
        sure = self._shift.hear_sure()
        others = (
            min(free, self._slots.size) - 1
        )  # a slot is left free for what a look may find to go first
        likely = (
            self._taking.likely(woken=self._shift.is_called)
            if others > 0 and not self._flights
            else None
        )
        if not (results or self._surplus or sure or likely):
            with self._store.reading() as reader:
                lanes = self._look(reader)
            if not self._taking.may_take(lanes):
                return _Turn(_NOTHING, [], lanes)
        running = self._flights.running({result.record.id for result in results})

        def exchange(connection: sa.Connection) -> _Turn:
            since = time.monotonic()
            guess = self._taking.guess(connection, likely, others) if likely is not None else []
            if guess:
                return _Turn(_NOTHING, guess, None, since, guessed=len(guess) < others)
            recorded = self._store.leases.record(connection, results)
            self._store.leases.release(connection, [one.lease for one in self._surplus])
            seen = (
                self._look(connection, afresh=bool(self._surplus))
                if free > 0 and lanes is None
                else lanes
            )
            taken = self._taking.take(connection, seen, free, running)
            self._slots.let_go()
            return _Turn(
                recorded, taken.records, _exhausted(seen, taken, free), since, alone=taken.alone
            )

        try:
            turn = self._store.transact(exchange, wait=self._apart.wait)
        except LockedError:
            return self._turn_apart()
        surplus, self._surplus = self._surplus, []
        for delivery in [*(delivery for delivery, _ in self._landings.take()), *surplus]:
            self._flights.end(delivery)
        return turn

    def _turn_apart(self) -> _Turn:
        """As a turn, but each task by itself: those that nobody has locked anything of are
        recorded, and others begin.
        """
        while self._landings.unrecorded:
            self._apart.end(*self._landings.unrecorded[0])
            del self._landings.unrecorded[0]
        while self._surplus:
            self._apart.end(self._surplus[0], None)
            del self._surplus[0]
        self._slots.let_go()
        with self._store.reading() as reader:
            lanes = self._taking.look_anew(reader)
        free, since = self._free(), time.monotonic()
        taken = self._taking.take_singly(
            self._store.transact, lanes, free, self._flights.running(())
        )
        return _Turn(
            _NOTHING, taken.records, _exhausted(lanes, taken, free), since, alone=taken.alone
        )

    def _tell(self, recorded: Recorded) -> None:
        """Count, and tell whoever listens."""
        self._taking.note(recorded.results)
        for result in recorded.results:
            self._count(result)
            self._observe(result, result.record.id in recorded.lost)

    def _look(self, connection: sa.Connection, *, afresh: bool = False) -> Lanes | None:
        """See what is due, unless the last look still serves, nothing was given back and nobody
        called `wake` since.
        """
        return self._taking.look(connection, afresh=self._shift.hear() or afresh)

    def _start(self, turn: _Turn) -> None:
        deliveries = [self._attempts.begin(record, alone=turn.alone) for record in turn.taken]
        others = len(self._flights)
        self._flights.begin(deliveries, turn.since, self._lease)
        if others and self._pace.brisk:
            self._slots.hold(deliveries)
        else:
            self._slots.start(deliveries, in_flight=len(self._flights), brisk=self._pace.brisk)

    def _run(self, delivery: Delivery) -> None:
        """In a slot's thread: attempt, and hand over the result."""
        result = None
        began = time.thread_time()
        try:
            result = self._attempts.make(delivery)
        finally:
            delivery.computed = time.thread_time() - began
            if not delivery.abandoned:
                landed = delivery, result or self._attempts.broken(delivery)
                self._landings.land(landed, signal=not (self._slots.waiting and self._pace.leads))

    def _patience(self, turn: _Turn) -> float:
        """How long nothing can happen unless something finishes or wakes the drain."""
        free = self._free()
        if turn.lanes is None and free > 0:
            return GLANCE if turn.guessed else 0.0
        next_in = self._taking.next_in if free > 0 else None
        others = (self._flights.until_deadline(), self._apart.next_in(), self.answers.next_in())
        return max(0.001, min(self._poll, self._poll if next_in is None else next_in, *others))

    def _count(self, result: Result) -> None:
        if result.outcome.reason == "success":
            self.ok += 1
        else:
            self.failed += 1
            self.dead += result.outcome.state == "dead"


def _exhausted(lanes: Lanes | None, taken: Taken, free: int) -> Lanes | None:
    """What was seen, unless as many were taken as might be, or some were put off: then more may
    be due.
    """
    return lanes if len(taken.records) < free and not taken.again else None
