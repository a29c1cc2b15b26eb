"""Everything that Flask-TaskQueue raises.

The names are App Engine's where App Engine had the case::

    TaskQueueError
    ├── ConfigurationError             a TASKQUEUE_ key is unknown or has a bad value
    ├── TablesMissingError             the queue's tables are not in the database
    │   └── TablesOutdatedError        they are of an earlier version
    ├── TablesTooNewError              they are of a later version, which needs its own dispatchers
    ├── UnknownQueueError              no such queue is configured, or was added
    ├── QueueAlreadyExistsError        add_queue() found one of that name
    │   └── TombstonedQueueError       one of that name was deleted lately
    ├── ConfiguredQueueError           the configuration makes the queue, so nothing else changes it
    ├── UnknownTaskError               no task has that id
    ├── UnknownBatchError              no batch has that id
    ├── UnknownScheduleError           no schedule has that name
    ├── InvalidScheduleError           a schedule's text cannot be read
    ├── WaitTimeoutError               task.wait() ended before the task did
    ├── TransientError                 the database could not be reached; try again
    ├── ResultTruncatedError           only the beginning of a result was kept
    ├── ResultNotJsonError             a result is no JSON, or JSON could not hold it
    ├── DecryptionError                what is stored is encrypted by a key that is not configured
    ├── BadTaskStateError              the task's state does not allow that
    ├── BadTransactionStateError       a transaction was needed, or was in the way
    ├── InvalidQueueNameError
    ├── InvalidTaskRetryOptionsError
    ├── InvalidTaskError               the arguments of add() do not make a task
    │   ├── InvalidTaskNameError
    │   ├── InvalidUrlError
    │   ├── InvalidEtaError
    │   ├── InvalidHeaderError
    │   ├── InvalidDeadlineError
    │   ├── InvalidQueueModeError      the queue is for tasks that are leased, or for those sent
    │   ├── InvalidKeyError            a unique, concurrency or serial key
    │   ├── TaskTooLargeError
    │   ├── TooManyTasksError          more than fit into one transaction
    │   ├── DuplicateTaskNameError     one name twice in a list
    │   ├── TaskAlreadyExistsError     the name belongs to a live task
    │   └── TombstonedTaskError        the name belonged to a task that has ended
    ├── Retry                          raised by a handler: try again
    └── PermanentFailure               raised by a handler: never try again
    DeadlineExceeded                   raised in a handler's thread at its deadline
"""

from __future__ import annotations

from datetime import timedelta

from .times import LONGEST

_LONGEST = 200


def shown(value: object) -> str:
    """Return a value's repr, cut if it is long.

    If it has none, as a whole number of very many digits, return its type.
    """
    try:
        text = repr(value)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return f"of type {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def text_of(error: BaseException) -> str:
    """Return an exception's text, or say that it has none because its ``str()`` raised."""
    try:
        return str(error)
    except Exception as raised:  # noqa: BLE001 - it is the app's code, and must not hide the error
        return f"(its text is not known: str() raised {type(raised).__name__})"


class TaskQueueError(Exception):
    """The base of every error of this package but `DeadlineExceeded`."""


class ConfigurationError(TaskQueueError, ValueError):
    """A ``TASKQUEUE_`` key is unknown, its value is unusable, or a file it names is malformed."""


class TablesMissingError(TaskQueueError):
    """The queue's tables are not in the database; the message says which command creates them."""


class TablesOutdatedError(TablesMissingError):
    """The queue's tables are of an earlier version of Flask-TaskQueue.

    ``flask taskqueue upgrade`` adds what is missing.
    """


class TablesTooNewError(TaskQueueError):
    """The queue's tables are of a later version of Flask-TaskQueue.

    Dispatchers of this version must not work with them.
    """


class UnknownQueueError(TaskQueueError, LookupError):
    """No queue with that name is configured or was added, or it was deleted."""


class QueueAlreadyExistsError(TaskQueueError):
    """There is a queue with that name already."""


class TombstonedQueueError(QueueAlreadyExistsError):
    """A queue with that name was deleted so lately that the name is not free again."""


class ConfiguredQueueError(TaskQueueError):
    """The queue is one of the configuration, which alone can change or remove it."""


class UnknownTaskError(TaskQueueError, LookupError):
    """No task has that id: it never existed, or was pruned."""


class UnknownBatchError(TaskQueueError, LookupError):
    """No batch has that id: it never existed, or was pruned."""


class UnknownScheduleError(TaskQueueError, LookupError):
    """No schedule has that name."""


class InvalidScheduleError(TaskQueueError, ValueError):
    """The text is neither App Engine's grammar nor a crontab line, or the time zone is unknown."""


