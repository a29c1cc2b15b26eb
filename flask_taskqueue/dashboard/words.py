"""The words on the pages, each with what it means."""

from __future__ import annotations

WORDS = {
    "due": "May be taken now; waits for a free slot of a dispatcher, or for its queue to let it through.",
    "running": "A dispatcher holds a lease on it and makes the request.",
    "scheduled": "Waits for its eta, the earliest time asked for.",
    "retrying": "Failed at least once and waits for its next attempt.",
    "waiting": "Waits for its key: other tasks with the same key come first.",
    "succeeded": "Got a 2xx. Forgotten after TASKQUEUE_KEEP_SUCCEEDED.",
    "dead": "Gave up: out of attempts, too old, refused for good, or its process kept dying. Kept, and can be requeued.",
    "cancelled": "Deleted, replaced or expired before it ended.",
    "attempt": "One delivery of a task: one request. Counted from 1.",
    "failed": "Said of an attempt: no 2xx. The task is tried again, unless it is dead.",
    "oldest due": "How long the task that has been due longest has waited.",
    "p95": "95 of 100 attempts of the latest 1,000 tasks to succeed took no longer.",
    "rate": "How many tasks of the queue may start per second (s), minute (m), hour (h) or day (d).",
    "lease": "The right to attempt a task, for 30 seconds unless it is renewed.",
}
