"""Operations: what the clients of the queue ask for, and what they were answered; each says so
before and after.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from . import log

LABEL = "X-Label"
"""The header by which a row is known as the task that was wished for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A task that is wished for. ``does`` and ``times`` are what its handler does in how many
    attempts (see `random_app`).
    """

    label: str
    handler: str = "act"
    does: str = "well"
    times: int = 0
    seconds: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    then: tuple[Wish, ...] = ()
    grows: str = ""
    """The label of a task that its handler adds, if it is transactional."""

    @property
    def all(self) -> Iterator[Wish]:
        """This, and what follows it."""
        yield self
        for follower in self.then:
            yield from follower.all


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a client is to do: ``do`` names the method of `Client`. With a ``transaction`` it is
    part of one of the application's.

    That is committed, rolled back, or its process is "killed" before the commit.
    """

    number: int
    client: int
    do: str
    wishes: tuple[Wish, ...] = ()
    on_finish: Wish | None = None
    on_dead: Wish | None = None
    targets: tuple[str, ...] = ()
    """Labels of tasks that this client added before."""
    queue: str = "default"
    limits: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = ""
    minutes: int = 0
    transaction: str | None = None

    @property
    def marker(self) -> str:
        """What the application's own row of its transaction holds."""
        return f"step-{self.number}"

    @property
    def everything(self) -> Iterator[Wish]:
        """All tasks that may come of it."""
        for one in (
            *self.wishes,
            *(each for each in (self.on_finish, self.on_dead) if each is not None),
        ):
            yield from one.all

    def __str__(self) -> str:
        head = f"{self.number} client {self.client} {self.do}"
        return " ".join(
            [head, *_told(self, "number", "client", "do", "wishes"), *map(_wish, self.wishes)]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A step that was begun. ``since`` and ``until`` are on the clock of the log, ``asked_at`` and
    ``answered_at`` microseconds since 1970.

    One that was not answered, because its process was killed, is open to the end.
    """

    step: Step
    since: float
    until: float = math.inf
    asked_at: int = 0
    answered_at: float = math.inf
    told: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By label the id of the task that was returned, and its disposition."""
    answer: Any = None
    error: str | None = None
    """What it raised, or `DEADLOCK`."""
    committed: bool | None = None
    """Whether its transaction was, by the application's own row; None without one."""

    @property
    def done(self) -> bool | None:
        """Whether it has happened; None if nobody knows."""
        if self.step.transaction is not None:
            return self.committed
        if self.error is not None:
            return None if self.step.do in SEVERAL else False
        return True if self.until < math.inf else None


DEADLOCK = "deadlock"
"""The database has rolled a transaction back because it and another waited for each other."""
SEVERAL = ("purge", "delete_matching", "delete_many", "add_many", "queue_run_now", "requeue_dead")
"""What works in several transactions, of which some may have been committed when it fails."""


def write(path: Path, word: str, step: Step, **told: Any) -> None:
    """Append a line about a step: ``ask``, ``told``, ``ack`` or ``refused``."""
    said = {
        "word": word,
        "step": step.number,
        "pid": os.getpid(),
        "at": time.monotonic_ns(),
        "clock": time.time_ns() // 1000,
    }
    log.append(path, json.dumps(said | told))


def lines(path: Path) -> list[dict[str, Any]]:
    """All lines that there are."""
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def begun(path: Path) -> int:
    """How many steps have begun."""
    return path.read_text().count('{"word": "ask"') if path.exists() else 0


def read(path: Path, steps: Sequence[Step], committed: Collection[str]) -> list[Operation]:
    """The operations that were begun, in the order of their steps; ``committed`` are the
    markers of transactions that were.
    """
    by_step: dict[int, dict[str, dict[str, Any]]] = {}
    for line in lines(path):
        by_step.setdefault(line["step"], {})[line["word"]] = line
    return [
        _operation(step, by_step[step.number], step.marker in committed)
        for step in steps
        if step.number in by_step
    ]


def _operation(step: Step, said: Mapping[str, Mapping[str, Any]], committed: bool) -> Operation:
    ask, told = said["ask"], said.get("told", {})
    end = said.get("ack") or said.get("refused") or {}
    return Operation(
        step=step,
        since=ask["at"] / 1e9,
        until=end["at"] / 1e9 if end else math.inf,
        asked_at=ask["clock"],
        answered_at=end.get("clock", math.inf),
        told={label: (task, how) for label, (task, how) in told.get("tasks", {}).items()},
        answer=told.get("answer"),
        error=end.get("error"),
        committed=committed if step.transaction is not None else None,
    )


def _wish(wish: Wish) -> str:
    then = (f"then {_wish(follower)}" for follower in wish.then)
    return f"[{' '.join([wish.label, *_told(wish, 'label', 'then'), *then])}]"


def _told(one: Any, *without: str) -> Iterator[str]:
    """Its fields that are not as they usually are."""
    for each in fields(one):
        value = getattr(one, each.name)
        usual = each.default if each.default_factory is MISSING else each.default_factory()
        if each.name not in without and value != usual:
            yield f"{each.name}={_wish(value) if isinstance(value, Wish) else value}"