class WaitTimeoutError(TaskQueueError, TimeoutError):
    """``task.wait(timeout)`` ended before the task did; the task itself goes on."""


class TransientError(TaskQueueError):
    """The database could not be reached or refused for now; try again.

    Nothing was stored, unless the message says that the answer to a commit was lost and that the
    outcome could not be found out within twenty seconds. Even then, a task with a ``name`` or
    ``unique_key`` can be added again without harm.
    """


class DecryptionError(TaskQueueError, ValueError):
    """A stored value was changed, or its key is not among ``TASKQUEUE_ENCRYPTION_KEYS``."""


class ResultTruncatedError(TaskQueueError, ValueError):
    """The reply was longer than ``TASKQUEUE_REPLY_EXCERPT``, so only its beginning was kept."""


class ResultNotJsonError(TaskQueueError, ValueError):
    """The reply is not JSON, or the task's function returned what JSON cannot hold."""


class BadTaskStateError(TaskQueueError):
    """The task's state does not allow what was asked, such as requeueing one that is not dead."""


class BadTransactionStateError(TaskQueueError):
    """There is no transaction where one is needed, or a commit was tried where none is allowed."""


class InvalidQueueNameError(TaskQueueError, ValueError):
    """A queue's name is 1 to 100 letters, digits and hyphens."""


class InvalidTaskRetryOptionsError(TaskQueueError, ValueError):
    """Retry options that contradict themselves, or negative ones."""


class InvalidTaskError(TaskQueueError, ValueError):
    """The arguments do not make a task. Nothing was stored."""


class InvalidTaskNameError(InvalidTaskError):
    """A task's name is 1 to 500 letters, digits, hyphens and underscores."""


class InvalidUrlError(InvalidTaskError):
    """The URL is malformed, unknown to the application or on a host that is not allowed."""


class InvalidEtaError(InvalidTaskError):
    """The eta is naive, or further away than ``TASKQUEUE_MAX_ETA``."""


class InvalidHeaderError(InvalidTaskError):
    """A header's name or value cannot be sent, or is reserved."""


class InvalidDeadlineError(InvalidTaskError):
    """A deadline is more than 0 seconds and at most 24 hours."""


class InvalidQueueModeError(InvalidTaskError):
    """A task to be sent was meant for a pull queue, or a push queue's tasks were to be leased."""


class InvalidKeyError(InvalidTaskError):
    """A key is 1 to 200 printable ASCII characters.

    A ``rate_key`` has at most 99, and its queue needs a ``rate_per_key``. ``concurrency_key``,
    ``serial_key`` and ``rate_key`` exclude each other.
    """


class TooManyTasksError(InvalidTaskError):
    """More tasks than one transaction takes (1,000)."""


class DuplicateTaskNameError(InvalidTaskError):
    """A list of tasks has the same name twice."""


class TaskTooLargeError(InvalidTaskError):
    """Method, URL, headers and body together exceed ``TASKQUEUE_MAX_BODY``."""


class TaskAlreadyExistsError(InvalidTaskError):
    """A live task of that queue already has the name."""


class TombstonedTaskError(InvalidTaskError):
    """A task of that queue had the name, has ended, and still blocks it."""


class Retry(TaskQueueError):
    """Raise it in a handler to have the task attempted again.

    ``after`` is the delay in seconds (or a timedelta) before the next attempt; without it the retry
    policy decides. It counts as a failed attempt, so the limits of the task's retry options apply.
    Raises `InvalidTaskRetryOptionsError` for a delay below 0 or above a hundred years, and for
    anything that is not a delay.
    """

    def __init__(
        self,
        reason: str = "the handler asked for a retry",
        *,
        after: float | timedelta | None = None,
    ) -> None:
        super().__init__(reason)
        number = after.total_seconds() if isinstance(after, timedelta) else after
        if number is not None and (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not 0 <= number <= LONGEST
        ):
            raise InvalidTaskRetryOptionsError(
                f"after is {shown(after)}; it must be seconds or a timedelta, 0 or more and "
                "at most a hundred years"
            )
        self.after = number


class PermanentFailure(TaskQueueError):
    """Raise it in a handler when trying again is pointless: the task fails permanently.

    The message is recorded as the reason.
    """


class DeadlineExceeded(BaseException):
    """Raised in a handler's thread when its deadline has passed.

    Not an ``Exception``, so that a broad ``except Exception`` in a handler does not swallow it
    (App Engine's DeadlineExceededError was a BaseException for the same reason). Catch it to
    clean up, then let it go. It cannot interrupt a call that is blocked outside Python.
    """
