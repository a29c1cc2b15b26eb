"""The forwarder: hands the tasks of some queues over to their engine, and looks after them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from ..core.delivery.outcome import Death, permanent
from ..core.errors import TaskQueueError
from ..core.failures import printable
from ..core.names import chance, lease_id
from ..core.settings.queue import CLOUDTASKS, QueueSettings
from ..core.states import Record
from ..process.logs import get_logger
from ..process.threads import NoThreadError, start_thread
from ..store import Store, apart, refusal
from .cloud_tasks import CloudTasksEngine, NotTakenError, UnavailableError

_logger = get_logger()

_SOME = 16
"""How many tasks are taken at a time: as many as are handed over well within their lease."""
_AT_A_TIME = 8
_ROUNDS = 20
"""How often one look after a queue deletes some of its cancelled tasks there."""
_LEASE = 60.0
"""The seconds after which another forwarder hands over what this one has taken."""
_LONGEST_BACKOFF = 60.0
_LOOK_INTERVAL = 60.0
_LONGEST_REASON = 4000

T = TypeVar("T")
Result = tuple[Record, Exception | None]
"""A task, and what kept it from being handed over."""


class Forwarder:
    """A forwarder of one process.

    `forward` hands over what waits; `look_after` asks after what was handed over. Both may run in
    several processes at once. A queue of which the engine cannot take anything is left alone for a
    while, up to a minute.
    """

    def __init__(
        self,
        store: Store,
        engine: CloudTasksEngine,
        queues: Sequence[str],
        held_by: str,
        tell_dead: Callable[..., object] = lambda *_: None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._queues = queues
        self._held_by = held_by
        self._tell_dead = tell_dead
        self._backoff: dict[str, float] = {}
        self._not_before: dict[str, float] = {}

    def forward(self) -> int:
        """Hand over the tasks that wait in each open queue; return how many.

        Raises what `Database.transact` raises.
        """
        return sum(map(self._forward, self._queues))

    def _forward(self, queue: str) -> int:
        total = 0
        while time.monotonic() >= self._not_before.get(queue, 0.0):
            take = partial(
                self._store.forwarding.take,
                queue=queue,
                limit=_SOME,
                lease_id=lease_id(),
                held_by=self._held_by,
                lease=_LEASE,
            )
            taken = self._store.transact(take)
            if not taken:
                break
            total += self._hand_over(queue, taken)
            if len(taken) < _SOME:
                break
        return total

    def _hand_over(self, queue: str, taken: Sequence[Record]) -> int:
        results = _each(taken, self._create)
        if not self._are_noted(results):
            for result in results:
                self._are_noted([result])
        failed = [error for _, error in results if isinstance(error, UnavailableError)]
        self._note(queue, failed[0] if failed else None)
        return sum(error is None for _, error in results)

    def _are_noted(self, results: Sequence[Result]) -> bool:
        """Note what became of tasks; return False, and log it, if something of that is refused."""
        forwarding = self._store.forwarding

        def work(connection: sa.Connection) -> list[Death]:
            done = [record.lease for record, error in results if error is None]
            forwarding.handed_over(connection, done)
            dead: list[Death] = []
            for record, error in results:
                why = printable(str(error), _LONGEST_REASON)
                if isinstance(error, NotTakenError):
                    if forwarding.refuse(connection, record, why):
                        dead.append((record, permanent(why)))
                elif isinstance(error, UnavailableError):
                    forwarding.put_back(connection, [record.lease], why)
            return dead

        noted = self._done(work, *(record for record, _ in results))
        for record, outcome in noted or ():
            _logger.error("task %s cannot be handed over: %s", record.id, outcome.error)
        self._tell_dead(*(noted or ()))
        return noted is not None

    def _done(self, work: Callable[[sa.Connection], T], *records: Record) -> T | None:
        """Return what is done of some tasks; None, which is logged, if something is refused."""

        def refused(error: Exception) -> None:
            ids = ", ".join(record.id for record in records)
            _logger.error("what became of %s cannot be noted: %s", ids, refusal(error) or error)

        with apart(refused):
            return self._store.transact(work)
        return None

    def _create(self, record: Record) -> Exception | None:
        """Hand a task over; return what kept it from that, if anything did."""
        try:
            self._engine.create(record)
        except (NotTakenError, UnavailableError) as error:
            return error
        return None

    def _note(self, queue: str, error: Exception | None) -> None:
        """Leave a queue alone for longer and longer while its engine takes nothing."""
        if error is None:
            if self._backoff.pop(queue, None) is not None:
                _logger.warning("queue %s: its tasks are handed over again", queue)
            self._not_before.pop(queue, None)
            return
        if queue not in self._backoff:
            _logger.error("queue %s: its tasks cannot be handed over now: %s", queue, error)
        backoff = min(_LONGEST_BACKOFF, self._backoff.get(queue, 0.25) * 2)
        self._backoff[queue] = backoff
        self._not_before[queue] = time.monotonic() + backoff * chance.uniform(0.5, 1)

    def look_after(self) -> None:
        """Ask after tasks that should have been delivered, and end what processes have left.

        Tasks that Cloud Tasks does not know any more are dead; those that were cancelled are
        deleted there.
        """
        for queue in self._queues:
            for record in self._read(self._store.delivered.lost, queue):
                settle = self._store.delivered.settle
                dead = self._done(partial(settle, record=record, source=self._held_by), record)
                self._tell_dead(*(dead or ()))
            try:
                self._ask_after(queue)
                self._delete(queue)
            except UnavailableError as error:
                _logger.warning("queue %s: Cloud Tasks cannot be asked now: %s", queue, error)

    def _ask_after(self, queue: str) -> None:
        silent = partial(self._store.forwarding.silent, queue=queue, limit=_SOME)
        for record in self._store.transact(silent):
            if self._engine.has(record):
                continue
            error = (
                "Cloud Tasks has this task no more: its queue there gave up on it, or somebody "
                "deleted or purged it there"
            )
            give_up = partial(self._store.forwarding.give_up, record=record, error=error)
            if self._done(give_up, record):
                _logger.error("task %s is dead: %s", record.id, error)
                self._tell_dead((record, permanent(error)))

    def _delete(self, queue: str) -> None:
        for _ in range(_ROUNDS):
            withdrawn = self._read(self._store.forwarding.withdrawn, queue)
            for record in withdrawn:
                self._engine.delete(record)
            ids = [record.id for record in withdrawn]
            self._store.transact(partial(self._store.forwarding.deleted_there, ids=ids))
            if len(withdrawn) < _SOME:
                break

    def _read(
        self, find: Callable[[sa.Connection, str, int], list[Record]], queue: str
    ) -> list[Record]:
        return self._store.read(lambda connection: find(connection, queue, _SOME))


class ForwarderThread:
    """The thread in which the forwarder of a dispatcher's process works, until it is stopped."""

    def __init__(self, forwarder: Forwarder, poll_interval: float) -> None:
        self._forwarder = forwarder
        self._poll = poll_interval
        self._called = threading.Event()
        self._over = False
        self._looked_at = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Raises `NoThreadError`."""
        self._thread = start_thread(self._work, name="taskqueue-forwarder")

    def wake(self) -> None:
        """Have it look now, because something may wait to be handed over."""
        self._called.set()

    def retire(self) -> None:
        """Let it hand over nothing more."""
        self._over = True
        self._called.set()

    def stop(self, grace: float) -> None:
        """Let it end, waiting up to ``grace`` seconds for what it is handing over."""
        self.retire()
        if self._thread is not None:
            self._thread.join(grace)

    def _work(self) -> None:
        while not self._over:
            self._called.clear()
            try:
                self._forwarder.forward()
                if time.monotonic() - self._looked_at > _LOOK_INTERVAL:
                    self._looked_at = time.monotonic()
                    self._forwarder.look_after()
            except (TaskQueueError, sa.exc.DBAPIError) as error:
                _logger.warning("tasks could not be handed over: %s", error)
            except Exception:  # whatever one look raises, there is another: nobody would restart it
                _logger.exception("tasks could not be handed over; they are looked at again")
            self._called.wait(self._poll)


def forwarded_queues(
    configured: Collection[QueueSettings], only: Collection[str] | None
) -> list[str]:
    """Return the names of the queues that have an engine, of all or only of some."""
    return sorted(
        queue.name
        for queue in configured
        if queue.engine == CLOUDTASKS and (only is None or queue.name in only)
    )


def _each(records: Sequence[Record], call: Callable[[Record], Exception | None]) -> list[Result]:
    """Call a function for each task, some at a time, and return what it returned."""
    waiting = deque(records)
    results: list[Result] = []

    def work() -> None:
        while True:
            try:
                record = waiting.popleft()
            except IndexError:
                return
            results.append((record, call(record)))

    threads = []
    try:
        for _ in range(min(len(records), _AT_A_TIME) - 1):
            threads.append(start_thread(work, name="taskqueue-handing-over"))
    except NoThreadError as error:
        _logger.info("tasks are handed over by fewer threads: %s", error)
    work()
    for thread in threads:
        thread.join()
    return results
