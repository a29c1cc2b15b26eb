"""A scenario: what is done to processes while tasks run, and how much of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tests.databases import NAMES, Servers, TestDatabase, fresh

from .checker import Findings, check
from .history import deliveries
from .stage import Stage, stage

Size = dict[str, Any]
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
    script: str = ""
    """What was planned, if it was made up, so that it can be played again."""

    def check(self) -> None:
        """Fail if anything is wrong."""
        problems = self.findings.problems
        assert not problems, "\n".join(
            [
                *problems[:20],
                f"({len(problems)} problems; {dict(self.faults)})",
                self.said,
                self.script,
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """``play(stage, **size)`` adds tasks, does harm and waits until all is done; it fails where
    that takes too long.

    With ``seeds``, ``make chaos`` plays it so often, each time with another ``seed`` among the
    sizes.
    """

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
    module: str = "tests.whole.loop_app"
    """The application of its dispatchers."""
    seeds: int = 0

    def run(self, name: str, servers: Servers, directory: Path, size: Size) -> Report:
        """Play it on a database of this name."""
        with (
            self.place(name, servers, directory) as database,
            stage(database, directory, self.settings, self.module) as here,
        ):
            began = time.monotonic()
            try:
                self.play(here, **size)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{here.script}") from error
            return self._report(here, time.monotonic() - began)

    def _report(self, here: Stage, seconds: float) -> Report:
        history = here.history()
        times = Counter({task_id: len(some) for task_id, some in deliveries(history.lines).items()})
        made = sum(history.effects.values())
        return Report(
            scenario=self.name,
            database=here.database.name,
            tasks=len(history.rows),
            faults=Counter(fault.kind for fault in history.faults),
            repeated=times.total() - len(times),
            effects=f"{made}/{len(history.transactional)}" if history.transactional else "-",
            findings=check(history),
            seconds=seconds,
            notes=here.notes,
            said=here.said(),
            script=here.script,
        )


def together(reports: Sequence[Report]) -> Report:
    """Several runs of one scenario on one database, as one."""
    first = reports[0]
    found = [
        [getattr(report.findings, each.name) for report in reports] for each in fields(Findings)
    ]
    effects = [
        [int(number) for number in report.effects.split("/")]
        for report in reports
        if "/" in report.effects
    ]
    return replace(
        first,
        tasks=sum(report.tasks for report in reports),
        faults=sum((Counter(report.faults) for report in reports), Counter()),
        repeated=sum(report.repeated for report in reports),
        effects="/".join(str(sum(each)) for each in zip(*effects, strict=True)) or "-",
        findings=Findings(*(sum(each, ()) for each in found)),
        seconds=sum(report.seconds for report in reports),
        notes={"seeds": str(len(reports))},
    )
