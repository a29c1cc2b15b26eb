"""Dramatiq by Redis, one process of eight threads, its default."""

from __future__ import annotations

import sys

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from .body import REDIS, perform
from .verbs import run

broker = RedisBroker(url=REDIS)
dramatiq.set_broker(broker)


@dramatiq.actor
def task(number: int) -> None:
    """The task."""
    perform(number)


def prepare() -> None:
    """Forget what is queued."""
    redis.Redis.from_url(REDIS).flushdb()


def work(processes: int) -> list[str]:
    """Its worker."""
    return [
        sys.executable,
        "-m",
        "dramatiq",
        "benchmarks.peers.dramatiq",
        "-p",
        str(processes),
        "-t",
        "8",
    ]


if __name__ == "__main__":
    from benchmarks.peers import dramatiq as this

    run(this.prepare, this.task.send, this.work)
