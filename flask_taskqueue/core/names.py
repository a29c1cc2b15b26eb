"""Names of tasks and queues; the rules are App Engine's."""

from __future__ import annotations

import re

from .errors import (
    InvalidKeyError,
    InvalidQueueNameError,
    InvalidScheduleError,
    InvalidTaskNameError,
    shown,
)

_TASK_NAME = re.compile(r"[a-zA-Z0-9_-]{1,500}", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?", re.ASCII)
_QUEUE_NAME = re.compile(r"[a-zA-Z0-9-]{1,100}", re.ASCII)


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


def is_token(text: str) -> bool:
    """Return whether a text can be an id, a name or a URL at all.

    The database is never asked for any other text, because not every database accepts it.
    """
    return text.isascii() and "\x00" not in text
