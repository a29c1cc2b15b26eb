"""Oban for Python on PostgreSQL, one queue of ten at a time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from oban import Oban, worker

from .body import POSTGRESQL, perform
from .verbs import run

BIN = f"{os.path.dirname(sys.executable)}/oban"


@worker(queue="default")
class Task:
    """The task."""

    async def process(self, job):  # type: ignore[no-untyped-def]
        perform(job.args["number"])


def prepare() -> None:
    """Its tables."""
    subprocess.run([BIN, "install", "--dsn", POSTGRESQL], check=True, stdout=subprocess.DEVNULL)


class Enqueuer:
    """Its loop and its pool."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.oban = None

    def __call__(self, number: int) -> None:
        self.loop.run_until_complete(self.enqueue(number))

    async def enqueue(self, number: int) -> None:
        """Add a task."""
        if self.oban is None:
            self.oban = Oban(pool=await Oban.create_pool(POSTGRESQL))
        await self.oban.enqueue(Task.new({"number": number}))


def work(processes: int) -> list[str]:
    """Its worker."""
    return [
        BIN,
        "start",
        "--dsn",
        POSTGRESQL,
        "--queues",
        "default:10",
        "--cron-modules",
        "benchmarks.peers.oban",
        "--log-level",
        "error",
    ]


if __name__ == "__main__":
    from benchmarks.peers import oban as this

    run(this.prepare, this.Enqueuer(), this.work)
