"""The last status as a filter has it."""

from __future__ import annotations

import pytest

from flask_taskqueue.store.tasks.filters import LastStatus


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("5xx", 500, 599), ("4XX", 400, 499), ("502", 502, 502), (204, 204, 204)],
)
def test_a_status_is_a_range(text: str | int, low: int, high: int) -> None:
    """Of one, or of a hundred."""
    assert LastStatus.parse(text) == LastStatus(low, high)


def test_a_reason_is_a_word() -> None:
    """One of those that attempts end with."""
    assert LastStatus.parse(" Timeout ") == LastStatus(reason="timeout")


@pytest.mark.parametrize("text", ["", "6xx", "50", "5000", "timed", "٥٠٢"])
def test_anything_else_is_refused(text: str) -> None:
    """With what it must be."""
    with pytest.raises(ValueError, match="such as 502, a class such as 5xx"):
        LastStatus.parse(text)
