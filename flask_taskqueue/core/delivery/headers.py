"""The headers that tell a handler about its task."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..errors import InvalidTaskError
from ..record import Record

FAMILIES = ("taskqueue", "appengine", "cloudtasks")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,500}", re.ASCII)
_SCHEDULE = re.compile(r"[\x20-\x7e]{1,100}", re.ASCII)


def delivery_headers(record: Record, families: Collection[str] = FAMILIES[:1]) -> dict[str, str]:
    """Return the task headers of App Engine and Cloud Tasks, under each of the prefixes asked for.

    The retry count is 0 at the first attempt and includes crashes. The execution count is the
    number of earlier attempts that received a reply; Cloud Tasks' does not include replies of 5xx.
    Previous response and retry reason are sent on retries only. If there was no response (a
    timeout, a lost connection, a crash), the previous response is 0, and 504 for Cloud Tasks; the
    retry reason is ours, App Engine's wording, or empty.
    """
    headers: dict[str, str] = {}
    if "taskqueue" in families:
        headers |= _family("X-TaskQueue", record, record.executions, "0", record.last_reason or "")
        batch = record.callback_of or record.batch_id
        headers |= {"X-TaskQueue-BatchId": batch} if batch else {}
        headers |= {"X-TaskQueue-Schedule": record.schedule} if record.schedule else {}
    if "appengine" in families:
        reason = "App Error" if record.last_status else "Instance Unavailable"
        headers |= _family("X-AppEngine", record, record.executions, "0", reason)
        headers |= {"X-AppEngine-Cron": "true"} if record.schedule else {}
    if "cloudtasks" in families:
        headers |= _family("X-CloudTasks", record, record.answered, "504", "")
    return headers


def check_words(record: Record) -> None:
    """Check that the values for these headers, and for signatures, are such as ``add()`` stores.

    A row may have been written by hand. Raises `InvalidTaskError`.
    """
    for word in (
        record.id,
        record.queue,
        record.name,
        record.batch_id,
        record.callback_of,
        record.last_reason,
    ):
        if word is not None and not _WORD.fullmatch(word):
            raise InvalidTaskError(
                "id, queue, name, batch and reason are letters, digits, hyphens and underscores"
            )
    if record.schedule is not None and not _SCHEDULE.fullmatch(record.schedule):
        raise InvalidTaskError("the name of a schedule is printable ASCII")


def proof_headers(record: Record) -> dict[str, str]:
    """Return the headers with which every delivery to the app's own routes is signed."""
    return {
        "X-TaskQueue-QueueName": record.queue,
        "X-TaskQueue-TaskRetryCount": str(record.attempts - 1),
    }


def _family(
    prefix: str, record: Record, executions: int, no_response: str, reason: str
) -> dict[str, str]:
    headers = {
        f"{prefix}-QueueName": record.queue,
        f"{prefix}-TaskName": record.name or record.id,
        f"{prefix}-TaskRetryCount": str(record.attempts - 1),
        f"{prefix}-TaskExecutionCount": str(executions),
        f"{prefix}-TaskETA": f"{record.eta / 1_000_000:.6f}",
    }
    if record.attempts > 1:
        headers[f"{prefix}-TaskPreviousResponse"] = str(record.last_status or no_response)
        headers[f"{prefix}-TaskRetryReason"] = reason
    return headers
