"""Resource names, such as ``projects/p/locations/l/queues/q/tasks/t``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import shown
from .status import invalid

_PROJECT = r"[A-Za-z0-9.:_-]{1,100}"
_LOCATION = r"[A-Za-z0-9_-]{1,100}"
_QUEUE = r"[A-Za-z0-9-]{1,100}"
_TASK = r"[A-Za-z0-9_-]{1,500}"
_PARENT = rf"(projects/{_PROJECT}/locations/{_LOCATION})"
_PROJECT_NAME = re.compile(rf"(projects/{_PROJECT})", re.ASCII)
_LOCATION_NAME = re.compile(_PARENT, re.ASCII)
_QUEUE_NAME = re.compile(rf"{_PARENT}/queues/({_QUEUE})", re.ASCII)
_TASK_NAME = re.compile(rf"{_PARENT}/queues/({_QUEUE})/tasks/({_TASK})", re.ASCII)
_NAMES = {
    "project": _PROJECT_NAME.fullmatch,
    "location": _LOCATION_NAME.fullmatch,
    "queue": _QUEUE_NAME.fullmatch,
    "task": _TASK_NAME.fullmatch,
}
_FORMS = {
    "project": "projects/PROJECT_ID",
    "location": "projects/PROJECT_ID/locations/LOCATION_ID",
    "queue": "projects/PROJECT_ID/locations/LOCATION_ID/queues/QUEUE_ID",
    "task": "projects/PROJECT_ID/locations/LOCATION_ID/queues/QUEUE_ID/tasks/TASK_ID",
}


@dataclass(frozen=True, slots=True)
class QueueName:
    """The name of a queue."""

    parent: str
    queue: str

    def __str__(self) -> str:
        return f"{self.parent}/queues/{self.queue}"

    def task(self, task: str) -> str:
        """Return the name of a task of the queue."""
        return f"{self}/tasks/{task}"


@dataclass(frozen=True, slots=True)
class TaskName:
    """The name of a task."""

    queue: QueueName
    task: str

    def __str__(self) -> str:
        return self.queue.task(self.task)


def project_name(name: str, what: str = "name") -> str:
    """Return the name of a project. Raises `RpcError`."""
    return _match("project", name, what)[1]


def location_name(name: str, what: str = "parent") -> str:
    """Return the name of a location. Raises `RpcError`."""
    return _match("location", name, what)[1]


def queue_name(name: str, what: str = "name") -> QueueName:
    """Return the name of a queue. Raises `RpcError`.

    >>> queue_name("projects/p/locations/l/queues/mail").queue
    'mail'
    """
    match = _match("queue", name, what)
    return QueueName(match[1], match[2])


def task_name(name: str, what: str = "name") -> TaskName:
    """Return the name of a task. Raises `RpcError`.

    >>> task_name("projects/p/locations/l/queues/mail/tasks/one").task
    'one'
    """
    match = _match("task", name, what)
    return TaskName(QueueName(match[1], match[2]), match[3])


def _match(kind: str, name: str, what: str) -> re.Match[str]:
    match = _NAMES[kind](name)
    if match is None:
        raise invalid(f"{what} is {shown(name)}; it must be of the form {_FORMS[kind]}.")
    return match
