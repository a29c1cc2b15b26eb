"""Chancy on PostgreSQL, fifty threads, eager polling."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from chancy import Chancy, Job, Queue
from chancy.app import setup_default_logger

from .body import POSTGRESQL, perform
from .verbs import run

queue = Chancy(POSTGRESQL, log=setup_default_logger(logging.ERROR))


def task(number: int) -> None:
    """The task."""
    perform(number)


def prepare() -> None:
    """Its tables."""

    async def migrate() -> None:
        async with Chancy(POSTGRESQL) as one:
            await one.migrate()
            await one.declare(
                Queue(
                    "default", concurrency=50, executor=Chancy.Executor.Threaded, eager_polling=True
                )
            )

    asyncio.run(migrate())


def enqueue(number: int) -> None:
    """Add a task."""
    queue.sync_push(Job(func="benchmarks.peers.chancy.task", kwargs={"number": number}))


def work(processes: int) -> list[str]:
    """Its worker."""
    return [
        f"{os.path.dirname(sys.executable)}/chancy",
        "--app",
        "benchmarks.peers.chancy.queue",
        "worker",
        "start",
    ]


if __name__ == "__main__":
    from benchmarks.peers import chancy as this

    if "enqueue" in sys.argv:
        with this.queue:
            run(this.prepare, this.enqueue, this.work)
    else:
        run(this.prepare, this.enqueue, this.work)
