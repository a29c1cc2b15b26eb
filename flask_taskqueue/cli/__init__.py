"""The commands: ``flask taskqueue …``."""

from __future__ import annotations

from .changes import delete, retry, run_now
from .cron import cron
from .database import check, init_db, upgrade
from .doctor import doctor
from .exits import Commands
from .find import list_tasks
from .health import health
from .keys import rotate_keys
from .queues import configure, pause, purge, queues, resume
from .run import run
from .secret import webhook_secret
from .show import show
from .why import why

taskqueue = Commands("taskqueue", help="The task queue: tables, dispatcher, tasks, queues, schedules.")
_TASKS = (list_tasks, show, why, retry, run_now, delete)
_QUEUES = (queues, pause, resume, purge, configure, cron)
_SYSTEM = (run, init_db, upgrade, check, health, doctor, webhook_secret, rotate_keys)
for command in (*_SYSTEM, *_TASKS, *_QUEUES):
    taskqueue.add_command(command)
