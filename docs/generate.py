"""Parts of pages that are made from the code: ``python docs/generate.py`` writes them anew, and
a test fails where they disagree.
"""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from flask_taskqueue import ConfigurationError, RetryOptions, Settings
from flask_taskqueue.store.database import tables

LAWS = {
    "`RetryOptions()`": RetryOptions(),
    "10 s, at most 300 s, 3 doublings": RetryOptions(
        min_backoff_seconds=10, max_backoff_seconds=300, max_doublings=3
    ),
    "10 s, at most 200 s, no doublings": RetryOptions(
        min_backoff_seconds=10, max_backoff_seconds=200, max_doublings=0
    ),
    "1 s, 5 doublings": RetryOptions(min_backoff_seconds=1, max_doublings=5),
}
GROUPS = {
    "Choose where tasks are stored": "database_uri bind_key table_prefix create_tables",
    "Run dispatchers": "dispatcher concurrency grace_period lease poll_interval notify",
    "Call the app over HTTP": "transport base_url connect_timeout",
    "Set queues, retries and schedules": "queues retry deadline queue_yaml cron_yaml services "
    "deferred deferred_modules",
    "Limit what a task may hold, and for how long it is kept": "max_body max_eta reply_excerpt "
    "traceback_excerpt keep_succeeded keep_dead keep_attempts webhook_ttl",
    "Secure tasks": "secret encryption_keys redact targets allowed_hosts target_ports headers",
    "Open the dashboard": "dashboard dashboard_url_prefix dashboard_title dashboard_username "
    "dashboard_password dashboard_access dashboard_user dashboard_read_only dashboard_page_size "
    "dashboard_poll dashboard_trusted_origins",
    "Show visitors how far a task has come": "progress progress_url",
    "Answer Cloud Tasks' clients": "api api_url_prefix api_token api_access api_parent oidc_key",
    "Have Cloud Tasks deliver": "cloudtasks_parent cloudtasks_service_account cloudtasks_client "
    "cloudtasks_certs_url",
    "Monitor": "metrics metrics_url metrics_token metrics_access health health_url "
    "health_max_latency trace_propagation",
}
"""The headings of the settings, each with the settings below it."""

EXAMPLES = {
    "database_uri": '"postgresql+psycopg://guests:secret@db.example.com/tasks"',
    "bind_key": '"tasks"',
    "table_prefix": '"shop_tasks_"',
    "create_tables": "False",
    "dispatcher": '"off"',
    "concurrency": "16",
    "grace_period": "60",
    "lease": '"1m"',
    "poll_interval": "0.5",
    "notify": "False",
    "transport": '"http"',
    "base_url": '"http://127.0.0.1:8000"',
    "connect_timeout": "2",
    "queues": '{"mail": {"rate": "20/m"}}',
    "retry": '{"task_retry_limit": 5, "min_backoff_seconds": 10}',
    "deadline": '"2m"',
    "queue_yaml": '"queue.yaml"',
    "cron_yaml": '"cron.yaml"',
    "deferred": '"pickle"',
    "deferred_modules": '["mailer", "shared.jobs"]',
    "services": '{"worker": "https://worker.example.com", "v2": None}',
    "max_body": "1_000_000",
    "max_eta": '"90d"',
    "reply_excerpt": "1024",
    "traceback_excerpt": "0",
    "keep_succeeded": '"7d"',
    "keep_dead": 'float("inf")',
    "keep_attempts": "5",
    "webhook_ttl": '"30d"',
    "secret": '"a long random text of its own"',
    "encryption_keys": '["a-key-that-Fernet-generate_key-made-for-you="]',
    "redact": '["authorization", "password", "iban"]',
    "targets": '"public"',
    "allowed_hosts": '["api.example.com", "10.0.0.5:8080"]',
    "target_ports": "[443]",
    "headers": '["taskqueue", "appengine"]',
    "dashboard": "True",
    "dashboard_url_prefix": '"/admin/tasks"',
    "dashboard_title": '"Tasks of the shop"',
    "dashboard_username": '"operator"',
    "dashboard_password": '"a long random password"',
    "dashboard_access": 'lambda: "read" if session.get("is_staff") else None',
    "dashboard_user": 'lambda: session.get("user_name")',
    "dashboard_read_only": "True",
    "dashboard_page_size": "100",
    "dashboard_poll": "30",
    "dashboard_trusted_origins": '["https://admin.example.com"]',
    "progress": "True",
    "progress_url": '"/progress"',
    "api": "True",
    "api_url_prefix": '""',
    "api_token": '"a-long-random-text"',
    "api_access": 'lambda: bool(session.get("is_staff"))',
    "oidc_key": '"-----BEGIN PRIVATE KEY-----…"',
    "api_parent": '"projects/guests/locations/europe-west1"',
    "cloudtasks_parent": '"projects/my-shop/locations/europe-west1"',
    "cloudtasks_service_account": '"tasks@my-shop.iam.gserviceaccount.com"',
    "cloudtasks_client": 'lambda: tasks_v2.CloudTasksClient(transport="rest")',
    "cloudtasks_certs_url": '"http://127.0.0.1:8123/certs"',
    "metrics": "True",
    "metrics_url": '"/metrics"',
    "metrics_token": '"a-long-random-text"',
    "metrics_access": 'lambda: bool(session.get("is_staff"))',
    "health": "False",
    "health_url": '"/health"',
    "health_max_latency": '"10m"',
    "trace_propagation": "False",
}
"""A value of each setting other than its default, as it stands in a program."""

