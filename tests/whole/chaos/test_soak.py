"""The soak's verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .soak import Sample, Use, grown

FLAT = Sample(kept=Use(12, 12, 71.0), supervisor=Use(1, 6, 77.0), connections=8)


def test_what_stays_flat_is_no_problem() -> None:
    """Nor is one moment at which more was in use."""
    assert grown([FLAT, replace(FLAT, connections=20), *[FLAT] * 10]) == []


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (replace(FLAT, kept=Use(14, 12, 71.0)), "kept threads"),
        (replace(FLAT, kept=Use(12, 15, 71.0)), "kept files"),
        (replace(FLAT, kept=Use(12, 12, 82.0)), "kept memory"),
        (replace(FLAT, supervisor=Use(1, 6, 88.0)), "supervisor memory"),
        (replace(FLAT, connections=12), "connections"),
    ],
)
def test_what_grows_is_a_problem(late: Sample, said: str) -> None:
    """It is named, with the numbers."""
    problems = grown([*[FLAT] * 8, *[late] * 4])
    assert [problem.startswith(f"{said} rose from") for problem in problems] == [True]


def test_more_connections_than_the_pools_hold_are_a_problem() -> None:
    """Even at one moment."""
    assert len(grown([*[FLAT] * 5, replace(FLAT, connections=41), *[FLAT] * 5])) == 1
