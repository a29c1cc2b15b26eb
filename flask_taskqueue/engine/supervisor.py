"""The supervisor: keeps a number of dispatcher processes alive."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..core.names import dispatcher_id
from ..process.logs import get_logger
from ..process.signal_handlers import not_ignored, take
from .pulse import Pulse, Replaced, out_of_memory_kills

_logger = get_logger()

_MIN_LIFE = 1.0
_LONGEST_PAUSE = 5.0
_RELEASE_AGAIN = 1.0

_SILENT = 0.45
"""The fraction of a lease after which a child has missed its heartbeat.

The heartbeat comes every third of a lease.
"""
_SUSTAIN_AGAIN = 0.15
"""The fraction of a lease after which what a silent child holds is renewed again."""

Work = Callable[[str, int, Pulse], int]


@dataclass(slots=True)
class _Child:
    identity: str
    started: float
    out_of_memory_kills: int | None
    pulse: Pulse
    has_successor: bool = False
    beats: int = 0
    silent_since: float | None = None
    """When it last beat; None before its first beat, while it holds nothing."""
    sustained_at: float = 0.0
    stopped: bool = False
    """Whether somebody has stopped it (SIGSTOP)."""

    def is_silent(self, now: float, lease: float) -> bool:
        """Return whether the child has missed renewing its leases, so that the parent must.

        Each call also notices a beat.
        """
        if (beats := self.pulse.read()) != self.beats:
            self.beats, self.silent_since = beats, now
        if self.stopped or self.silent_since is None:
            return False
        return (
            now - self.silent_since > _SILENT * lease
            and now - self.sustained_at > _SUSTAIN_AGAIN * lease
        )


class Supervisor:
    """The parent process, which forks children that run dispatchers and replaces dead ones.

    ``work(identity, lifeline, pulse)`` is what a child runs; it returns its exit code. ``lifeline``
    is a file descriptor that reaches its end when the supervisor dies; ``pulse.beat`` must be
    called whenever leases are renewed. A child that calls ``pulse.wear_out`` is replaced before it
    has ended, so there may be twice as many children for a while, and one more. Beyond that it goes
    on, so that there is always somebody who takes tasks.
    ``release_dead_worker(identity, killed_externally)`` gives back what a child that has ended
    held. ``sustain(identity)`` renews the leases of a child that lives but does not renew them
    itself, because a handler holds its interpreter. ``ending`` is called once with the name of the
    signal that ends the supervisor. The parent holds no database connection while it forks.
    """

    def __init__(
        self,
        processes: int,
        work: Work,
        *,
        release_dead_worker: Callable[[str, bool], object],
        sustain: Callable[[str], object],
        ending: Callable[[str], object],
        grace: float,
        lease: float,
    ) -> None:
        self._processes = processes
        self._work = work
        self._release_dead_worker = release_dead_worker
        self._sustain = sustain
        self._ending = ending
        self._grace = grace
        self._lease = lease
        self._children: dict[int, _Child] = {}
        self._dead: deque[tuple[str, bool]] = deque()
        self._release_at = 0.0
        self._signals = [signal.SIGTERM]
        self._stopping: signal.Signals | None = None
        self._pause = 0.0
        self._worn: deque[_Child] = deque()
        """The children that left and ended before another took their place."""

    def run(self) -> int:
        """Supervise until SIGTERM, SIGINT or SIGHUP, then end the children gracefully.

        A second signal ends them at once. A SIGINT or SIGHUP that is ignored at the start stays
        ignored.
        """
        self._signals += not_ignored(signal.SIGINT, signal.SIGHUP)
        for number in self._signals:
            take(number, self._stop)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, nobody learns of a death
        self._lifeline, self._held = os.pipe()
        while self._stopping is None:
            self._let_one_leave()
            while self._lacks_one() and self._stopping is None:
                self._fork()
            self._reap()
            self._sustain_silent()
        self._signal(signal.SIGTERM)
        with suppress(OSError):  # nobody reads it
            self._ending(self._stopping.name)
        limit = time.monotonic() + self._grace + 5
        while self._children and time.monotonic() < limit:
            self._reap()
            self._sustain_silent()
        self._signal(signal.SIGKILL)
        while self._children:
            self._reap()
        self._release_at = 0.0
        self._release_dead()
        for number in self._signals:  # one that comes now must not become the exit code
            signal.signal(number, signal.SIG_IGN)
        return 0

    @property
    def _leaving(self) -> int:
        return sum(child.pulse.is_leaving for child in self._children.values())

    def _let_one_leave(self) -> None:
        """Let a worn child leave, unless too many are leaving already."""
        for child in self._children.values():
            if (
                child.pulse.is_worn
                and not child.pulse.is_leaving
                and self._leaving <= self._processes
            ):
                child.pulse.let_leave()
                return

    def _lacks_one(self) -> bool:
        return len(self._children) - self._leaving < self._processes

    def _fork(self) -> None:
        entry = _Child(
            dispatcher_id(), time.monotonic(), out_of_memory_kills(), Pulse(self._place())
        )
        _flush()
        child = os.fork()
        if child:
            self._children[child] = entry
            return
        os.close(self._held)
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        code = 1
        try:
            code = self._work(entry.identity, self._lifeline, entry.pulse)
        finally:
            _flush()
            os._exit(code)

    def _place(self) -> Replaced:
        """Return what was in the place of the next child before."""
        leaving = (
            child
            for child in self._children.values()
            if child.pulse.is_leaving and not child.has_successor
        )
        former = self._worn.popleft() if self._worn else next(leaving, None)
        if former is None:
            return Replaced()
        former.has_successor = True
        return former.pulse.succeeded()

    def _reap(self) -> None:
        """Wait a moment for a child to end; give back at once what it held."""
        try:
            child, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        except ChildProcessError:
            child, status = 0, 0
        if child not in self._children:
            self._release_dead()
            time.sleep(0.02)
            return
        if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
            self._children[child].stopped = os.WIFSTOPPED(status)
            return
        gone = self._children.pop(child)
        if gone.pulse.is_leaving and not gone.has_successor:
            self._worn.append(gone)
        if status:
            _logger.warning("dispatcher %s (pid %d) died: %s", gone.identity, child, _cause(status))
        # A child that ended well may have left handlers that ran past the grace period, but they
        # have ended with it.
        self._dead.append((gone.identity, _killed_from_outside(status, gone)))
        self._release_dead()
        if status and self._stopping is None:
            self._wait_if_short(time.monotonic() - gone.started)

    def _release_dead(self) -> None:
        """Give back what ended children held; if the database refuses, try again later."""
        while self._dead and time.monotonic() >= self._release_at:
            try:
                self._release_dead_worker(*self._dead[0])
            except (TaskQueueError, sa.exc.SQLAlchemyError) as error:
                _logger.warning(
                    "what dispatcher %s held could not be given back, and is tried again: %s",
                    self._dead[0][0],
                    error,
                )
                self._release_at = time.monotonic() + _RELEASE_AGAIN
                return
            self._dead.popleft()

    def _sustain_silent(self) -> None:
        """Renew the leases of children that do not renew them, but live according to the kernel.

        A child that was stopped is left alone: others may take its tasks over.
        """
        now = time.monotonic()
        for child in self._children.values():
            if not child.is_silent(now, self._lease):
                continue
            child.sustained_at = now
            try:
                self._sustain(child.identity)
            except (TaskQueueError, sa.exc.SQLAlchemyError) as error:
                _logger.warning(
                    "the leases of dispatcher %s, which lives but is silent, could not be "
                    "renewed: %s",
                    child.identity,
                    error,
                )

    def _wait_if_short(self, life: float) -> None:
        """Wait after a child that died early, so that children are not replaced in a tight loop."""
        if life >= _MIN_LIFE:
            self._pause = 0.0
            return
        self._pause = min(_LONGEST_PAUSE, self._pause * 2 + 0.05)
        limit = time.monotonic() + self._pause
        while time.monotonic() < limit and self._stopping is None:
            time.sleep(0.02)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping is not None:
            self._signal(signal.SIGKILL)
        self._stopping = self._stopping or signal.Signals(number)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()


def _killed_from_outside(status: int, child: _Child) -> bool:
    """Return whether a child was killed by somebody's ``kill -9``.

    A death that a task caused, or its hunger for memory, is none.
    """
    now = out_of_memory_kills()
    return (
        os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        and now is not None
        and now == child.out_of_memory_kills
    )


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit code {code}"
