"""The commands: ``flask taskqueue …``."""

from __future__ import annotations

from .add import add
from .changes import delete, prune, purge, requeue, retry, run_now
from .cron import cron
from .database import adopt, check, init_db, rotate_keys, upgrade
from .options import Commands
from .queues import configure, pause, queues, resume, stats, top
from .run import run
from .show import show, why
from .system import doctor, health, routes, webhook_secret
from .tasks import list_tasks

taskqueue: Commands = Commands(
    "taskqueue", help="The task queue: tables, dispatcher, tasks, queues, schedules."
)
_TASKS = (add, list_tasks, show, why, requeue, retry, run_now, delete, prune)
_QUEUES = (queues, pause, resume, purge, configure, cron, stats, top)
_SYSTEM = (run, init_db, upgrade, check, adopt, health, doctor, routes, webhook_secret, rotate_keys)
for _command in (*_SYSTEM, *_TASKS, *_QUEUES):
    taskqueue.add_command(_command)
