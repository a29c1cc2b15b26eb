"""The headers that tell a handler about its task."""

from __future__ import annotations

from .record import Record


def delivery_headers(record: Record) -> dict[str, str]:
    """App Engine's task headers under our prefix.

    The retry count is 0 at the first attempt and counts crashes too; the execution count counts
    the earlier attempts that got a reply. Previous response and retry reason are there on retries
    only; the response is 0 when there was none (a timeout, a lost connection, a crash).
    """
    headers = {
        "X-TaskQueue-QueueName": record.queue,
        "X-TaskQueue-TaskName": record.name or record.id,
        "X-TaskQueue-TaskRetryCount": str(record.attempts - 1),
        "X-TaskQueue-TaskExecutionCount": str(record.executions),
        "X-TaskQueue-TaskETA": str(record.eta / 1_000_000),
    }
    if record.attempts > 1:
        headers["X-TaskQueue-TaskPreviousResponse"] = str(record.last_status or 0)
        headers["X-TaskQueue-TaskRetryReason"] = record.last_reason or ""
    return headers
