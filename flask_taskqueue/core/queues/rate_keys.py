"""Rate keys: keys of a queue, each of which has a token bucket of its own."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InvalidKeyError
from ..names import check_key
from ..states import Record

RATE_KEYS = "r:"
"""How the rate keys of all queues begin, in the form in which tasks hold them."""
_LONGEST = 99
"""The length of the longest rate key; with its queue it fits into ``lock_key``."""


def check_rate_key(key: str) -> str:
    """Return a rate key if it is valid: as any key, but at most 99 characters.

    Raises `InvalidKeyError`.
    """
    if len(check_key("rate_key", key)) > _LONGEST:
        raise InvalidKeyError(
            f"rate_key has {len(key)} characters; it must have at most {_LONGEST}: shorten it, "
            "to a hash of what it stands for, say"
        )
    return str.__str__(key)


def rate_keys_of(queue: str) -> str:
    """Return how the rate keys of a queue begin, in the form in which tasks hold them.

    The queue is part of them, because its settings say what the rate is.

    >>> rate_keys_of("mail") + "customer-42"
    'r:mail:customer-42'
    """
    return f"{RATE_KEYS}{queue}:"


def is_rate_key(lock_key: str | None) -> bool:
    """Return whether the key that a task holds is a rate key."""
    return lock_key is not None and lock_key.startswith(RATE_KEYS)


def has_rate_key(records: Iterable[Record]) -> bool:
    """Return whether any of these tasks holds a rate key."""
    return any(is_rate_key(record.lock_key) for record in records)


def split_rate_key(lock_key: str) -> tuple[str, str]:
    """Return the queue of a rate key, and the key itself.

    >>> split_rate_key("r:mail:customer:42")
    ('mail', 'customer:42')
    """
    queue, _, key = lock_key.removeprefix(RATE_KEYS).partition(":")
    return queue, key
