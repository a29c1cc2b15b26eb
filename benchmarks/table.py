"""A table of measurements: medians and ranges, and the ratios of rows measured in the same
round.
"""

from __future__ import annotations

import statistics
from collections import defaultdict


class Table:
    """Rows by name; what is added under one name are its rounds."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._rounds: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """One round of a row."""
        self._rounds[name].append(value)

    def median(self, name: str) -> float:
        """The median of a row."""
        return statistics.median(self._rounds[name])

    def ratio(self, name: str, of: str) -> float:
        """The median of the ratios of two rows, round by round."""
        return statistics.median(
            one / other for one, other in zip(self._rounds[name], self._rounds[of], strict=True)
        )

    def show(self, ratios: dict[str, str] | None = None) -> None:
        """Print it as Markdown; ``ratios`` says to which other row a row is compared."""
        print(f"| {'':44} | {self._unit:>10} | {'least':>8} | {'most':>8} | ratio |")
        print(f"|{'-' * 46}|{'-' * 11}:|{'-' * 9}:|{'-' * 9}:|------:|")
        for name, values in self._rounds.items():
            other = (ratios or {}).get(name)
            ratio = f"{self.ratio(name, other):5.2f}" if other else "     "
            print(
                f"| {name:44} | {_short(self.median(name))} | {_short(min(values), 8)} | "
                f"{_short(max(values), 8)} | {ratio} |",
                flush=True,
            )


def _short(value: float, width: int = 10) -> str:
    return f"{value:{width}.0f}" if value >= 100 else f"{value:{width}.2f}"


def show_spread(unit: str, rows: dict[str, list[float]]) -> None:
    """Print for each series its median, what 95 and 99 of a hundred do not exceed, and its
    least and most, as Markdown.
    """
    print(
        f"| {unit:46} | {'number':>6} | {'p50':>8} | {'p95':>8} | {'p99':>8} | {'least':>8} "
        f"| {'most':>8} |"
    )
    print(f"|{'-' * 48}|{'-' * 7}:|" + 5 * "---------:|")
    for name, found in rows.items():
        ordered = sorted(found)
        shares = [
            ordered[min(len(ordered) - 1, len(ordered) * part // 100)] for part in (50, 95, 99)
        ]
        values = [statistics.median(ordered), *shares[1:], ordered[0], ordered[-1]]
        print(
            f"| {name:46} | {len(ordered):6} | "
            + " | ".join(_short(value, 8) for value in values)
            + " |",
            flush=True,
        )
