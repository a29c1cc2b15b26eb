"""Flask-TaskQueue: App Engine's push task queue for any Flask application."""

from __future__ import annotations

from ._version import __version__
from .api.adding import AddedMany
from .api.queue import Queue
from .api.schedules import ScheduleEntry
from .core.arguments.placeholder import REPLY
from .core.diagnosis.why import Why
from .core.dispatchers import DispatcherInfo
from .core.errors import (
    BadTaskStateError,
    BadTransactionStateError,
    ConfigurationError,
    DeadlineExceeded,
    DecryptionError,
    DuplicateTaskNameError,
    InvalidDeadlineError,
    InvalidEtaError,
    InvalidHeaderError,
    InvalidKeyError,
    InvalidQueueNameError,
    InvalidScheduleError,
    InvalidTaskError,
    InvalidTaskNameError,
    InvalidTaskRetryOptionsError,
    InvalidUrlError,
    PermanentFailure,
    ResultNotJsonError,
    ResultTruncatedError,
    Retry,
    TablesMissingError,
    TablesOutdatedError,
    TablesTooNewError,
    TaskAlreadyExistsError,
    TaskQueueError,
    TaskTooLargeError,
    TombstonedTaskError,
    TooManyTasksError,
    TransientError,
    UnknownBatchError,
    UnknownQueueError,
    UnknownScheduleError,
    UnknownTaskError,
    WaitTimeoutError,
)
from .core.queues.statistics import QueueStatistics
from .core.retry import RetryOptions
from .core.schedules.schedule import Schedule
from .core.settings.app import Settings
from .core.settings.queue import LimitOptions, QueueSettings
from .core.signals import (
    attempt_finished,
    attempt_started,
    dispatcher_started,
    dispatcher_stopped,
    queue_paused,
    queue_resumed,
    schedule_fired,
    task_added,
    task_dead,
    task_deleted,
    task_requeued,
    task_succeeded,
    tasks_changed,
)
from .core.states import State
from .core.tasks.cloudevents import CloudEvent
from .core.tasks.spec import HandlerOptions, ScheduleOptions, SpecLike, TaskOptions, TaskSpec
from .core.tasks.task import Batch, Progress, Result, Task
from .extension import TaskQueue
from .migrations import include_object
from .web.current_task import current_task

__all__ = [
    "REPLY",
    "AddedMany",
    "BadTaskStateError",
    "BadTransactionStateError",
    "Batch",
    "CloudEvent",
    "ConfigurationError",
    "DeadlineExceeded",
    "DecryptionError",
    "DispatcherInfo",
    "DuplicateTaskNameError",
    "HandlerOptions",
    "InvalidDeadlineError",
    "InvalidEtaError",
    "InvalidHeaderError",
    "InvalidKeyError",
    "InvalidQueueNameError",
    "InvalidScheduleError",
    "InvalidTaskError",
    "InvalidTaskNameError",
    "InvalidTaskRetryOptionsError",
    "InvalidUrlError",
    "LimitOptions",
    "PermanentFailure",
    "Progress",
    "Queue",
    "QueueSettings",
    "QueueStatistics",
    "Result",
    "ResultNotJsonError",
    "ResultTruncatedError",
    "Retry",
    "RetryOptions",
    "Schedule",
    "ScheduleEntry",
    "ScheduleOptions",
    "Settings",
    "SpecLike",
    "State",
    "TablesMissingError",
    "TablesOutdatedError",
    "TablesTooNewError",
    "Task",
    "TaskAlreadyExistsError",
    "TaskOptions",
    "TaskQueue",
    "TaskQueueError",
    "TaskSpec",
    "TaskTooLargeError",
    "TombstonedTaskError",
    "TooManyTasksError",
    "TransientError",
    "UnknownBatchError",
    "UnknownQueueError",
    "UnknownScheduleError",
    "UnknownTaskError",
    "WaitTimeoutError",
    "Why",
    "__version__",
    "attempt_finished",
    "attempt_started",
    "current_task",
    "dispatcher_started",
    "dispatcher_stopped",
    "include_object",
    "queue_paused",
    "queue_resumed",
    "schedule_fired",
    "task_added",
    "task_dead",
    "task_deleted",
    "task_requeued",
    "task_succeeded",
    "tasks_changed",
]
