"""A process ends after its n-th step, for each n: after every SQL statement, before and after every
commit, around the call.

python -m tests.whole.chaos.crash_points FIRST STRIDE
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import count

import flask
import sqlalchemy as sa
from flask import Flask

from flask_taskqueue.core.names import dispatcher_id
from flask_taskqueue.runtime import Runtime
from tests.apps import runtime_of
from tests.whole import loop_app

from . import log

CODE = 70


class Countdown:
    """Ends the process at the n-th step."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self, *_: object, **__: object) -> None:
        """One step; the last ends the process."""
        self._left -= 1
        if self._left == 0:
            os._exit(CODE)

    def watch(self, app: Flask) -> None:
        """Count the steps of the queue's engine, the application's, and its requests."""
        for engine in (runtime_of(app).store.database.engine, loop_app.db.engine):
            sa.event.listen(engine, "after_cursor_execute", self.step)
            sa.event.listen(engine, "commit", self.step)
            sa.event.listen(engine, "checkin", self.step)
        flask.request_started.connect(self.step, app)
        flask.request_finished.connect(self.step, app)


def work(app: Flask, steps: int, identity: str) -> None:
    """Add a plain task, and a transactional one together with a row; attempt both. ``steps`` of
    0: only attempt what is left.
    """
    runtime: Runtime = runtime_of(app)
    with app.app_context():
        if steps:
            Countdown(steps).watch(app)
            log.write(os.environ["LOOP_LOG"], "ack", loop_app.plain.add().id)
            task = loop_app.tasks.add("/count", transactional=True)
            loop_app.db.session.add(loop_app.Order(task_id=task.id))
            loop_app.db.session.commit()
            log.write(os.environ["LOOP_LOG"], "ack", task.id)
        runtime.drain(concurrency=1, identity=identity)


def finish(app: Flask, dead: str) -> None:
    """What a supervisor does when a child has died, and what the next child does then."""
    store = runtime_of(app).store
    store.transact(lambda connection: store.leases.expire(connection, dead))
    work(app, 0, dispatcher_id())


def forked(call: Callable[[], None]) -> int:
    """The exit code of a child that does this; the log tells of its crash when it is gone,
    behind all that its threads have written.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            call()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == CODE:
        log.write(os.environ["LOOP_LOG"], "crash", "-", pid=child)
    return code


def warm() -> Flask:
    """The application, everything imported and looked up, no connection open: it is forked."""
    app = loop_app.create_app()
    with app.app_context():
        work(app, 0, dispatcher_id())
        loop_app.db.session.scalar(sa.select(1))
        loop_app.db.session.remove()
        loop_app.db.engine.dispose()
    runtime_of(app).store.database.close()
    return app


def main(first: int, stride: int) -> None:
    """Crash at each point; after each crash everything is done that was left."""
    app = warm()
    for steps in count(first, stride):
        identity = dispatcher_id()
        code = forked(partial(work, app, steps, identity))
        if code == 0:
            return
        if code != CODE:
            sys.exit(f"step {steps}: exit code {code}")
        if forked(partial(finish, app, identity)) != 0:
            sys.exit(f"step {steps}: what was left could not be done")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
