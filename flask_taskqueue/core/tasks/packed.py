"""Packed tasks: those that follow another, as they are stored until they are added."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from ..errors import InvalidTaskError
from ..names import task_id
from .request import TaskRequest
from .spec import NewTask

_TEXTS = {
    **{
        "method": 10,
        "url": 65_535,
        "body": 2**26,
        "name": 500,
        "queue": 100,
        "retry": 65_535,
        "target": 65_535,
        "eta": 40,
    },
    **{"unique_key": 200, "on_conflict": 10, "lock_key": 202, "expires_at": 40, "follow_up": 2**24},
    **{
        "batch_id": 26,
        "callback_of": 26,
        "schedule": 100,
        "reply_to": 65_535,
        "surface": 4096,
        "tag": 500,
    },
}
_NUMBERS = {
    **{"priority": 9, "lock_limit": 10_000, "delay": 2**60, "expires_in": 2**60},
    **{"tombstone_ttl": 2**40, "deadline": 2**40, "keep_result": 1, "for_worker": 1},
}
_COMPACT = (",", ":")
_MOST = 12_000_000
"""The length of what can follow a task: encrypted as well, a column and one statement take it."""


class FollowUpError(InvalidTaskError):
    """What follows a task is more than can be stored with it."""


def pack(tasks: Iterable[NewTask]) -> str:
    """Return tasks that are to be added later, as JSON.

    Raises `FollowUpError` if that is longer than can be stored.
    """
    text = json.dumps([_packed(task) for task in tasks], separators=_COMPACT)
    if len(text) > _MOST:
        raise FollowUpError(
            f"what follows the task would take {len(text)} bytes with all that it holds, and "
            f"{_MOST} can be stored: give the tasks less to hold, or have a task add "
            "them"
        )
    return text


def unpack(text: str | None) -> list[NewTask]:
    """Return the tasks of `pack`, each with a new id; None holds none.

    Raises ValueError for anything else.
    """
    if text is None:
        return []
    try:
        return [_unpacked(packed) for packed in json.loads(text)]
    except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"the tasks that follow are malformed: {error}") from error


def _packed(task: NewTask) -> dict[str, Any]:
    changed = {
        option.name: getattr(task, option.name)
        for option in fields(task)
        if getattr(task, option.name) != option.default
    }
    for name in ("eta", "expires_at"):
        if name in changed:
            changed[name] = changed[name].isoformat()
    if "follow_up" in changed:
        # as JSON itself, not as a text, whose every level would double the escapes of the next
        changed["follow_up"] = json.loads(changed["follow_up"])
    request = asdict(task.request)
    del changed["id"]
    return changed | {"request": request | {"body": base64.b85encode(task.request.body).decode()}}


def _unpacked(packed: Mapping[str, Any]) -> NewTask:
    given = dict(packed)
    request = given["request"]
    if isinstance(given.get("follow_up"), list):  # earlier releases have packed a text
        given["follow_up"] = json.dumps(given["follow_up"], separators=_COMPACT)
    _check({**given, **request})
    given["request"] = TaskRequest(
        request["method"], request["url"], request["headers"], base64.b85decode(request["body"])
    )
    for name in ("eta", "expires_at"):
        if name in given:
            given[name] = datetime.fromisoformat(given[name]).astimezone(UTC)
    return NewTask(id=task_id(), **given)


def _check(given: Mapping[str, Any]) -> None:
    """Check that a column takes each value.

    Otherwise the database would refuse a value in the middle of other work.
    """
    for name, value in given.items():
        if name in _NUMBERS:
            fits = isinstance(value, int | float) and abs(value) <= _NUMBERS[name]
        elif name in _TEXTS:
            fits = isinstance(value, str) and len(value) <= _TEXTS[name] and "\x00" not in value
        else:
            fits = name in ("headers", "request") and isinstance(value, dict)
        if not fits:
            raise ValueError(f"{name} is of type {type(value).__name__}, or too large")
