"""Pages of the documentation, read and run as their readers would."""

from __future__ import annotations

import contextvars
import datetime
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import SkipTest

import flask
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sybil.document import Document
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

import flask_taskqueue
from flask_taskqueue import TaskQueue
from flask_taskqueue.runtime import Runtime
from flask_taskqueue.runtime.runtime import _runtimes
from flask_taskqueue.store.database.transaction import close_engine

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]

IMPORTED = {
    **{
        name: getattr(flask_taskqueue, name)
        for name in flask_taskqueue.__all__
        if not name.startswith("__")
    },
    **{
        name: getattr(flask, name)
        for name in ("jsonify", "redirect", "render_template", "request", "session", "url_for")
    },
    **{name: getattr(datetime, name) for name in ("UTC", "date", "datetime", "timedelta")},
}
QUEUES: dict[str, Any] = {
    "mail": {"rate": "20/m", "bucket_size": 5},
    "images": {},
    "reports": {"max_concurrent": 1},
    "thumbnails": {"mode": "pull"},
    "api": {"rate_per_key": "10/m", "bucket_size_per_key": 1},
}


def read(page: Path) -> Document:
    """A page, its blocks found."""
    return Document.parse(str(page), PythonCodeBlockParser(), SkipParser())


def run(page: Path, folder: Path) -> int:
    """Run the blocks of a page, in their order, in one namespace; how many there were.

    A page that makes no application finds ``app``, ``db``, ``tasks`` and the usual imports as a
    program does that has them: in testing, with any path answered, in an application context.
    """
    # In a context of its own: a page may push an application context and leave it there.
    return contextvars.Context().run(_run, read(page), page.stem, folder)


def _run(document: Document, name: str, folder: Path) -> int:
    blocks = 0
    with _namespace(name, folder) as module, ExitStack() as stack:
        stack.enter_context(_closing())
        document.namespace = module.__dict__
        if "Flask(" not in document.text:
            module.__dict__.update(_prepared(module.__name__))
            stack.enter_context(module.app.app_context())
            module.db.create_all()
        for example in document.examples():
            blocks += 1
            try:
                example.evaluate()
            except SkipTest:
                continue
    return blocks


@contextmanager
def _namespace(name: str, folder: Path) -> Iterator[ModuleType]:
    """A module in a file of ``folder``, for Flask looks for one and annotations are looked up
    in one.
    """
    module = ModuleType(f"page_{name}")
    module.__file__ = str(folder / "app.py")
    sys.modules[module.__name__] = module
    try:
        yield module
    finally:
        del sys.modules[module.__name__]


@contextmanager
def _closing() -> Iterator[None]:
    """Close the databases of every application that the page made."""
    before = set(_runtimes)
    try:
        yield
    finally:
        for runtime in set(_runtimes) - before:
            if (
                runtime._app() is not None
            ):  # otherwise the page made another application in its place
                _close(runtime)


def _close(runtime: Runtime) -> None:
    runtime.stop()
    if "store" in runtime.__dict__:
        runtime.store.database.close()
    db = runtime.binding.db
    if db is not None:
        with runtime.app.app_context():
            db.session.remove()
            for engine in db.engines.values():
                close_engine(engine)


def _prepared(name: str) -> dict[str, Any]:
    class Base(DeclarativeBase):
        pass

    app = Flask(name)
    app.config.update(
        TESTING=True,
        SECRET_KEY="a secret for the pages",
        SQLALCHEMY_DATABASE_URI="sqlite:///page.db",
    )
    app.config.update(TASKQUEUE_QUEUES=QUEUES, TASKQUEUE_ALLOWED_HOSTS=["api.example.com"])
    db = SQLAlchemy(app, model_class=Base)
    tasks = TaskQueue(app, db)

    class Counter(Base):
        __tablename__ = "counter"

        key: Mapped[str] = mapped_column(primary_key=True)
        count: Mapped[int] = mapped_column(default=0)

    app.add_url_rule(
        "/<path:anything>", "anything", lambda anything: ("", 204), methods=("GET", "POST")
    )
    names = {
        "app": app,
        "db": db,
        "tasks": tasks,
        "Base": Base,
        "Counter": Counter,
        "Mapped": Mapped,
        "mapped_column": mapped_column,
    }
    return {**IMPORTED, **names}
