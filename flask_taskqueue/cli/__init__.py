"""The commands: ``flask taskqueue …``."""

from __future__ import annotations

from . import added_queues as _added_queues  # noqa: F401 - adds its commands to queues
from .add import add
from .changes import delete, prune, purge, requeue, retry, run_now
from .circuits import circuits, close_circuit
from .cloudtasks import cloudtasks
from .cron import cron
from .database import adopt, check, init_db, rotate_keys, upgrade
from .options import Commands
from .queues import configure, pause, resume
from .run import run
from .show import show, why
from .stats import queues, stats, top
from .system import doctor, health, routes, webhook_secret
from .tasks import list_tasks

taskqueue: Commands = Commands(
    "taskqueue",
    help="The task queue: tables, dispatcher, tasks, queues, schedules.",
    sections={
        "Run": (
            (run, "Run dispatchers under a supervisor"),
            (doctor, "Check for what keeps tasks from running"),
            (health, "Check whether tasks are attempted in time"),
            (top, "Watch queues and dispatchers until Ctrl-C"),
            (stats, "Show totals of all queues"),
            (routes, "List the worker routes"),
            (cloudtasks, "Answer Cloud Tasks' clients by gRPC"),
        ),
        "Tasks": (
            (add, "Add a task"),
            (list_tasks, "List tasks, newest first"),
            (show, "Show a task and its attempts"),
            (why, "Say what a task waits for, or how it ended"),
            (run_now, "Run scheduled tasks now"),
            (requeue, "Schedule dead tasks again"),
            (delete, "Cancel tasks that have not ended"),
            (prune, "Forget finished tasks"),
            (retry, ""),
        ),
        "Queues and schedules": (
            (queues, "List, add, change and delete queues"),
            (pause, "Pause a queue in every process"),
            (resume, "Resume a queue"),
            (configure, "Change a queue's limits"),
            (purge, "Cancel every task of a queue"),
            (cron, "List, run, pause and resume schedules"),
            (circuits, "List receivers that keep failing"),
            (close_circuit, "Send to a failing receiver again"),
        ),
        "Tables and keys": (
            (init_db, "Create the tables where they are missing"),
            (upgrade, "Upgrade the tables to this version"),
            (check, "Check whether the tables fit this version"),
            (adopt, "Make this app the owner of the tables"),
            (rotate_keys, "Encrypt tasks with the newest key"),
            (webhook_secret, "Print the secret of a receiver of webhooks"),
        ),
    },
)
