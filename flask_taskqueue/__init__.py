"""Flask-TaskQueue: App Engine's push task queue for any Flask application."""

from __future__ import annotations

from ._version import __version__
from .core.config import QueueSettings, Settings
from .core.errors import (
    BadTaskStateError,
    BadTransactionStateError,
    ConfigurationError,
    DeadlineExceeded,
    InvalidDeadlineError,
    InvalidEtaError,
    InvalidHeaderError,
    InvalidQueueNameError,
    InvalidTaskError,
    InvalidTaskNameError,
    InvalidTaskRetryOptionsError,
    InvalidUrlError,
    PermanentFailure,
    Retry,
    TablesMissingError,
    TaskAlreadyExistsError,
    TaskQueueError,
    TaskTooLargeError,
    TombstonedTaskError,
    TransientError,
    UnknownQueueError,
    UnknownTaskError,
    WaitTimeoutError,
)
from .core.retry import RetryOptions
from .core.signals import (
    attempt_finished,
    dispatcher_started,
    dispatcher_stopped,
    task_added,
    task_dead,
    task_succeeded,
)
from .core.states import State
from .core.task import Task
from .extension import TaskQueue
from .web.current import current_task

__all__ = [
    "BadTaskStateError",
    "BadTransactionStateError",
    "ConfigurationError",
    "DeadlineExceeded",
    "InvalidDeadlineError",
    "InvalidEtaError",
    "InvalidHeaderError",
    "InvalidQueueNameError",
    "InvalidTaskError",
    "InvalidTaskNameError",
    "InvalidTaskRetryOptionsError",
    "InvalidUrlError",
    "PermanentFailure",
    "QueueSettings",
    "Retry",
    "RetryOptions",
    "Settings",
    "State",
    "TablesMissingError",
    "Task",
    "TaskAlreadyExistsError",
    "TaskQueue",
    "TaskQueueError",
    "TaskTooLargeError",
    "TombstonedTaskError",
    "TransientError",
    "UnknownQueueError",
    "UnknownTaskError",
    "WaitTimeoutError",
    "__version__",
    "attempt_finished",
    "current_task",
    "dispatcher_started",
    "dispatcher_stopped",
    "task_added",
    "task_dead",
    "task_succeeded",
]
