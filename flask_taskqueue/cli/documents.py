"""Tasks and their attempts as JSON: the keys stay."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa

from ..core.clock import to_datetime
from ..core.record import Record
from ..core.reply import stored_headers
from ..core.task import Task
from ..core.vault import Vault

_LEFT_OUT = ("disposition", "progress")


def task_document(task: Task) -> dict[str, Any]:
    """A task."""
    known = {one.name: getattr(task, one.name) for one in fields(task) if one.name not in _LEFT_OUT and not one.name.startswith("_")}
    return {**known, "progress": None if task.progress is None else asdict(task.progress)}


def request_document(record: Record) -> dict[str, Any]:
    """The request of a task; the body as text, or in base64 if it is none."""
    return {"target": record.target, "headers": json.loads(record.headers or "{}"), **body_document(record.body)}


def attempt_document(row: sa.Row[Any], vault: Vault) -> dict[str, Any]:
    """An attempt that has ended. Raises `DecryptionError`."""
    body = body_document(vault.open(bytes(row.reply_body or b"")))
    headers, truncated = stored_headers(vault.open_text(row.reply_headers))
    return {
        "number": row.number,
        "started_at": to_datetime(row.started_at),
        "finished_at": to_datetime(row.finished_at),
        "seconds": (row.finished_at - row.started_at) / 1_000_000,
        "reason": row.reason,
        "status": row.status,
        "error": row.error,
        "held_by": row.held_by,
        "reply_headers": headers,
        "traceback": vault.open_text(row.traceback),
        **{f"reply_{key}": value for key, value in body.items()},
        "reply_truncated": truncated,
    }


def body_document(body: bytes) -> dict[str, Any]:
    """A body."""
    try:
        return {"body": bytes(body).decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body).decode()}
