"""A scenario: what is done to processes while tasks run, and how much of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.databases import NAMES, Servers, TestDatabase, fresh

from .checker import Findings, check
from .history import deliveries
from .stage import Stage, stage

Size = Mapping[str, float]
Place = Callable[[str, Servers, Path], AbstractContextManager[TestDatabase]]


@dataclass(frozen=True, slots=True)
class Report:
    """How a scenario went on one database."""

    scenario: str
    database: str
    tasks: int
    faults: Mapping[str, int]
    repeated: int
    """How many deliveries were not the first of their task."""
    effects: str
    """Effects of transactional handlers, of how many."""
    findings: Findings
    seconds: float
    notes: Mapping[str, str]
    said: str
    """The last that its processes printed."""

    def check(self) -> None:
        """Fail if anything is wrong."""
        problems = self.findings.problems
        assert not problems, "\n".join([*problems[:20], f"({len(problems)} problems; {dict(self.faults)})", self.said])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """``play(stage, **size)`` adds tasks, does harm and waits until all is done; it fails where that takes too long."""

    name: str
    play: Callable[..., None]
    small: Size
    """For the test suite."""
    full: Size
    """For ``make chaos``."""
    databases: tuple[str, ...] = NAMES
    place: Place = fresh
    """Where its database is."""
    settings: Mapping[str, str] = field(default_factory=dict)

    def run(self, name: str, servers: Servers, directory: Path, size: Size) -> Report:
        """Play it on a database of this name."""
        with self.place(name, servers, directory) as database, stage(database, directory, self.settings) as here:
            began = time.monotonic()
            self.play(here, **size)
            return self._report(here, time.monotonic() - began)

    def _report(self, here: Stage, seconds: float) -> Report:
        history = here.history()
        times = Counter({task_id: len(some) for task_id, some in deliveries(history.lines).items()})
        made = sum(history.effects.values())
        return Report(
            scenario=self.name,
            database=here.database.name,
            tasks=len(history.expected),
            faults=Counter(one.kind for one in history.faults),
            repeated=times.total() - len(times),
            effects=f"{made}/{len(history.transactional)}" if history.transactional else "-",
            findings=check(history),
            seconds=seconds,
            notes=here.notes,
            said=here.said(),
        )
