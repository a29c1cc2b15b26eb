"""The commands: ``flask taskqueue …``."""

from __future__ import annotations

from flask.cli import AppGroup

from .cron import cron
from .database import check, init_db, upgrade
from .queues import configure, pause, purge, queues, resume
from .run import run
from .secret import webhook_secret
from .why import why

taskqueue = AppGroup("taskqueue", help="The task queue: tables, dispatcher, queues, schedules.")
for command in (init_db, upgrade, check, run, queues, pause, resume, purge, configure, cron, webhook_secret, why):
    taskqueue.add_command(command)
