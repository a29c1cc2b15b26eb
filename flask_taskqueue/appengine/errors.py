"""The exceptions of App Engine's taskqueue module, with the bases that they have there.

What code catches stays caught: ``except taskqueue.Error`` gets whatever goes wrong with the queue.
The error of this package that stands behind one is its ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..api.pulls import LeaseExpiredError, PausedError
from ..core import errors as core


class Error(Exception):
    """The base of every exception of the module."""


class UnknownQueueError(Error):
    """No queue with that name is configured."""


class TransientError(Error):
    """The database could not be reached; try again."""


class InternalError(Error):
    """The queue cannot work as it is set up: its tables are missing, for example."""


class InvalidTaskError(Error):
    """The arguments do not make a task."""


class InvalidTaskNameError(InvalidTaskError):
    """A task's name is 1 to 500 letters, digits, hyphens and underscores."""


class TaskTooLargeError(InvalidTaskError):
    """A task is larger than its kind may be."""


class TransactionalRequestTooLargeError(TaskTooLargeError):
    """The tasks of one transactional call are more than 1 MiB together."""


class TaskAlreadyExistsError(InvalidTaskError):
    """A task of that queue that has not ended has the name."""


class TombstonedTaskError(InvalidTaskError):
    """A task of that queue had the name, has ended, and still blocks it."""


class InvalidUrlError(InvalidTaskError):
    """The URL is no path, or too long."""


class InvalidEtaError(InvalidTaskError):
    """The eta is more than 30 days away."""


class BadTaskStateError(Error):
    """The task was added or deleted already, or lacks what the call needs."""


class InvalidQueueError(Error):
    """The queue cannot be used."""


class InvalidQueueNameError(InvalidQueueError):
    """A queue's name is 1 to 100 letters, digits and hyphens."""


class PermissionDeniedError(Error):
    """Raised by App Engine only."""


class DuplicateTaskNameError(Error):
    """A call has the same name twice."""


class TooManyTasksError(Error):
    """A call has more tasks than it may."""


class DatastoreError(Error):
    """Raised by App Engine only."""


class BadTransactionStateError(Error):
    """There is no transaction where one is needed, or one is in the way."""


BadTransactionState = BadTransactionStateError


class InvalidTaskRetryOptionsError(Error):
    """Retry options that are negative or contradict each other."""


class InvalidLeaseTimeError(Error):
    """A lease is 0 to 604,800 seconds."""


class InvalidMaxTasksError(Error):
    """A call leases 1 to 1,000 tasks."""


class InvalidDeadlineError(Error):
    """The deadline of a call is more than 0 seconds."""


class InvalidQueueModeError(Error):
    """The call is for queues of the other mode, push or pull."""


class TaskLeaseExpiredError(Error):
    """The lease has run out, or was changed by someone else."""


class QueuePausedError(Error):
    """The queue is paused."""


class InvalidTagError(Error):
    """A tag has at most 500 characters."""


class InvalidDispatchDeadlineError(Error):
    """The deadline of an attempt is 15 seconds to 24 hours."""


_COUNTERPARTS: Mapping[type[core.TaskQueueError], type[Error]] = {
    core.UnknownQueueError: UnknownQueueError,
    core.TransientError: TransientError,
    core.InvalidQueueNameError: InvalidQueueNameError,
    core.BadTaskStateError: BadTaskStateError,
    LeaseExpiredError: TaskLeaseExpiredError,
    PausedError: QueuePausedError,
    core.UnknownTaskError: Error,
    core.InvalidQueueModeError: InvalidQueueModeError,
    core.BadTransactionStateError: BadTransactionStateError,
    core.InvalidTaskRetryOptionsError: InvalidTaskRetryOptionsError,
    core.InvalidTaskNameError: InvalidTaskNameError,
    core.InvalidUrlError: InvalidUrlError,
    core.InvalidEtaError: InvalidEtaError,
    core.InvalidDeadlineError: InvalidDispatchDeadlineError,
    core.TaskTooLargeError: TaskTooLargeError,
    core.TooManyTasksError: TooManyTasksError,
    core.DuplicateTaskNameError: DuplicateTaskNameError,
    core.TaskAlreadyExistsError: TaskAlreadyExistsError,
    core.TombstonedTaskError: TombstonedTaskError,
    core.InvalidTaskError: InvalidTaskError,
    core.TaskQueueError: InternalError,
}


@contextmanager
def translated() -> Iterator[None]:
    """Raise App Engine's counterpart of whatever error of this package is raised within."""
    try:
        yield
    except core.TaskQueueError as error:
        kind = next(_COUNTERPARTS[base] for base in type(error).__mro__ if base in _COUNTERPARTS)
        raise kind(str(error)) from error
