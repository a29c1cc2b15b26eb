"""A database that looks like an ordinary day, for the screenshots."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask import Flask

from flask_taskqueue import TaskQueue
from flask_taskqueue.store import SLOT, Store
from flask_taskqueue.store.counters.counters import QUARTER

MINUTE = 60_000_000
QUEUES: dict[str, Any] = {
    "mail": {"rate": "20/m", "bucket_size": 10},
    "thumbnails": {"max_concurrent": 4},
    "reports": {"rate": "2/s", "deadline": "10m", "max_concurrent": 1},
}
WORK = (
    ("default", "/worker/index", "document={}", 0.5),
    ("mail", "/worker/mail", "to=user{}%40example.com&template=welcome&token=c0ffee", 0.25),
    ("thumbnails", "/worker/thumbnail", "picture={}&size=240", 0.2),
    ("reports", "/worker/report", "month=2026-{}", 0.05),
)


def index_document(document: str) -> None: ...


def send_welcome(to: str, template: str, token: str) -> None: ...


def make_thumbnail(picture: str, size: int) -> None: ...


def write_report(month: str) -> None: ...


HANDLERS: dict[str, Callable[..., None]] = {
    "/worker/index": index_document,
    "/worker/mail": send_welcome,
    "/worker/thumbnail": make_thumbnail,
    "/worker/report": write_report,
}
for handler in HANDLERS.values():
    handler.__module__ = "shop"
FAILURES = (
    ("failure", 502, "the reply was 502"),
    ("failure", 500, "ValueError: picture 'IMG_{}.heic' is of no known kind"),
    ("timeout", None, "no reply within 30 s"),
    ("connection", None, "no connection to mail.example.com:443"),
)
STATES = (
    ("succeeded", 3000),
    ("dead", 37),
    ("cancelled", 12),
    ("due", 42),
    ("leased", 5),
    ("scheduled", 1204),
    ("retrying", 18),
)


def application(url: str, **config: Any) -> tuple[Flask, TaskQueue]:
    """An application with queues, schedules and the dashboard open."""
    app = Flask("shop")
    app.config.update(
        SECRET_KEY="only for the screenshots",
        TASKQUEUE_DATABASE_URI=url,
        TASKQUEUE_QUEUES=QUEUES,
        TASKQUEUE_CREATE_TABLES=True,
    )
    app.config.update(
        TASKQUEUE_DASHBOARD=True,
        TASKQUEUE_DASHBOARD_ACCESS=lambda: True,
        TASKQUEUE_DASHBOARD_USER=lambda: "ana",
    )
    app.config.update(TASKQUEUE_DISPATCHER="off", **config)
    tasks = TaskQueue(app)
    for path, handler in HANDLERS.items():
        tasks.worker(path)(handler)
    tasks.schedule(
        "nightly-report",
        "/worker/report",
        "every day 03:00",
        queue="reports",
        description="Last month's figures",
    )
    tasks.schedule("reindex", "/worker/index", "*/15 * * * *", description="What has changed since")
    tasks.schedule(
        "digest", "/worker/mail", "every mon,thu 09:30", queue="mail", timezone="Europe/Berlin"
    )
    return app, tasks


def seed(store: Store, *, seed: int = 7) -> None:
    """Fill the tables."""
    chance = random.Random(seed)
    now = time.time_ns() // 1000
    store.ensure_queues()
    tasks: list[dict[str, Any]] = []
    attempts: list[dict[str, Any]] = []
    number = 0
    for state, count in STATES:
        for _ in range(count):
            number += 1
            task = _task(chance, state, now, number)
            tasks.append(task)
            attempts += _attempts(chance, task)
    tables = store.database.tables
    with store.database.engine.begin() as connection:
        connection.execute(sa.insert(tables.task), tasks)
        connection.execute(sa.insert(tables.attempt), attempts)
        connection.execute(sa.insert(tables.tally), _tally(chance, tasks, now))
        connection.execute(sa.insert(tables.past), _past(chance, now))
        connection.execute(sa.insert(tables.dispatcher), _dispatchers(now))
    store.transact(lambda connection: store.queues.pause(connection, "mail", "ana"))


def _task(chance: random.Random, state: str, now: int, number: int) -> dict[str, Any]:
    queue, url, body, _ = chance.choices(WORK, [one[3] for one in WORK])[0]
    ago = int(chance.expovariate(1 / 25) * MINUTE) + number % 1000 * 1000
    row = dict.fromkeys(
        (
            "name",
            "target",
            "first_tried_at",
            "started_at",
            "finished_at",
            "deadline",
            "retry",
            "unique_key",
            "lock_key",
        )
    )
    row |= dict.fromkeys(
        (
            "lock_limit",
            "expires_at",
            "follow_up",
            "batch_id",
            "callback_of",
            "schedule",
            "progress",
            "lease_id",
            "held_by",
        )
    )
    row |= dict.fromkeys(("last_status", "last_reason", "last_error", "due_at")) | {
        "keep_result": 0,
        "priority": 0,
        "method": "POST",
    }
    row |= dict.fromkeys(("attempts", "executions", "answered", "crashes", "pardons"), 0)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": "Bearer never-shown",
    }
    created = now - ago - (12 * MINUTE if state == "dead" else 0)
    row |= {
        "id": _id(created, number),
        "queue": queue,
        "url": url,
        "body": body.format(number).encode(),
        "headers": json.dumps(headers),
    }
    row |= {"eta": created, "created_at": created, "state": state}
    if state in ("due", "scheduled", "retrying"):
        row["state"] = "scheduled"
        later = chance.randint(1, 40 * 60) * 1_000_000
        row["due_at"] = now - min(ago, 6 * MINUTE) if state == "due" else now + later
        if state == "scheduled":
            row["eta"] = row["due_at"]
        if state == "retrying":
            row |= {"attempts": chance.randint(1, 5), "first_tried_at": created}
    elif state == "leased":
        row |= {
            "due_at": now + 20_000_000,
            "started_at": now - chance.randint(1, 20) * 1_000_000,
            "attempts": 1,
            "lease_id": "e" * 32,
        }
        row |= {"held_by": "a" * 16, "first_tried_at": row["started_at"]}
    else:
        row |= {
            "finished_at": created
            + (11 * MINUTE if state == "dead" else 0)
            + chance.randint(50, 4000) * 1000,
            "first_tried_at": created + 20_000,
        }
        row["attempts"] = {"dead": chance.choice((4, 5, 5, 8)), "cancelled": 0}.get(
            state, chance.choices((1, 2, 3), (94, 4, 2))[0]
        )
    if number % 40 == 0:
        row["name"] = f"order-{number}"
    return row


def _attempts(chance: random.Random, task: dict[str, Any]) -> list[dict[str, Any]]:
    """As many as the task had; all but the last of one that succeeded have failed."""
    count = task["attempts"] - (task["state"] == "leased")
    end = task["finished_at"] or task["created_at"] + 3_000_000
    kind = FAILURES[
        {"/worker/thumbnail": 1, "/worker/mail": 3, "/worker/report": 2}.get(task["url"], 0)
    ]
    rows = []
    for number in range(1, count + 1):
        finished = end - (count - number) * 90_000_000 // (number + 1)
        good = task["state"] == "succeeded" and number == count
        took = (
            int(chance.lognormvariate(-2, 0.7) * 1_000_000)
            if kind[0] != "timeout" or good
            else 30_000_000
        )
        reason, status, error = (
            ("success", 204, None) if good else (kind[0], kind[1], kind[2].format(task["id"][-5:]))
        )
        rows.append(
            {
                "task_id": task["id"],
                "number": number,
                "lease_id": f"{number:032d}",
                "started_at": finished - took,
                "finished_at": finished,
            }
            | {"held_by": "a" * 16, "reason": reason, "status": status, "error": error}
            | {
                "reply_headers": None
                if status is None
                else json.dumps({"content-type": "text/html; charset=utf-8", "server": "gunicorn"})
            }
            | {
                "reply_body": None
                if status is None or good
                else b"<!doctype html>\n<title>502 Bad Gateway</title>\n<h1>Bad Gateway</h1>\n"
            }
        )
    if rows:
        last = rows[-1]
        task |= {
            "last_status": last["status"],
            "last_reason": last["reason"],
            "last_error": last["error"],
            "executions": count,
        }
        task["first_tried_at"] = rows[0]["started_at"]
        if task["state"] == "dead":
            task["last_error"] = f"{last['error']} (gave up after {count} attempts)"
    return rows


def _tally(chance: random.Random, tasks: list[dict[str, Any]], now: int) -> list[dict[str, Any]]:
    rows = []
    slot = now // 10_000_000
    for queue, _, _, weight in WORK:
        ended = {
            state: sum(one["state"] == state and one["queue"] == queue for one in tasks)
            for state in ("succeeded", "dead", "cancelled")
        }
        rows.append(
            {"queue": queue, "slot": 0, "source": "", "attempts": 0, "failures": 0, **ended}
        )
        for back in range(1, 360):
            busy = weight * (12 + 6 * ((back % 120) / 120)) + (
                14 * weight if 150 < back < 200 else 0
            )
            attempts = int(chance.gauss(busy, 2)) if busy > 1 else chance.random() < busy
            failures = sum(
                chance.random() < (0.12 if 165 < back < 185 else 0.01)
                for _ in range(max(0, attempts))
            )
            row = {
                "queue": queue,
                "slot": slot - back,
                "source": "a",
                "attempts": max(0, attempts),
                "failures": failures,
            }
            rows.append(row | dict.fromkeys(("succeeded", "dead", "cancelled"), 0))
    return rows


def _past(chance: random.Random, now: int) -> list[dict[str, Any]]:
    """Thirty days: busy by day, quiet at night, and one bad evening."""
    rows = []
    for ago in range(5, 30 * 96):
        slot = (now // SLOT // QUARTER - ago) * QUARTER
        hour = slot * SLOT // (60 * MINUTE) % 24
        attempts = int(chance.uniform(0.7, 1.3) * (420 if 7 <= hour < 20 else 60))
        share = 0.3 if 80 < ago < 90 else chance.choice((0, 0, 0, 0.01, 0.02))
        rows.append(
            {
                "queue": "default",
                "slot": slot,
                "attempts": attempts,
                "failures": int(attempts * share),
            }
        )
    return rows


def _dispatchers(now: int) -> list[dict[str, Any]]:
    common = {
        "version": "0.1.0",
        "transport": "wsgi",
        "queues": None,
        "concurrency": 8,
        "started_at": now - 190 * MINUTE,
    }
    return [
        {
            "id": "a" * 16,
            "host": "web1",
            "pid": 4711,
            "in_flight": 3,
            "seen_at": now - 2_000_000,
            **common,
        },
        {
            "id": "b" * 16,
            "host": "web2",
            "pid": 4712,
            "in_flight": 2,
            "seen_at": now - 4_000_000,
            **common,
        },
    ]


def _id(created: int, number: int) -> str:
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    value = (created // 1000 << 80) | number * 7_919_000_017_777
    return "".join(alphabet[(value >> shift) & 31] for shift in range(125, -1, -5))
