"""The application that is measured, and how its processes and databases are made."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from flask_taskqueue import TaskQueue, current_task

from .notes import note

db_tasks = TaskQueue()
_numbers = itertools.count()


class Base(DeclarativeBase):
    """The base of the one model."""


db = SQLAlchemy(model_class=Base)


class Counter(db.Model):  # type: ignore[name-defined, misc]
    """What the transactional handler counts in."""

    __tablename__ = "bench_counter"
    id = sa.Column(sa.Integer, primary_key=True)
    count = sa.Column(sa.Integer, nullable=False)


@db_tasks.worker("/worker")
def nothing() -> None:
    """Do nothing."""


@db_tasks.worker("/count", transactional=True)
def count() -> None:
    """Change one row."""
    db.session.execute(sa.update(Counter).where(Counter.id == 1).values(count=Counter.count + 1))


@db_tasks.worker("/note")
def noted(number: int) -> None:
    """Note that it begins."""
    note(number, current_task.attempt)


@db_tasks.worker("/hold", deadline=600)
def hold(number: int) -> None:
    """Note that it begins; the first attempt does not end."""
    note(number, current_task.attempt)
    if current_task.attempt == 1:
        time.sleep(500)


def create_app() -> Flask:
    """The application of each process; where its tables are is in the environment."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="a secret for the benchmark",
        SQLALCHEMY_DATABASE_URI=os.environ["BENCH_DATABASE"],
        TASKQUEUE_CREATE_TABLES=True,
        TASKQUEUE_TABLE_PREFIX=os.environ["BENCH_PREFIX"],
        TASKQUEUE_DISPATCHER="off",
    )
    db.init_app(app)
    db_tasks.init_app(app, db)
    app.add_url_rule("/bare", view_func=lambda: ("", 204), methods=["POST"], endpoint="bare")
    return app


@contextmanager
def application(url: str | None) -> Iterator[Flask]:
    """The application with empty tables, on a SQLite file without a URL or with ``sqlite``; the
    tables are dropped at the end.
    """
    with tempfile.TemporaryDirectory() as directory:
        os.environ["BENCH_DATABASE"] = (
            f"sqlite:///{Path(directory) / 'queue.db'}" if url in (None, "sqlite") else str(url)
        )
        os.environ["BENCH_NOTES"] = str(Path(directory) / "notes")
        os.environ["BENCH_PREFIX"] = f"bench{os.getpid()}_{next(_numbers)}_"
        app = create_app()
        store = app.extensions["taskqueue"].store
        store.ensure_queues()
        with app.app_context():
            Base.metadata.drop_all(db.engine, tables=[Counter.__table__])
            Base.metadata.create_all(db.engine, tables=[Counter.__table__])
            db.session.add(Counter(id=1, count=0))
            db.session.commit()
        try:
            yield app
        finally:
            with app.app_context():
                db.session.remove()
                Base.metadata.drop_all(db.engine)


def database_name(app: Flask) -> str:
    """What the database is called."""
    dialect = app.extensions["taskqueue"].store.database.engine.dialect
    names = {
        "sqlite": "SQLite",
        "postgresql": "PostgreSQL",
        "mysql": "MariaDB" if getattr(dialect, "is_mariadb", False) else "MySQL",
    }
    return names[dialect.name]


def dispatchers(processes: int = 1, *options: str) -> subprocess.Popen[bytes]:
    """``flask taskqueue run`` for the application of this environment, in a process group of
    its own.
    """
    command = [
        sys.executable,
        "-m",
        "flask",
        "--app",
        "benchmarks.apps",
        "taskqueue",
        "run",
        "--processes",
        str(processes),
        *options,
    ]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def ended(running: subprocess.Popen[Any]) -> None:
    """Stop a process and wait for it."""
    running.terminate()
    running.wait(30)
