"""Processes that enqueue, each task together with a row of the business; run as a program it keeps some alive.

python -m tests.whole.chaos.enqueuers PROCESSES COUNT
"""

from __future__ import annotations

import os
import sys

from tests.whole import loop_app

from . import log


def enqueue(count: int, how: str) -> None:
    """Add so many; say so before each and after its commit."""
    with loop_app.create_app().app_context():
        for _ in range(count):
            log.write(os.environ["LOOP_LOG"], "ask", "-")
            task = loop_app.tasks.add("/plain", transactional=how == "joined")
            if how == "joined":
                loop_app.db.session.add(loop_app.Order(task_id=task.id))
                loop_app.db.session.commit()
            log.write(os.environ["LOOP_LOG"], "ack", task.id)


def keep(processes: int, count: int, how: str) -> None:
    """Fork so many, each of which adds ``count``; one that was killed is followed by another."""
    living: set[int] = set()
    missing = processes
    while missing or living:
        while missing:
            missing -= 1
            child = os.fork()
            if not child:
                enqueue(count, how)
                os._exit(0)
            living.add(child)
        gone, status = os.wait()
        living.remove(gone)
        missing += status != 0


if __name__ == "__main__":
    keep(*map(int, sys.argv[1:3]), sys.argv[3])
