"""A soak: so many tasks a second for some minutes, with kills, and what two processes use that
are never killed: ``make soak``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields

import click
import psutil
import sqlalchemy as sa

from tests.databases import NAMES, fresh
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.processes import descendants

from .__main__ import row, servers
from .checker import check
from .stage import Stage, stage

PROCESSES = 3
_EVERY = 10.0
_WAIT = 60.0
_SERVER_CONNECTIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = "
    "current_database() AND pid <> "
    "pg_backend_pid()",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE "
    "db = database() AND id <> "
    "connection_id()",
}
_POOLS = (PROCESSES + 1) * (5 + 5)
"""Connections that the pools of all processes keep: in each five of the queue's, five of the
application's.
"""


@dataclass(frozen=True)
class Use:
    """What a process uses."""

    threads: float
    files: float
    """Open files and connections."""
    memory: float
    """Resident, in MB."""


@dataclass(frozen=True)
class Sample:
    """What was in use at one moment."""

    kept: Use
    """By a dispatcher that is never killed."""
    supervisor: Use
    connections: int
    """To the database, by all processes."""


GROWTH = Use(threads=1, files=2, memory=10)
"""By how much the last third of a soak may be above the first, on median."""


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--rate", default=50, show_default=True, help="Tasks a second.")
@click.option("--database", type=click.Choice(NAMES), default="sqlite", show_default=True)
def soak(minutes: float, rate: int, database: str) -> None:
    """Exit code 1 when the checker finds anything, or a process has grown."""
    with (
        servers() as (found, directory),
        fresh(database, found, directory) as empty,
        stage(empty, directory, {"LEASE": "6"}) as here,
    ):
        samples = run(here, minutes * 60, rate)
        problems = check(here.history()).problems
    problems += grown(samples)
    click.echo(f"{len(here.expected):,} tasks, {len(here.faults)} kills, {len(problems)} problems")
    for problem in problems[:20]:
        click.echo(f"    {problem}", err=True)
    sys.exit(bool(problems))


def run(here: Stage, seconds: float, rate: int) -> Sequence[Sample]:
    """Add tasks each second, every tenth of them transactional; every ten look at what is used,
    then kill a process.
    """
    samples: list[Sample] = []
    names = [f"{who} {field.name}" for who in ("kept", "supervisor") for field in fields(Use)]
    click.echo(row(["second", *names, "connections", "tasks"]))
    with here.dispatchers(PROCESSES) as running:
        wait_until(
            lambda: len(descendants(running.pid)) == PROCESSES, what="all dispatchers are there"
        )
        kept = descendants(running.pid)[0]
        began = looked = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            here.transactional |= {*here.add(loop_app.count.spec() for _ in range(rate // 10))}
            here.add(loop_app.plain.spec() for _ in range(rate - rate // 10))
            if now - looked >= _EVERY:
                looked = now
                samples.append(sample(here, running.pid, kept))
                click.echo(
                    row([f"{now - began:.0f}", *cells(samples[-1]), f"{len(here.expected):,}"])
                )
                here.kill_one_of(running, worked=1, spared=kept.pid)
            time.sleep(max(0.0, 1 - (time.monotonic() - now)))
        here.wait_drained(_WAIT)
    return samples


def sample(here: Stage, supervisor: int, kept: psutil.Process) -> Sample:
    """What is in use now."""
    parent = psutil.Process(supervisor)
    if here.database.name in _SERVER_CONNECTIONS:
        engine = sa.create_engine(here.database.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            connections = connection.exec_driver_sql(
                _SERVER_CONNECTIONS[here.database.name]
            ).scalar_one()
    else:
        file = sa.make_url(here.database.url).database
        connections = sum(
            item.path == file
            for process in [psutil.Process(), *descendants(supervisor)]
            for item in process.open_files()
        )
    return Sample(use(kept), use(parent), connections)


def use(process: psutil.Process) -> Use:
    """What a process uses now."""
    return Use(process.num_threads(), process.num_fds(), round(process.memory_info().rss / 1e6, 1))


def cells(one: Sample) -> Iterator[str]:
    """A sample as a part of a row."""
    return (
        f"{value:g}" for value in (*astuple(one.kept), *astuple(one.supervisor), one.connections)
    )


def grown(samples: Sequence[Sample]) -> list[str]:
    """Print how each use went, and say which have grown by too much, or are too many."""
    found = [
        rise(
            f"{who} {field.name}",
            [getattr(getattr(each, who), field.name) for each in samples],
            getattr(GROWTH, field.name),
        )
        for who in ("kept", "supervisor")
        for field in fields(Use)
    ]
    connections = [each.connections for each in samples]
    found.append(rise("connections", connections, PROCESSES))
    if max(connections) > _POOLS:
        found.append(f"{max(connections)} connections, the pools hold {_POOLS}")
    return [item for item in found if item is not None]


def rise(name: str, values: Sequence[float], limit: float) -> str | None:
    """Print how one use went; what is wrong when its last third is too far above its first."""
    third = max(1, len(values) // 3)
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    click.echo(
        f"{name}: first third {first:g}, last third {last:g}, least {min(values):g}, most "
        f"{max(values):g}"
    )
    return (
        f"{name} rose from {first:g} to {last:g}, by more than {limit:g}"
        if last - first > limit
        else None
    )


if __name__ == "__main__":
    soak()
