"""Each scenario, at a small size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import NAMES, Servers

from .black_hole import BLACK_HOLE
from .crashed_steps import CRASHED_STEPS
from .full_disk import FULL_DISK
from .killed_dispatchers import KILLED_DISPATCHERS
from .killed_enqueuers import KILLED_ENQUEUERS
from .many_processes import MANY_PROCESSES
from .paused_dispatchers import PAUSED_DISPATCHERS
from .poison_task import POISON_TASK
from .random_operations import RANDOM
from .restarted_server import RESTARTED_SERVER
from .scenario import Report, Scenario
from .stopped_dispatchers import STOPPED_DISPATCHERS
from .wrong_clocks import WRONG_CLOCKS

Play = Callable[[Scenario, str], Report]
everywhere = pytest.mark.parametrize("name", NAMES)
servers_only = pytest.mark.parametrize("name", [name for name in NAMES if name != "sqlite"])


@pytest.fixture
def play(servers: Servers, tmp_path: Path) -> Play:
    """Plays a scenario on a database, and fails if the checker finds anything."""

    def small(scenario: Scenario, name: str) -> Report:
        report = scenario.run(
            name, servers, tmp_path, scenario.small | ({"seed": 1} if scenario.seeds else {})
        )
        report.check()
        return report

    return small


@everywhere
def test_killed_dispatchers_lose_nothing(play: Play, name: str) -> None:
    """All tasks are done, effects are there exactly once, serial keys keep their order, and
    second deliveries have a cause.
    """
    play(KILLED_DISPATCHERS, name)


@everywhere
def test_killed_enqueuers_leave_a_task_with_each_row(play: Play, name: str) -> None:
    """And no task without its row: both are one commit."""
    play(KILLED_ENQUEUERS, name)


@everywhere
def test_a_process_may_end_after_any_step(play: Play, name: str) -> None:
    """After a statement, before and after a commit, before and after the call: nothing is lost,
    no effect is doubled.
    """
    play(CRASHED_STEPS, name)


def test_a_paused_dispatcher_changes_nothing_with_a_lease_it_has_lost(play: Play) -> None:
    """Others attempt what it held; what it still records is late."""
    play(PAUSED_DISPATCHERS, "postgresql")


def test_stopping_burns_no_attempt(play: Play) -> None:
    """What ends within the grace period is recorded, the rest is given back, and everything is
    done by those that follow.
    """
    play(STOPPED_DISPATCHERS, "sqlite")


def test_a_poison_task_is_found_and_its_neighbours_are_not_harmed(play: Play) -> None:
    """It ends the process three times and is dead; all others are done."""
    play(POISON_TASK, "sqlite")


@servers_only
def test_a_dispatcher_survives_a_restart_of_its_database(play: Play, name: str) -> None:
    """And that all its connections are terminated: the same processes go on, nothing is lost or
    repeated without a cause.
    """
    play(RESTARTED_SERVER, name)


@servers_only
def test_a_dispatcher_survives_a_database_that_falls_silent(play: Play, name: str) -> None:
    """With connections that seem to be there: when they are cut at last, everything goes on."""
    play(BLACK_HOLE, name)


def test_the_clocks_of_machines_do_not_matter(play: Play) -> None:
    """Two minutes ahead, two behind, set by an hour and back: no lease is stolen, nothing
    begins early or late.
    """
    play(WRONG_CLOCKS, "postgresql")


def test_sixteen_processes_share_a_sqlite_file(play: Play) -> None:
    """No caller is told that the database is locked, and none starves."""
    play(MANY_PROCESSES, "sqlite")


def test_a_full_disk_loses_nothing_that_was_acknowledged(play: Play) -> None:
    """The dispatcher lives on, and does it all once there is room again."""
    play(FULL_DISK, "sqlite")


@pytest.mark.timeout(300)
@everywhere
def test_random_operations_keep_every_promise(play: Play, name: str) -> None:
    """Whatever clients ask for, beside kills, pauses, restarts and outages; the plan is that of
    one seed.
    """
    play(RANDOM, name)
