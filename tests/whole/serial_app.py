"""The application of the serial keys: each delivery leaves its key and its number in a log."""

from __future__ import annotations

import os

from flask import Flask

from flask_taskqueue import TaskQueue

tasks = TaskQueue()


@tasks.worker("/step")
def step(key: str, number: int) -> None:
    """Leave a line, in one write, so that processes do not mix theirs."""
    descriptor = os.open(os.environ["SERIAL_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{key} {number}\n".encode())
    os.close(descriptor)


def create_app() -> Flask:
    """The application; its configuration comes from the environment, so that all processes have the same."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "the-same-in-every-process"
    app.config.from_prefixed_env()
    tasks.init_app(app)
    return app
