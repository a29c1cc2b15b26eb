"""Each scenario, at a small size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import NAMES, Servers

from .killed_dispatchers import KILLED_DISPATCHERS
from .killed_enqueuers import KILLED_ENQUEUERS
from .scenario import Report, Scenario

Play = Callable[[Scenario, str], Report]
everywhere = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def play(servers: Servers, tmp_path: Path) -> Play:
    """Plays a scenario on a database, and fails if the checker finds anything."""

    def small(scenario: Scenario, name: str) -> Report:
        report = scenario.run(name, servers, tmp_path, scenario.small)
        report.check()
        return report

    return small


@everywhere
def test_killed_dispatchers_lose_nothing(play: Play, name: str) -> None:
    """All tasks are done, effects are there exactly once, serial keys keep their order, and second deliveries have a cause."""
    play(KILLED_DISPATCHERS, name)


@everywhere
def test_killed_enqueuers_leave_a_task_with_each_row(play: Play, name: str) -> None:
    """And no task without its row: both are one commit."""
    play(KILLED_ENQUEUERS, name)
