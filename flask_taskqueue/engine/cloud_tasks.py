"""Cloud Tasks, as the engine of queues: its client, and what is asked of it for a task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ..core.retry import RetryOptions
from ..core.settings.app import Settings
from ..core.settings.queue import QueueSettings
from ..core.states import Record
from ..core.tasks.forwarded import name_there
from ..core.times import to_datetime

_PATIENCE = 20.0
"""The seconds that one call of Cloud Tasks may take."""
_SAID = 500


class NotTakenError(Exception):
    """Cloud Tasks will not take this task, however often it is asked."""


class UnavailableError(Exception):
    """Cloud Tasks cannot be asked now, or refuses for a reason that an operator can remove."""


class CloudTasksEngine:
    """Google's Cloud Tasks, which delivers the tasks of some queues.

    What goes there of a task is its path, its deadline, its time and its name: method, query,
    headers and body stay in the row, which the delivery runs. Raises `UnavailableError`, beside
    what the methods say.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None

    def create(self, record: Record) -> None:
        """Hand a task over; one that was handed over for this time before is there already.

        Raises `NotTakenError`.
        """
        api = _api()
        try:
            self._ask(
                lambda client: client.create_task(
                    parent=self.path(record.queue), task=self._task(record), timeout=_PATIENCE
                )
            )
        except api.Conflict as error:
            # Over REST every 409 is a Conflict; one of them asks to be tried again.
            if _status(error) == "ABORTED":
                raise UnavailableError(_said(error)) from error
        except api.BadRequest as error:
            if _status(error) == "FAILED_PRECONDITION":
                raise UnavailableError(_said(error)) from error
            raise NotTakenError(_said(error)) from error
        except api.NotFound as error:  # the queue is missing
            raise UnavailableError(_said(error)) from error

    def has(self, record: Record) -> bool:
        """Return whether Cloud Tasks has a task still."""
        try:
            self._ask(lambda client: client.get_task(name=self._name(record), timeout=_PATIENCE))
        except _api().NotFound:
            self._see_queue(record.queue)
            return False
        return True

    def _see_queue(self, queue: str) -> None:
        """Raise `UnavailableError` if the queue is not there, which says nothing of its tasks.

        It may be that the settings name another project.
        """
        api = _api()
        try:
            self._ask(lambda client: client.get_queue(name=self.path(queue), timeout=_PATIENCE))
        except api.NotFound as error:
            raise UnavailableError(_said(error)) from error

    def delete(self, record: Record) -> None:
        """Delete a task, if Cloud Tasks has it."""
        try:
            self._ask(lambda client: client.delete_task(name=self._name(record), timeout=_PATIENCE))
        except _api().NotFound:
            return

    def update(self, queue: QueueSettings) -> None:
        """Give a queue there, which is created if it is missing, the limits of its settings.

        It never gives up on a task: the app answers the last attempt with success, and records
        what it was.
        """
        limits: dict[str, Any] = {}
        if queue.rate is not None:
            limits["max_dispatches_per_second"] = queue.rate
        if queue.max_concurrent is not None:
            limits["max_concurrent_dispatches"] = queue.max_concurrent
        there = {
            "name": self.path(queue.name),
            "rate_limits": limits,
            "retry_config": _retry_config(queue.retry or self._settings.retry),
        }
        mask = {"paths": ["rate_limits", "retry_config"]}
        self._ask(
            lambda client: client.update_queue(queue=there, update_mask=mask, timeout=_PATIENCE)
        )

    def path(self, queue: str) -> str:
        """Return the resource name of a queue."""
        return f"{self._settings.cloudtasks_parent}/queues/{queue}"

    def _name(self, record: Record) -> str:
        name = name_there(record.id, record.forwarded_for or 0)
        return f"{self.path(record.queue)}/tasks/{name}"

    def _task(self, record: Record) -> dict[str, Any]:
        settings = self._settings
        base = settings.base_url or ""
        deadline = settings.deadline_of(settings.queues.get(record.queue), record.deadline)
        task: dict[str, Any] = {
            "name": self._name(record),
            "schedule_time": to_datetime(record.forwarded_for or 0),
            "dispatch_deadline": timedelta(seconds=deadline),
            "http_request": {
                "url": base + record.url.partition("?")[0],
                "http_method": "POST",
                "oidc_token": {
                    "service_account_email": settings.cloudtasks_service_account,
                    "audience": base,
                },
            },
        }
        if record.retry is not None:
            task["retry_config"] = _retry_config(RetryOptions.from_json(record.retry))
        return task

    def _ask(self, call: Callable[[Any], Any]) -> Any:
        """Call the client; what is not an answer about the task or queue asked for is an outage."""
        api = _api()
        try:
            if self._client is None:
                self._client = self._made()
            return call(self._client)
        except (api.Conflict, api.BadRequest, api.NotFound):
            raise
        except Exception as error:
            # Whatever a client raises, the task has to wait and the forwarder to go on. The app
            # may have a client of its own, and Google's raises more than it names: errors of
            # google-auth and requests, or an AttributeError for an error that a proxy writes.
            raise UnavailableError(_said(error)) from error

    def _made(self) -> Any:
        if self._settings.cloudtasks_client is not None:
            return self._settings.cloudtasks_client()
        from google.cloud.tasks_v2 import CloudTasksClient

        return CloudTasksClient()


def _api() -> Any:
    """Return Google's errors, imported only where an app has such a queue."""
    from google.api_core import exceptions

    return exceptions


def _retry_config(retry: RetryOptions) -> dict[str, Any]:
    return {
        "max_attempts": -1,
        "min_backoff": timedelta(seconds=retry.min_backoff_seconds),
        "max_backoff": timedelta(seconds=retry.max_backoff_seconds),
        "max_doublings": retry.max_doublings,
    }


def _status(error: Any) -> str:
    """Return the name of an error's status, over gRPC or over REST."""
    code = getattr(error, "grpc_status_code", None)
    response = getattr(error, "response", None)
    if response is not None and hasattr(response, "json"):
        try:
            return str(response.json()["error"]["status"])
        except (ValueError, KeyError, TypeError):
            return ""
    return "" if code is None else str(code.name)


def _said(error: BaseException) -> str:
    return f"Cloud Tasks: {type(error).__name__}: {error}"[:_SAID]
