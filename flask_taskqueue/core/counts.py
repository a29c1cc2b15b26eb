"""Numbers with their nouns, as people read them."""

from __future__ import annotations


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun; the ``plural`` where it is not the noun with an s.

    >>> count(1, "task"), count(12000, "task"), count(2, "process", "processes")
    ('1 task', '12,000 tasks', '2 processes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
