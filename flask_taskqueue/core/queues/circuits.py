"""Circuits: receivers that keep failing, to which nothing is sent but a probe now and then."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from ..times import SECOND, to_datetime

OPENS_AT = 5
"""The number of failures in a row, of all dispatchers together, with which a circuit opens."""
FIRST_PAUSE = 5 * SECOND
"""The microseconds from the opening to the first probe; each failed probe doubles them."""
LONGEST_PAUSE = 300 * SECOND
FORGOTTEN = 86_400 * SECOND
"""The microseconds after which failures that nothing followed no longer count."""

_MARGIN = SECOND
_LONGEST_MARGIN = 60 * SECOND
LONGEST_LOOK = _LONGEST_MARGIN + 2 * _MARGIN
"""The microseconds after a probe within which all that waits for it is looked at."""
_SPREAD = 2 * 86_400
"""The seconds of etas that are spread over one second, to keep their order."""
_WORDS = {
    "timeout": "no complete reply within the deadline",
    "connection": "the connection failed",
    "tls": "no TLS connection",
}


class Result(NamedTuple):
    """What one attempt showed of its receiver; ``works`` is None if it showed nothing.

    ``began`` is when it was leased, ``took`` is in microseconds, ``failure`` the status or the
    reason of a failure, ``url`` where it was sent.
    """

    task_id: str
    works: bool | None
    began: int = 0
    took: int = 0
    failure: str = ""
    url: str = ""


class Waiting(NamedTuple):
    """A task that waits for a receiver; ``tried`` is when its last attempt began."""

    task_id: str
    url: str
    eta: int
    tried: int | None


@dataclass(frozen=True, slots=True)
class Circuit:
    """The failures in a row of one receiver, and its circuit, which is open from ``opened_at`` on.

    While it is open, one task at a time is sent as a probe, at ``probe_at`` at the earliest:
    ``probe_id`` is the task that was sent last, and ``probing`` says whether it is under way. When
    it has ended, ``probe_id`` is the task that goes before others as the next, if any waits. While
    it is closed, ``probe_at`` is when the receiver last answered: failures of attempts that began
    before do not count. Instants are microseconds of the database's clock.
    """

    target: str
    failures: int
    failing_since: int
    failed_at: int
    failure: str
    opened_at: int | None
    probe_at: int
    probes: int
    probe_id: str
    probe_took: int
    probing: bool = False

    @property
    def name(self) -> str:
        """The receiver's name for people."""
        return self.target

    @property
    def said(self) -> str:
        """The receiver's last failure, in words."""
        return _WORDS.get(self.failure, f"the reply was {self.failure}")

    @property
    def is_open(self) -> bool:
        """Whether only probes are sent to the receiver."""
        return self.opened_at is not None

    def after(self, results: Iterable[Result], now: int) -> Circuit | None:
        """Return the circuit after attempts that ended at the same moment; None if all is well.

        An answer ends the row of failures and closes the circuit, whichever attempt brought it.
        Failures of attempts that were under way when it opened change nothing.
        """
        circuit = self
        for result in results:
            if result.works:
                return None
            if result.works is False and (circuit.is_open or result.began >= circuit.probe_at):
                circuit = circuit._failed(result, now)
            if circuit.is_open and result.task_id == circuit.probe_id:
                circuit = circuit._probed(result, now)
        return circuit

    def tokens(self, now: int) -> int:
        """Return how many tasks may be sent now: one, as a probe, or none."""
        return int(not self.probing and self.probe_at <= now)

    def due_at(self, now: int, position: int, eta: int = 0) -> int:
        """Return when the postponed task at a ``position``, from 1, is looked at again.

        One task is due for the next probe: the one that was chosen, or the first of each look. The
        others follow, in the order of their etas, as long after it as the last probe took, so that
        they are not looked at while it is under way.
        """
        margin = min(self.probe_took, _LONGEST_MARGIN) + _MARGIN
        opened_at = self.opened_at or now
        earlier = (opened_at - eta) / SECOND
        order = int(max(0.0, min(1.0, 0.5 - earlier / _SPREAD)) * SECOND)
        if self.probing:
            return now + margin + order
        later = position > 1 or self.probe_id
        return max(now + 1, self.probe_at) + (margin + order if later else 0)

    def chosen(self, waiting: Collection[Waiting], ended: Iterable[Result]) -> str:
        """Return the id of the task that is the next probe, empty if none waits.

        ``ended`` are the attempts that have just failed. Every other probe is the task that waits
        longest since its last attempt or, without one, its eta, so that each has its turn. But one
        path of a host may fail where others work, so those in between are tasks of whose URL none
        has failed, or else that of the URL whose last attempt is the oldest.
        """
        tried = {result.url: result.began for result in ended}
        for task in waiting:
            if task.tried is not None:
                tried[task.url] = max(task.tried, tried.get(task.url, 0))

        def rank(task: Waiting) -> tuple[int, int, str]:
            since = task.eta if task.tried is None else task.tried
            return 0 if self.probes % 2 else tried.get(task.url, 0), since, task.task_id

        return min(waiting, key=rank).task_id if waiting else ""

    def _failed(self, result: Result, now: int) -> Circuit:
        circuit = replace(self, failures=self.failures + 1, failed_at=now, failure=result.failure)
        if self.is_open:
            return circuit
        opens = circuit.failures >= OPENS_AT
        return replace(
            circuit,
            probe_took=result.took,
            opened_at=now if opens else None,
            probe_at=now + FIRST_PAUSE if opens else self.probe_at,
        )

    def _probed(self, result: Result, now: int) -> Circuit:
        """Return the circuit after a probe that brought no answer."""
        probes = self.probes + (result.works is False)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE << min(probes, 20))
        return replace(
            self, probes=probes, probe_id="", probe_took=result.took, probe_at=now + pause
        )


def first_failure(target: str, now: int) -> Circuit:
    """Return the circuit of a receiver that is about to fail for the first time."""
    return Circuit(target, 0, now, now, "", None, 0, 0, "", 0)


class CircuitChange(NamedTuple):
    """A circuit that has opened or closed; ``circuit`` is as it was while it was open."""

    circuit: Circuit
    is_open: bool

    def __str__(self) -> str:
        name, failures = self.circuit.target, self.circuit.failures
        if not self.is_open:
            return f"the circuit of {name} is closed: it has answered, and its tasks go on"
        return (
            f"the circuit of {name} is open: {failures} attempts in a row have failed "
            f"({self.circuit.said}); its tasks wait, and one at a time is sent as a probe"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCircuit:
    """A receiver, that is a host and port, to which only probes are sent until one is answered.

    ``failures`` counts its failures in a row since ``failing_since``, ``failure`` says what the
    last one was. The circuit is open since ``opened_at``, and the next probe is sent at
    ``next_probe_at`` or, if that has passed, when a task for the receiver is due.
    """

    target: str
    failures: int
    failure: str
    failing_since: datetime
    opened_at: datetime
    next_probe_at: datetime

    @classmethod
    def of(cls, circuit: Circuit) -> OpenCircuit:
        """Return what people are told of an open circuit."""
        return cls(
            target=circuit.target,
            failures=circuit.failures,
            failure=circuit.said,
            failing_since=to_datetime(circuit.failing_since),
            opened_at=to_datetime(circuit.opened_at or circuit.failed_at),
            next_probe_at=to_datetime(circuit.probe_at),
        )
