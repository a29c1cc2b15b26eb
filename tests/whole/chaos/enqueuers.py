"""Processes that enqueue, each task together with a row of the business; run as a program it keeps some alive.

python -m tests.whole.chaos.enqueuers PROCESSES COUNT
"""

from __future__ import annotations

import os
import sys

from tests.whole import loop_app

from . import log


def enqueue(count: int) -> None:
    """Add so many, and say so after each commit."""
    with loop_app.create_app().app_context():
        for _ in range(count):
            task = loop_app.tasks.add("/plain", transactional=True)
            loop_app.db.session.add(loop_app.Order(task_id=task.id))
            loop_app.db.session.commit()
            log.write(os.environ["LOOP_LOG"], "ack", task.id)


def keep(processes: int, count: int) -> None:
    """Fork so many, each of which adds ``count``; one that was killed is followed by another."""
    living: set[int] = set()
    missing = processes
    while missing or living:
        while missing:
            missing -= 1
            child = os.fork()
            if not child:
                enqueue(count)
                os._exit(0)
            living.add(child)
        gone, status = os.wait()
        living.remove(gone)
        missing += status != 0


if __name__ == "__main__":
    keep(*map(int, sys.argv[1:]))
