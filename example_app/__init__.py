"""The counter demo of App Engine's task queue, as a Flask app."""

from __future__ import annotations

import os

from flask import Flask, Response, jsonify, redirect, render_template, request, url_for
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.wrappers import Response as BaseResponse

from flask_taskqueue import TaskQueue

KEYS = ("apples", "pears", "plums")


class Base(DeclarativeBase):
    """Base class of the models."""


db = SQLAlchemy(model_class=Base)
tasks = TaskQueue(db=db)


class Counter(Base):
    """How often a button was pressed."""

    __tablename__ = "counter"

    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=0)


@tasks.worker("/worker", transactional=True)
def worker(key: str) -> None:
    """Count one press, exactly once: the change commits together with the end of the task."""
    counter = db.session.get(Counter, key, with_for_update=True)
    if counter is None:
        counter = Counter(key=key, count=0)
        db.session.add(counter)
    counter.count += 1


def create_app() -> Flask:
    """Create the app.

    ``EXAMPLE_DATABASE_URL`` is its database, by default a SQLite file in the instance folder.
    """
    app = Flask(__name__, instance_relative_config=True)
    app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY", "only-for-this-example")
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get(
        "EXAMPLE_DATABASE_URL", "sqlite:///example.db"
    )
    # In debug, the link that flask run prints gives access; otherwise nobody has access.
    app.config["TASKQUEUE_DASHBOARD"] = True
    db.init_app(app)
    tasks.init_app(app)
    app.add_url_rule("/", view_func=index)
    app.add_url_rule("/", view_func=press, methods=["POST"])
    app.add_url_rule("/state.json", view_func=state)
    with app.app_context():
        db.create_all()
    return app


def index() -> str:
    """Show the counters and the latest tasks."""
    return render_template("index.html", counters=_counters(), tasks=tasks.find(limit=10))


def press() -> BaseResponse:
    """Add a task that counts, and return to the page."""
    tasks.add("/worker", {"key": request.form["key"]})
    return redirect(url_for("index"), 303)


def state() -> Response:
    """Return what the page shows as JSON, for its script."""
    latest = [
        {"id": task.id, "url": task.url, "state": task.state, "attempts": task.attempts}
        for task in tasks.find(limit=10)
    ]
    return jsonify(counters=_counters(), tasks=latest)


def _counters() -> dict[str, int]:
    stored = {counter.key: counter.count for counter in db.session.scalars(db.select(Counter))}
    return {key: stored.get(key, 0) for key in KEYS}
