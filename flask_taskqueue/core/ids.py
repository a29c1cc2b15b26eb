"""Identifiers: of tasks, of leases, of dispatchers."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def task_id() -> str:
    """A new task id: 26 characters in the form of a ULID.

    48 bits of milliseconds, so that ids sort by creation, and 80 random bits, so that they
    cannot be guessed. The time in it serves sorting only; no decision is taken on it.
    """
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(secrets.token_bytes(10))
    pairs = [_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)]
    return "".join(pairs)


def lease_id() -> str:
    """A new lease id: 32 hexadecimal digits, random, so that no two claims ever share one."""
    return secrets.token_hex(16)


def dispatcher_id() -> str:
    """A new dispatcher id, fresh per process: host names and pids come back, this does not."""
    return secrets.token_hex(8)
