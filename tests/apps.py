"""Applications to test with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_taskqueue import Task, TaskQueue
from flask_taskqueue.runtime import Runtime
from flask_taskqueue.store import Store
from flask_taskqueue.store.database.transaction import close_engine
from tests.waiting import wait_until


@dataclass
class Bench:
    """An application with a queue and a counter to change."""

    app: Flask
    db: Any
    tasks: TaskQueue
    Counter: Any

    @property
    def runtime(self) -> Runtime:
        """What the application owns of the queue."""
        return runtime_of(self.app)

    @property
    def store(self) -> Store:
        """The tables."""
        return self.runtime.store

    def count(self) -> int:
        """The counter, read afresh."""
        self.db.session.rollback()
        self.db.session.expire_all()
        return int(self.db.session.get(self.Counter, 1).count)

    def run(self, task: Task) -> Task:
        """The task after what is due has run."""
        self.tasks.drain()
        return self.tasks.get(task.id)

    def attempts(self, task: Task) -> list[tuple[int, str, int | None]]:
        """Number, reason and status of the attempts that have ended."""
        store = self.store
        with store.reading() as connection:
            return [
                (row.number, row.reason, row.status)
                for row in store.finished_tasks.attempts(connection, task.id)
            ]


def runtime_of(app: Flask) -> Runtime:
    """Return what an application owns of the queue."""
    runtime: Runtime = app.extensions["taskqueue"]
    return runtime


def models() -> tuple[type[DeclarativeBase], Any]:
    """The base of models, and a counter."""

    class Base(DeclarativeBase):
        pass

    class Counter(Base):
        __tablename__ = "counter"

        id: Mapped[int] = mapped_column(primary_key=True)
        count: Mapped[int]

    return Base, Counter


_MODELS = models()
_PLACES = ("TASKQUEUE_TABLE", "TASKQUEUE_BIND", "TASKQUEUE_DATABASE")
"""What the keys begin with that tell where the tables of the queue are."""


@contextmanager
def bench(
    url: str,
    *,
    own_models: bool = False,
    session_options: dict[str, Any] | None = None,
    **config: Any,
) -> Iterator[Bench]:
    """An application in testing, in its context, closed afterwards.

    All have the same models, because to define the tables takes longer than many a test; with
    ``own_models``, or with tables elsewhere, an application has its own.
    """
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="a secret for tests", SQLALCHEMY_DATABASE_URI=url)
    app.config.update(config)
    own_models |= any(key.startswith(_PLACES) for key in config)
    base, counter = models() if own_models else _MODELS
    db = SQLAlchemy(app, model_class=base, session_options=session_options)
    tasks = TaskQueue(app, db)

    with app.app_context():
        db.create_all()
        with db.session.begin():
            db.session.merge(counter(id=1, count=0))
        with closing(app):
            yield Bench(app, db, tasks, counter)


@contextmanager
def closing(app: Flask) -> Iterator[None]:
    """In the end nothing of the application is connected to a database."""
    try:
        yield
    finally:
        runtime = app.extensions.get("taskqueue")
        if runtime is not None:
            runtime.stop(5)
            if "store" in runtime.__dict__:
                runtime.store.database.close()
        db = app.extensions.get("sqlalchemy")
        if isinstance(db, SQLAlchemy):
            if current_app:  # the session belongs to its context
                db.session.remove()
            with app.app_context():
                for engine in db.engines.values():
                    close_engine(engine)


@contextmanager
def served(application: Any) -> Iterator[str]:
    """A WSGI application behind a real server; its URL.

    A reply arrives before the request's thread has done with it. So that none of them comes to a
    database that is closed already, in the end all requests are over.
    """
    running = _Running()

    class Handler(WSGIRequestHandler):
        def run_wsgi(self) -> None:
            with running:
                super().run_wsgi()

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        wait_until(lambda: not running.number, what="the requests are over")


class _Running:
    """The number of requests that are served, each until its reply is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.number = 0

    def __enter__(self) -> None:
        with self._lock:
            self.number += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.number -= 1
