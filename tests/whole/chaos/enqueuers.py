"""Processes that enqueue, each task together with a row of the business; run as a program it keeps
some alive.

python -m tests.whole.chaos.enqueuers PROCESSES AMOUNT HOW, where an amount is a number of tasks or,
as in 60s, a time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from tests.whole import loop_app

from . import log


def enqueue(amount: str, how: str) -> None:
    """Add so many; say so before each and after its commit."""
    with loop_app.create_app().app_context():
        for _ in rounds(amount):
            log.write(os.environ["LOOP_LOG"], "ask", "-")
            task = loop_app.tasks.add("/plain", transactional=how == "joined")
            if how == "joined":
                loop_app.db.session.add(loop_app.Order(task_id=task.id))
                loop_app.db.session.commit()
            log.write(os.environ["LOOP_LOG"], "ack", task.id)


def rounds(amount: str) -> Iterator[None]:
    """So many rounds, or as many as there is time for."""
    if not amount.endswith("s"):
        yield from (None for _ in range(int(amount)))
        return
    end = time.monotonic() + float(amount[:-1])
    while time.monotonic() < end:
        yield


def keep(processes: int, amount: str, how: str) -> None:
    """Fork so many, each of which adds that amount; one that was killed is followed by another."""
    living: set[int] = set()
    missing = processes
    while missing or living:
        while missing:
            missing -= 1
            child = os.fork()
            if not child:
                enqueue(amount, how)
                os._exit(0)
            living.add(child)
        gone, status = os.wait()
        living.remove(gone)
        missing += status != 0


if __name__ == "__main__":
    keep(int(sys.argv[1]), *sys.argv[2:4])
