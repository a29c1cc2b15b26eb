"""An app that defers and dies before it commits; test_killed.py runs it as a process."""

from __future__ import annotations

import os
import signal
import sys

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_taskqueue import TaskQueue
from flask_taskqueue.appengine import deferred, taskqueue
from tests.appengine import jobs


def main(url: str) -> None:
    """Add in a session, and be killed between that and the commit."""
    app = Flask("tests.appengine.deferring_app")
    app.config.update(
        SECRET_KEY="a secret for tests",
        SQLALCHEMY_DATABASE_URI=url,
        TASKQUEUE_QUEUES={"pull": {"mode": "pull"}},
    )
    db = SQLAlchemy(app)
    TaskQueue(app, db)
    with app.app_context():
        taskqueue.Queue("pull").add(taskqueue.Task("kept", method="PULL", name="kept"))
        db.session.execute(db.text("UPDATE counter SET count = 1"))
        deferred.defer(jobs.record, 1)
        taskqueue.add(url="/work", transactional=True)
        leased = taskqueue.Queue("pull").lease_tasks(3600, 1)
        taskqueue.Queue("pull").delete_tasks(leased)
        sys.stdout.write(f"{len(leased)}\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
