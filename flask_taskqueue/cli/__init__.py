"""The commands: ``flask taskqueue …``."""

from __future__ import annotations

from flask.cli import AppGroup

from .database import init_db
from .run import run
from .secret import webhook_secret

taskqueue = AppGroup("taskqueue", help="The task queue: tables, dispatcher.")
taskqueue.add_command(init_db)
taskqueue.add_command(run)
taskqueue.add_command(webhook_secret)
