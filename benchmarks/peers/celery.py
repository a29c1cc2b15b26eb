"""Celery, prefork with one child, by Redis or RabbitMQ."""

from __future__ import annotations

import os
import sys

from celery import Celery

from .body import RABBITMQ, REDIS, perform
from .verbs import run

queue = Celery("bench", broker=RABBITMQ if os.environ["BENCH_VARIANT"] == "rabbitmq" else REDIS)
queue.conf.task_default_queue = "bench_peers"


@queue.task(name="perform")
def task(number: int) -> None:
    """The task."""
    perform(number)


def prepare() -> None:
    """Forget what is queued."""
    queue.control.purge()


def work(processes: int) -> list[str]:
    """Its worker."""
    return [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.peers.celery:queue",
        "worker",
        "-l",
        "ERROR",
        "-c",
        str(processes),
    ]


if __name__ == "__main__":
    from benchmarks.peers import celery as this

    run(this.prepare, this.task.delay, this.work)