DAY = 86_400
MEANINGS = {
    "task.priority": "from -9 to 9, the higher the sooner",
    "task.target": "another base URL than the application's",
    "task.headers": "as JSON",
    "task.given_key": "the unique_key it was added with, which it takes again when it is requeued",
    "task.for_worker": "1 if its URL was a worker's when it was added, so that no "
    "other view can end it as done",
    "task.surface": "the API of another product that it was added by, as JSON",
    "task.tag": "of a task in a pull queue: tasks can be leased by it",
    "task.forced_at": "when somebody asked for an attempt even if its queue is paused or full; "
    "null once that has ended",
    "task.forwarded_for": "the time for which it was handed over to the engine of its queue; its "
    "name there contains it",
    "task.eta": "the earliest time asked for; never changed",
    "task.due_at": "when it may next be taken; null once it has ended, or "
    "while it waits for its key, or for a token of its rate key",
    "task.first_tried_at": "when its first attempt began",
    "task.started_at": "when its latest attempt began",
    "task.finished_at": "when it succeeded, died or was cancelled",
    "task.deadline": "seconds; null is its queue's",
    "task.retry": "its retry policy as JSON; null is its queue's",
    "task.lock_key": "its serial or concurrency key, with `s:` or `c:` before it, or its "
    "rate key, with `r:`, its queue and `:` before it",
    "task.lock_limit": "the limit of the concurrency key",
    "task.follow_up": "what is added when it succeeds, as JSON",
    "task.batch_id": "the batch whose task it is",
    "task.callback_of": "the batch whose callback it is",
    "task.schedule": "the schedule that added it",
    "task.attempts": "deliveries that were started",
    "task.executions": "attempts that got a reply",
    "task.answered": "attempts that got a reply other than 5xx",
    "task.crashes": "attempts whose process died",
    "task.pardons": "crashes that are not held against it",
    "task.lease_id": "the right to attempt it, made anew by each claim",
    "task.held_by": "the dispatcher that holds the lease",
    "task.last_reason": "what the last failed attempt came to: `failure`, "
    "`timeout`, `connection`, `tls`, "
    "`crash`, `permanent`",
    "queue.settings": "of a queue made at run time: retry policy, deadline and the like, as JSON",
    "queue.origin": "what made the queue at run time; null for a configured one",
    "queue.mode": "`pull` if no dispatcher takes its tasks; null otherwise",
    "queue.purged_at": "when its last purge began",
    "queue.deleted_at": "when it was deleted; its name is blocked",
    "attempt.reason": "what it came to",
    "attempt.reply_headers": "as JSON; with `:truncated` if only the "
    "beginning of the body was kept",
    "attempt.reply_body": "at most `TASKQUEUE_REPLY_EXCERPT` bytes",
    "attempt.traceback": "of what the handler raised, at most "
    "`TASKQUEUE_TRACEBACK_EXCERPT` characters; over HTTP it is in `taskqueue_traceback`",
    "traceback.traceback": "as in `taskqueue_attempt`",
    "renewal.until": "until when a lease holds although `due_at` of its task has passed",
    "slowdown.target": "host and port, or `/` and a queue for the application's own routes in it",
    "slowdown.slowed_at": "when it first asked",
    "slowdown.asked_at": "when it last asked",
    "slowdown.retry_after": "what it asked for, in seconds",
    "slowdown.rate": "tasks per second when it last asked; doubles every half minute",
    "slowdown.empty_at": "when what it may be given was used up",
    "slowdown.over_at": "when it is as fast as ever",
    "slowdown.failures": "how many attempts in a row have failed",
    "slowdown.failing_since": "when the first of them was recorded",
    "slowdown.failed_at": "when the last of them was recorded",
    "slowdown.failure": "the last failure: a status, or the reason without a reply",
    "slowdown.opened_at": "when its circuit opened; null while it is closed",
    "slowdown.probe_at": "when the next probe may be sent; while it is closed, when it last "
    "answered after failures",
    "slowdown.probes": "how many probes in a row have failed",
    "slowdown.probe_id": "the task that was sent as the last probe",
    "slowdown.probe_took": "how long that took, in microseconds",
    "schedule.next_at": "the next fire time",
    "schedule.runs": "the tasks it added that have not ended, and the last twenty, by their ids",
    "schedule.fired_at": "the last one that was seen to",
    "dispatcher.asked": "how often it was asked to begin nothing more of paused queues",
    "dispatcher.answered": "up to which of these it has answered that it does not",
    "dispatcher.replaced": "how many processes were replaced in its place before, "
    "because of `--max-tasks` or "
    "`--max-memory`",
    "dispatcher.replaced_for": "what said so of the last",
    "dispatcher.fingerprint": "of its application's newest secret",
    "schema.application": "whose the tables are, by name",
    "schema.fingerprints": "of its secrets, newest first",
}
BEGIN, END = "<!-- made by docs/generate.py -->", "<!-- until here -->"
RETRIES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20)


