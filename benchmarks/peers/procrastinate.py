"""Procrastinate on PostgreSQL, async tasks, ten at a time."""

from __future__ import annotations

import sys

from procrastinate import App, PsycopgConnector

from .body import POSTGRESQL, perform
from .verbs import run

queue = App(connector=PsycopgConnector(conninfo=POSTGRESQL))


@queue.task(name="perform")
async def task(number: int) -> None:
    """The task."""
    perform(number)


def prepare() -> None:
    """Its tables."""
    with queue.open():
        queue.schema_manager.apply_schema()


def enqueue(number: int) -> None:
    """Add a task."""
    task.defer(number=number)


def work(processes: int) -> list[str]:
    """Its worker."""
    return [
        sys.executable,
        "-m",
        "procrastinate",
        "--app=benchmarks.peers.procrastinate.queue",
        "worker",
        "-c",
        "10",
    ]


if __name__ == "__main__":
    from benchmarks.peers import procrastinate as this

    if "enqueue" in sys.argv:
        this.queue.open()
    run(this.prepare, this.enqueue, this.work)
