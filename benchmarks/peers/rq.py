"""RQ by Redis with SimpleWorker, which does not fork for each task."""

from __future__ import annotations

import sys

import redis
from rq import Queue

from .body import REDIS
from .verbs import run

connection = redis.Redis.from_url(REDIS)
queue = Queue("bench", connection=connection)


def enqueue(number: int) -> None:
    """Add a task."""
    queue.enqueue("benchmarks.peers.body.perform", number)


def work(processes: int) -> list[str]:
    """Its worker."""
    return [
        sys.executable,
        "-m",
        "rq.cli",
        "worker",
        "-q",
        "-u",
        REDIS,
        "-w",
        "rq.worker.SimpleWorker",
        "bench",
    ]


if __name__ == "__main__":
    run(connection.flushdb, enqueue, work)
