"""The names of tasks and queues, by App Engine's rules, and the ids that the queue makes itself."""

from __future__ import annotations

import os
import random
import re
import secrets
import threading
import time
from typing import TypeGuard

from .errors import (
    InvalidKeyError,
    InvalidQueueNameError,
    InvalidScheduleError,
    InvalidTaskNameError,
    shown,
)

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]

_last = 0
_counting = threading.Lock()


def task_id() -> str:
    """Return a new task id: 26 characters in the form of a ULID.

    It has 48 bits of milliseconds, so that ids sort by creation, and 80 random bits, so that ids
    cannot be guessed. In one process each id is greater than the one before, also within a
    millisecond and when the clock goes back.
    """
    global _last
    with _counting:
        millis = time.time_ns() // 1_000_000
        number = (
            (millis << 80) | secrets.randbits(80)
            if millis > _last >> 80
            else _last + 1 + secrets.randbits(40)
        )
        _last = number
    return _written(number)


def is_task_id(text: str) -> bool:
    """Return whether a text can be the id of a task."""
    return len(text) == 26 and text.isascii() and text.isalnum()


def first_id(micros: int) -> str:
    """Return the least id that a task created at this instant can have."""
    return _written(micros // 1000 << 80)


def id_range(prefix: str) -> tuple[str, str]:
    """Return the least and the greatest id that begin with a prefix."""
    return prefix.ljust(26, _ALPHABET[0]), prefix.ljust(26, _ALPHABET[-1])


def lease_id() -> str:
    """Return a new lease id: 32 random hexadecimal digits, so that no two claims ever share one."""
    return secrets.token_hex(16)


def dispatcher_id() -> str:
    """Return a new dispatcher id, unique to a process, unlike host names and pids."""
    return secrets.token_hex(8)


def _written(number: int) -> str:
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])


def _after_fork() -> None:
    """Replace the lock, which another thread of the parent may have held."""
    global _counting
    _counting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


chance: random.SystemRandom = random.SystemRandom()


_TASK_NAME = re.compile(r"[a-zA-Z0-9_-]{1,500}", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?", re.ASCII)
_QUEUE_NAME = re.compile(r"[a-zA-Z0-9-]{1,100}", re.ASCII)
WEBHOOK = "webhook-"
"""The beginning of the names of webhooks' tasks; a SHA-256 hash in hexadecimal follows."""
WEBHOOK_LENGTH = len(WEBHOOK) + 64


def check_task_name(name: str) -> str:
    """Return the name if it is valid: 1 to 500 letters, digits, hyphens and underscores."""
    if not isinstance(name, str) or not _TASK_NAME.fullmatch(name):
        raise InvalidTaskNameError(
            f"task name {shown(name)} must be 1 to 500 letters, digits, hyphens and underscores"
        )
    return str.__str__(name)


def check_queue_name(name: str) -> str:
    """Return the name if it is valid: 1 to 100 letters, digits and hyphens (no underscore)."""
    if not isinstance(name, str) or not _QUEUE_NAME.fullmatch(name):
        raise InvalidQueueNameError(
            f"queue name {shown(name)} must be 1 to 100 letters, digits and hyphens"
        )
    return str.__str__(name)


def check_schedule_name(name: str) -> str:
    """Return the name if it is valid: 1 to 100 printable ASCII characters, no blank at its ends."""
    if not isinstance(name, str) or not _KEY.fullmatch(name) or len(name) > 100:
        raise InvalidScheduleError(
            f"schedule name {shown(name)} must be 1 to 100 printable ASCII characters, "
            "without blanks at its ends"
        )
    return str.__str__(name)


def check_key(what: str, key: str) -> str:
    """Return the key if it is valid: 1 to 200 printable ASCII characters, no blank at its ends."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InvalidKeyError(
            f"{what} is {shown(key)}; it must be 1 to 200 printable ASCII characters, "
            "without blanks at its ends"
        )
    return str.__str__(key)


def is_webhook(name: object) -> bool:
    """Return whether a task's name is that of a webhook, made from the webhook's id."""
    return isinstance(name, str) and name.startswith(WEBHOOK) and len(name) == WEBHOOK_LENGTH


def is_token(text: object) -> TypeGuard[str]:
    """Return whether a value can be an id, a name or a URL at all.

    The database is never asked for any other, because not every database accepts it.
    """
    return isinstance(text, str) and text.isascii() and "\x00" not in text
