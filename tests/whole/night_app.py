"""A shop of which half is broken; what it was before the last release with
``NIGHT_RELEASE=old``.
"""

from __future__ import annotations

import os

from flask import Flask, redirect, request
from werkzeug.wrappers import Response

from flask_taskqueue import TaskQueue


def create_app() -> Flask:
    """The application on ``NIGHT_DATABASE``; its webhooks go to ``NIGHT_HOST``."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="the-same-in-every-process",
        TASKQUEUE_DATABASE_URI=os.environ["NIGHT_DATABASE"],
        TASKQUEUE_QUEUES={"mail": {}, "hooks": {}},
        TASKQUEUE_RETRY={"min_backoff_seconds": 600, "max_backoff_seconds": 600},
        TASKQUEUE_ALLOWED_HOSTS=[os.environ["NIGHT_HOST"]],
    )
    tasks = TaskQueue(app)
    for rule, handler in {
        "/mail": mail,
        "/fine": fine,
        "/picture": picture,
        "/reports/monthly": report,
    }.items():
        tasks.worker(rule, queue="mail" if handler is mail else "default")(handler)
    if os.environ.get("NIGHT_RELEASE") == "old":
        tasks.worker("/legacy")(legacy)

    @app.before_request
    def login() -> Response | None:
        return redirect("/login") if request.path.startswith("/reports/") else None

    return app


def mail() -> None:
    """Be well; the queue is not."""


def fine() -> None:
    """Be well."""


def picture() -> None:
    """Take the whole process along."""
    os._exit(9)


def report() -> None:
    """Never be reached."""


def legacy() -> None:
    """Be gone with the next release."""
