"""The machines of dispatchers have wrong clocks, and one is set while tasks run."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from tests.whole import loop_app
from tests.whole.processes import ROOT

from .scenario import Scenario
from .stage import Stage

OFF = 120.0
HOUR = 3600.0
LEASE = 2.0
LATEST = 3.0
"""Seconds after its eta within which a task has begun: a poll, and what a busy machine takes."""


def play(stage: Stage, *, tasks: int, limit: float) -> None:
    """One is ahead, one behind and then set, forward and back: leases are renewed, none is
    stolen, nothing begins early or late.
    """
    fast, slow = stage.directory / "fast", stage.directory / "slow"
    set_clock(fast, OFF)
    set_clock(slow, -OFF)
    stage.add(loop_app.slow.spec(seconds=2.5 * LEASE) for _ in range(16))
    # Neither can take all the long ones, and there is room beside them.
    few = "--threads", "10"
    with (
        stage.dispatchers(1, *few, environment=environment(fast)),
        stage.dispatchers(1, *few, environment=environment(slow)),
    ):
        stage.wait_begun(16)
        later = stage.add(
            loop_app.plain.options(countdown=timedelta(seconds=2 + number % 8)).spec()
            for number in range(tasks)
        )
        for off in (HOUR, -HOUR, -OFF):
            set_clock(slow, off)
            time.sleep(1.5)
        stage.wait_drained(limit)
    rows = {row.id: row for row in stage.history().rows}
    late = max((rows[one].first_tried_at or 0) - rows[one].eta for one in later) / 1e6
    stage.notes["latest start"] = f"{1000 * late:.0f} ms"
    assert late < LATEST, f"a task began {late:.1f} s after its eta"
    assert {row.attempts for row in rows.values()} == {1}


def set_clock(file: Path, off: float) -> None:
    """Have the clock of the processes that read this file be off by so many seconds."""
    new = file.with_suffix(".new")
    new.write_text(f"{off}")
    new.rename(file)


def environment(clock: Path) -> dict[str, str]:
    """That of a process with this clock."""
    return {
        "CHAOS_CLOCK": str(clock),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "clock"), str(ROOT)]),
    }


WRONG_CLOCKS = Scenario(
    name="wrong clocks",
    play=play,
    small={"tasks": 100, "limit": 30},
    full={"tasks": 2000, "limit": 90},
    # The clock of a SQLite file is that of the processes that use it.
    databases=("postgresql", "mariadb"),
    settings={"LEASE": f"{LEASE:g}", "POLL_INTERVAL": "0.5"},
)
