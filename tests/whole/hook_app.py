"""A warehouse that takes in webhooks, on ``HOOK_DATABASE``."""

from __future__ import annotations

import os

from flask import Flask

from flask_taskqueue import TaskQueue

SECRET = "whsec_YSBzZWNyZXQgb2YgMjQgYnl0ZXMgb3I="


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="the-same-in-every-process",
        TASKQUEUE_DATABASE_URI=os.environ["HOOK_DATABASE"],
        TASKQUEUE_DISPATCHER="off",
    )
    tasks = TaskQueue(app)
    app.extensions["taskqueue.tests"] = tasks
    app.add_url_rule("/", "home", lambda: "")

    @tasks.webhook("/hooks/shop", secret=SECRET)
    def order() -> None: ...

    return app
