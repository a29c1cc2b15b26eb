"""The words on the pages, each with what it means."""

from __future__ import annotations

WORDS = {
    "due": "May be taken now; waits for a free slot of a dispatcher, or for its queue to let it through.",
    "running": "A dispatcher holds a lease on it and makes the request.",
    "lost": "Its lease ran out: the process that ran it died, or was cut off from the database. Another one takes it over.",
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

REASONS = {
    "failure": ("failed", "The reply was no 2xx."),
    "permanent": ("refused for good", "The handler raised PermanentFailure, or the request could not be made at all."),
    "timeout": ("timeout", "No reply came within the deadline."),
    "connection": ("no connection", "No connection could be made, or it broke before the reply was whole."),
    "tls": ("not trusted", "The certificate of the server was not accepted."),
    "crash": ("process died", "The process died while the attempt ran, or was cut off from the database until its lease ran out."),
    "late": (
        "too late",
        "It ended after its lease was lost, to another attempt or because the task was deleted: it changed nothing.",
    ),
    "withdrawn": ("taken away", "The task was deleted, or given back at a stop, while its handler ran."),
    "refused": ("not sent", "The host is not one that tasks may go to."),
    "expired": ("expired", "It had not begun when it expired."),
    "replaced": ("replaced", "Another task was added in its place."),
}
"""What an attempt came to, in words, and what happened then."""
