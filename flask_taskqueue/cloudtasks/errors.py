"""The errors of this package, as the statuses and texts that Cloud Tasks' clients know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import (
    BadTaskStateError,
    BadTransactionStateError,
    InvalidTaskError,
    InvalidTaskRetryOptionsError,
    InvalidUrlError,
    QueueAlreadyExistsError,
    TaskAlreadyExistsError,
    TaskQueueError,
    TaskTooLargeError,
    TombstonedQueueError,
    TombstonedTaskError,
    TransientError,
    UnknownQueueError,
    UnknownTaskError,
)
from ..core.rpc.status import Code, RpcError
from ..runtime import Runtime
from .context import NO_QUEUE, NOT_FOUND
from .new_tasks import own_url

_EXISTS = "Requested entity already exists"
_QUEUE_EXISTS = "Queue already exists"
_QUEUE_GONE = "The queue cannot be created because a queue with this name existed too recently."
_TOMBSTONED = (
    "The task no longer exists, though a task with this name existed recently. The task either "
    "successfully completed or was deleted."
)
_CODES: tuple[tuple[type[TaskQueueError], Code], ...] = (
    (TaskAlreadyExistsError, Code.ALREADY_EXISTS),
    (TombstonedTaskError, Code.ALREADY_EXISTS),
    (InvalidTaskError, Code.INVALID_ARGUMENT),
    (InvalidTaskRetryOptionsError, Code.INVALID_ARGUMENT),
    (TombstonedQueueError, Code.FAILED_PRECONDITION),
    (QueueAlreadyExistsError, Code.ALREADY_EXISTS),
    (UnknownQueueError, Code.NOT_FOUND),
    (UnknownTaskError, Code.NOT_FOUND),
    (BadTaskStateError, Code.FAILED_PRECONDITION),
    (BadTransactionStateError, Code.FAILED_PRECONDITION),
    (TransientError, Code.UNAVAILABLE),
)
_WORDS: dict[type[TaskQueueError], str] = {
    TombstonedTaskError: "TOMBSTONED_TASK",
    TaskTooLargeError: "TASK_TOO_LARGE",
    UnknownQueueError: "UNKNOWN_QUEUE",
}
"""What App Engine's SDK looks for in a text, to raise its own exception of that name."""


@contextmanager
def translated(runtime: Runtime) -> Iterator[None]:
    """Raise `RpcError` for every `TaskQueueError` that is raised within."""
    try:
        yield
    except TaskQueueError as error:
        code = next(
            (code for kind, code in _CODES if isinstance(error, kind)), Code.FAILED_PRECONDITION
        )
        raise RpcError(code, _text(runtime, error)) from error


def _text(runtime: Runtime, error: TaskQueueError) -> str:
    if isinstance(error, TaskAlreadyExistsError):
        return _EXISTS
    if isinstance(error, UnknownTaskError):
        return NOT_FOUND
    if isinstance(error, QueueAlreadyExistsError):
        return _QUEUE_GONE if isinstance(error, TombstonedQueueError) else _QUEUE_EXISTS
    text = str(error)
    if isinstance(error, TombstonedTaskError):
        text = _TOMBSTONED
    elif isinstance(error, UnknownQueueError):
        text = NO_QUEUE
    elif isinstance(error, InvalidUrlError) and own_url(runtime) is None:
        if "TASKQUEUE_ALLOWED_HOSTS" in text:
            text += ", or set TASKQUEUE_BASE_URL if it is the app's own"
    word = _WORDS.get(type(error))
    return text if word is None else f"{text} (ExecutorServiceError::{word})"
