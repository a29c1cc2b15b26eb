"""The commands: ``flask taskqueue …``."""

from __future__ import annotations

from .add import add
from .changes import delete, retry, run_now
from .cron import cron
from .database import adopt, check, init_db, upgrade
from .doctor import doctor
from .exits import Commands
from .find import list_tasks
from .health import health
from .keys import rotate_keys
from .prune import prune
from .purge import purge
from .queues import configure, pause, queues, resume
from .routes import routes
from .run import run
from .secret import webhook_secret
from .show import show
from .stats import stats, top
from .why import why

taskqueue = Commands("taskqueue", help="The task queue: tables, dispatcher, tasks, queues, schedules.")
_TASKS = (add, list_tasks, show, why, retry, run_now, delete, prune)
_QUEUES = (queues, pause, resume, purge, configure, cron, stats, top)
_SYSTEM = (run, init_db, upgrade, check, adopt, health, doctor, routes, webhook_secret, rotate_keys)
for command in (*_SYSTEM, *_TASKS, *_QUEUES):
    taskqueue.add_command(command)
