"""An application whose handlers answer with what they have got."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request

from flask_taskqueue import TaskQueue, current_task
from tests.readers import READS

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def create_app() -> Flask:
    """The application, on the SQLite file in the folder that the environment names; a header
    says what a hook reads of a body.
    """
    app = Flask(__name__, instance_path=os.environ["ECHO_FOLDER"])
    app.config.update(
        SECRET_KEY="a secret for tests",
        TASKQUEUE_DISPATCHER="off",
        TASKQUEUE_CREATE_TABLES=True,
        TASKQUEUE_RETRY={"task_retry_limit": 0},
        TASKQUEUE_QUEUES={"in-process": {}, "over-http": {"deadline": 77}},
    )
    app.extensions["taskqueue.tests"] = tasks = TaskQueue(app)

    @app.before_request
    def look() -> None:
        if "X-Looks" in request.headers:
            READS[request.headers["X-Looks"]](request)

    @app.get("/")
    def index() -> str:
        return "up"

    @tasks.worker("/echo", methods=METHODS)
    def echo() -> dict[str, Any]:
        return seen()

    @tasks.worker("/echo/<path:rest>", methods=METHODS)
    def deeper(rest: str) -> dict[str, Any]:
        return {**seen(), "rest": rest}

    @tasks.worker("/deadline")
    def deadline() -> list[float]:
        return [current_task.remaining]

    @tasks.worker("/named", methods=METHODS)
    def named(name: str, number: int = 0) -> list[Any]:
        return [name, number]

    return app


def seen() -> dict[str, Any]:
    """What a handler can see of its request."""
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query_string.decode(),
        "args": request.args.to_dict(flat=False),
        "body": request.get_data(as_text=True),
    }