def parts() -> dict[str, str]:
    """Each part, by the page that it is in."""
    return {"configuration": settings(), "retry": retry_table(), "tables": schema()}


def renewed(page: str, part: str) -> str:
    """The text of a page with its part, between the two marks, as it is to be."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN!r} or {END!r}")
    return f"{before}{begin}\n\n{part}\n{end}{after}"


def settings() -> str:
    """Each setting from where it is declared: its meaning, type, default and an example."""
    known = {one.name: one for one in fields(Settings)}
    lines = []
    for heading, names in GROUPS.items():
        lines += [f"## {heading}", ""]
        for name in names.split():
            lines += _setting(known[name])
    return _lines(lines[:-1])


def _setting(one: Field[Any]) -> list[str]:
    key = f"TASKQUEUE_{one.name.upper()}"
    default = one.default_factory() if one.default_factory is not MISSING else one.default
    shown = {"queues": "only `default`", "retry": "App Engine's, 30 days"}.get(
        one.name
    ) or _default(default)
    return [
        f"### `{key}`",
        "",
        one.metadata["doc"].replace("``", "`"),
        "",
        f"*Type:* {kind(one)}. *Default:* {shown}.",
        "",
        "```python",
        f"{key} = {EXAMPLES[one.name]}",
        "```",
        "",
    ]


def kind(one: Field[Any]) -> str:
    """What a setting must be, in the words with which it refuses what it is not."""
    try:
        one.metadata["check"](one.name, -1)
    except ConfigurationError as error:
        wanted = re.split(r",? such as |, without |; ", str(error).partition("must be ")[2])[0]
    wanted = wanted.replace(" seconds upwards", " to inf seconds")
    duration = re.fullmatch(r"a duration from (\S+) to (\S+) seconds", wanted)
    if duration is None:
        return re.sub(r"'[^']+'", lambda found: f"`{found[0]}`".replace("'", '"'), wanted)
    low, high = map(float, duration.groups())
    limits = f"at least {_duration(low)}" if low else ""
    limits += f"{' and ' if low else ''}at most {_duration(high)}" if math.isfinite(high) else ""
    return f"a duration{', ' if limits else ''}{limits}"


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(_default(one) for one in value) or "none"
    if isinstance(value, float):
        return f"{value:.9g} s ({_duration(value)})" if value >= 60 else f"{value:g} s"
    return (
        f'`"{value}"`' if isinstance(value, str) else "not set" if value is None else f"`{value}`"
    )


def retry_table() -> str:
    """The waits before retries under a few laws."""
    rows = ["| Wait before retry | " + " | ".join(LAWS) + " |", "|---" * (len(LAWS) + 1) + "|"]
    for retry in RETRIES:
        rows.append(
            f"| {retry} | "
            + " | ".join(_duration(law.backoff(retry).total_seconds()) for law in LAWS.values())
            + " |"
        )
    return _lines(rows)


def schema() -> str:
    """Each table: what its docstring says, its columns and its indexes."""
    found = tables.Tables.join(sa.MetaData(), "taskqueue_")
    return "\n".join(
        _table(one, tables.DEFINITIONS[one.name.removeprefix("taskqueue_")].__doc__ or "")
        for one in found.all
    )


def _table(table: sa.Table, doc: str) -> str:
    words = inspect.cleandoc(doc).replace("``", "`")  # Python 3.13 keeps docstrings so itself
    rows = ["| Column | Type | |", "|---|---|---|"]
    for column in table.columns:
        marks = ["primary key"] if column.primary_key else [] if column.nullable else ["not null"]
        meaning = MEANINGS.get(f"{table.name.removeprefix('taskqueue_')}.{column.name}")
        rows.append(
            f"| `{column.name}` | `{column.type}` | "
            f"{'; '.join([*marks, *([meaning] if meaning else [])])} |"
        )
    indexes = [
        f"* `{index.name}`{', unique' if index.unique else ''}: "
        f"{', '.join(f'`{column.name}`' for column in index.columns)}"
        for index in sorted(table.indexes, key=lambda index: str(index.name))
    ]
    return _lines([f"## {table.name}", "", words, "", *rows, "", *indexes])


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    if seconds < DAY:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds / DAY:g} day{'' if seconds == DAY else 's'}"


def _lines(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, part in parts().items():
        page = Path(__file__).with_name(f"{name}.md")
        page.write_text(renewed(page.read_text(encoding="utf-8"), part), encoding="utf-8")
