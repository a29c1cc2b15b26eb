"""A process that forks while its dispatcher runs, and whose child looks around."""

from __future__ import annotations

import os
import sys

from flask_taskqueue import State
from tests.waiting import wait_until
from tests.whole import loop_app


def main() -> int:
    """The exit code is 0 if all is as it should be in parent and child."""
    app = loop_app.create_app()
    runtime = app.extensions["taskqueue"]
    with app.app_context():
        loop_app.db.create_all()
        runtime.start()
        running = loop_app.slow.add(seconds=1)
        wait_until(lambda: loop_app.tasks.get(running.id).state is State.LEASED, what="it runs")
        pool = runtime.store.database.engine.pool
        wait_until(lambda: pool.checkedin() > 0, what="connections are kept")
        child = os.fork()
        if not child:
            code = 1
            try:
                look_around(runtime)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert (status, running.wait(10).attempts, runtime.store.database.engine.pool) == (
            0,
            1,
            pool,
        )
        for task in loop_app.tasks.find(url="/plain"):
            assert task.wait(10).state is State.SUCCEEDED
        assert [dispatcher.pid for dispatcher in loop_app.tasks.dispatchers()] == [os.getpid()]
        runtime.stop()
    return 0


def look_around(runtime: object) -> None:
    """In the child: no dispatcher, no connection of the parent's; and it can add, and start one
    of its own.
    """
    assert runtime.scheduler is None  # type: ignore[attr-defined]
    assert runtime.store.database.engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    parent = loop_app.tasks.dispatchers()[0].id
    loop_app.plain.add()
    assert runtime.start().dispatcher.id != parent  # type: ignore[attr-defined]
    assert loop_app.plain.add().wait(10).state is State.SUCCEEDED
    assert len(loop_app.tasks.dispatchers()) == 2
    runtime.stop()  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
