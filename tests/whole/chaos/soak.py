"""A soak: so many tasks a second for some minutes, with kills, and what the dispatchers use meanwhile: ``make soak``."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import click

from tests.databases import NAMES, fresh
from tests.whole import loop_app
from tests.whole.processes import descendants

from .__main__ import row, servers
from .checker import check
from .stage import Stage, stage

PROCESSES = 2
_EVERY = 10.0
_WAIT = 60.0


@dataclass(frozen=True)
class Use:
    """What the dispatcher processes use, on average."""

    threads: float
    files: float
    """Open files and connections."""
    memory: float
    """Resident, in MB."""


def use(parent: int) -> Use:
    """What they use now."""
    found = descendants(parent)
    each = [(one.num_threads(), one.num_fds(), one.memory_info().rss / 1e6) for one in found]
    return Use(*(round(statistics.mean(column), 1) for column in zip(*each, strict=True)))


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--rate", default=50, show_default=True, help="Tasks a second.")
@click.option("--database", type=click.Choice(NAMES), default="sqlite", show_default=True)
def soak(minutes: float, rate: int, database: str) -> None:
    """Exit code 1 when the checker finds anything."""
    with servers() as (found, directory), fresh(database, found, directory) as empty, stage(empty, directory, {"LEASE": "6"}) as here:
        seen = run(here, minutes * 60, rate)
        here.wait_drained(_WAIT)
        problems = check(here.history()).problems
    for one in fields(Use):
        values = [getattr(use, one.name) for use in seen]
        click.echo(f"{one.name}: first {values[0]:g}, median {statistics.median(values):g}, last {values[-1]:g}, most {max(values):g}")
    click.echo(f"{len(here.expected):,} tasks, {len(here.faults)} kills, {len(problems)} problems")
    for problem in problems[:20]:
        click.echo(f"    {problem}", err=True)
    sys.exit(bool(problems))


def run(here: Stage, seconds: float, rate: int) -> Sequence[Use]:
    """Add tasks each second, every tenth of them transactional; kill a process now and then, after it was looked at."""
    seen: list[Use] = []
    click.echo(row(["second", *(one.name for one in fields(Use)), "tasks"]))
    with here.dispatchers(PROCESSES) as running:
        here.add([loop_app.plain.spec()])
        here.wait_begun(1)
        began = looked = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            here.transactional |= {*here.add(loop_app.count.spec() for _ in range(rate // 10))}
            here.add(loop_app.plain.spec() for _ in range(rate - rate // 10))
            if now - looked >= _EVERY:
                looked = now
                seen.append(use(running.pid))
                click.echo(row([f"{now - began:.0f}", *map(str, astuple(seen[-1])), f"{len(here.expected):,}"]))
                here.kill_one_of(running, worked=1)
            time.sleep(max(0.0, 1 - (time.monotonic() - now)))
        here.wait_drained(_WAIT)
    return seen


if __name__ == "__main__":
    soak()
