"""The application that is killed again and again; each delivery leaves lines in a log."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import time

import sqlalchemy as sa
from flask import Flask, Response, g
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_taskqueue import TaskQueue, current_task
from tests.whole.chaos import log as file


class Base(DeclarativeBase):
    """The base of the models."""


db = SQLAlchemy(model_class=Base)
tasks = TaskQueue(db=db)
hoarded: list[bytes] = []


class Counter(Base):
    """A single counter."""

    __tablename__ = "counter"

    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]


class Effect(Base):
    """What a transactional handler leaves behind."""

    __tablename__ = "effect"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(sa.String(26))


class Order(Base):
    """A row of the business, stored together with the task that it wants."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(sa.String(26))


@tasks.worker("/count", transactional=True)
def count() -> None:
    """Add one, once."""
    log("start")
    try:
        counter = db.session.get(Counter, 1, with_for_update=True)
        assert counter is not None
        counter.count += 1
        db.session.add(Effect(task_id=current_task.id))
    except sa.exc.DBAPIError:
        log("fail")
        raise
    log("end")


@tasks.worker("/plain")
def plain() -> None:
    """Leave a line at the beginning and at the end."""
    log("start")
    time.sleep(0.003)
    log("end")


@tasks.worker("/step")
def step(key: str, number: int) -> None:
    """One step of those of a serial key."""
    log("start")
    log("end")


@tasks.worker("/flaky")
def flaky() -> tuple[str, int]:
    """Fail the first time."""
    log("start")
    first = current_task.attempt == 1
    log("fail" if first else "end")
    return ("not yet", 500) if first else ("", 204)


@tasks.worker("/count-and-die", transactional=True)
def count_and_die() -> None:
    """Add one; the process dies after the commit, before the reply is recorded."""
    log("start")
    counter = db.session.get(Counter, 1, with_for_update=True)
    assert counter is not None
    counter.count += 1
    g.die = True


@tasks.worker("/slow")
def slow(seconds: float) -> None:
    """Take some time."""
    log("start")
    time.sleep(seconds)
    log("end")


@tasks.worker("/hoard")
def hoard(megabytes: int) -> None:
    """Keep memory for good."""
    log("start")
    hoarded.append(b"x" * (megabytes * 1_000_000))
    log("end")


@tasks.worker("/greedy")
def greedy(seconds: int) -> None:
    """Keep the interpreter to itself, as a C library or a regular expression does."""
    log("start")
    ctypes.PyDLL(None).sleep(seconds)
    log("end")


@tasks.worker("/hang", deadline=0.5, retry={"task_retry_limit": 0})
def hang() -> None:
    """Block outside Python, as a socket without a timeout does in a C library."""
    log("start")
    ctypes.CDLL(None).sleep(10_000)


@tasks.worker("/forking")
def forking() -> None:
    """Start a process that would sleep for long, and have it ended."""
    log("start")
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(10)
    log("end" if child.exitcode == -signal.SIGTERM else "fail")
    child.kill()


@tasks.worker("/poison")
def poison() -> None:
    """Kill the process."""
    log("start")
    os._exit(1)


def log(word: str) -> None:
    """Append a line about the current attempt."""
    file.write(os.environ["LOOP_LOG"], word, current_task.id, current_task.attempt)


def die_if_told(response: Response) -> Response:
    """End the process where a handler's transaction has committed and nobody knows yet."""
    if g.get("die"):
        os._exit(1)
    return response


def create_app() -> Flask:
    """The application on ``LOOP_DATABASE``."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "the-same-in-every-process"
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["LOOP_DATABASE"]
    app.config.from_prefixed_env()
    db.init_app(app)
    tasks.init_app(app)
    app.after_request(die_if_told)
    # Of a connection that was lost before it was given back SQLAlchemy logs the traceback; those of
    # others are looked for.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    app.add_url_rule("/", view_func=lambda: "hello", endpoint="hello")
    return app
