"""Flask-TaskQueue as it is by default, on SQLite, PostgreSQL or MariaDB; each of its tasks is a
request anyway.
"""

from __future__ import annotations

import os
import sys

from flask import Flask

from flask_taskqueue import TaskQueue

from .body import POSTGRESQL, note
from .verbs import run

URLS = {
    "sqlite": f"sqlite:///{os.environ['BENCH_NOTES']}.sqlite",
    "postgresql": POSTGRESQL.replace("postgresql:", "postgresql+psycopg:"),
    "mariadb": os.environ.get("BENCH_MARIADB", "mysql+pymysql://root@127.0.0.1:3306/bench_peers"),
}
tasks = TaskQueue()


@tasks.worker("/worker")
def worker(number: int) -> None:
    """The task."""
    note(number)


def create_app() -> Flask:
    """The application of each process."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="a secret for the benchmark",
        TASKQUEUE_DATABASE_URI=URLS[os.environ["BENCH_VARIANT"]],
        TASKQUEUE_CREATE_TABLES=True,
        TASKQUEUE_DISPATCHER="off",
    )
    tasks.init_app(app)
    return app


def prepare() -> None:
    """Empty tables."""
    app = create_app()
    store = app.extensions["taskqueue"].store
    tables = store.database.tables
    tables.task.metadata.drop_all(store.database.engine, tables=tables.all)
    store.ensure_queues()


def work(processes: int) -> list[str]:
    """Its dispatchers."""
    application = "benchmarks.peers.flask_taskqueue"
    return [
        sys.executable,
        "-m",
        "flask",
        "--app",
        application,
        "taskqueue",
        "run",
        "--processes",
        str(processes),
    ]


if __name__ == "__main__":
    from benchmarks.peers import flask_taskqueue as this

    if "enqueue" in sys.argv:
        app = this.create_app()
    run(this.prepare, this.worker.add, this.work)
