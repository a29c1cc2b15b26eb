"""Tables of measurements: ratios of rows that were measured in the same run, and what they are of.

A ratio can be compared with that of another machine, an absolute figure cannot. So where there are
ratios only they are printed, unless `print_absolute` asks for both.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

_PERCENTILES = (50, 95, 99)


class _Options:
    absolute = False


def print_absolute() -> None:
    """Print what was measured beside the ratios."""
    _Options.absolute = True


def absolute() -> bool:
    """Whether that is printed."""
    return _Options.absolute


class Table:
    """Rows by name; what is added under one name are its rounds."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._rounds: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """One round of a row."""
        self._rounds[name].append(value)

    def show(self, ratios: Mapping[str, str]) -> None:
        """Print the rows that ``ratios`` names, each as a share of the row that it names for it."""
        shares = {
            f"{name}, of {of}": [
                one / other for one, other in zip(self._rounds[name], self._rounds[of], strict=True)
            ]
            for name, of in ratios.items()
        }
        _show_medians(f"ratio of {self._unit}", shares)
        if _Options.absolute:
            print()
            _show_medians(self._unit, self._rounds)


def _show_medians(unit: str, rows: Mapping[str, Sequence[float]]) -> None:
    _show(
        [unit, "median", "least", "most"],
        [
            [name, *(_short(value) for value in (statistics.median(of), min(of), max(of)))]
            for name, of in rows.items()
        ],
    )


def show_spread(unit: str, rows: Mapping[str, Sequence[float]]) -> None:
    """Print for each series its median, what 95 and 99 of a hundred do not exceed, and its least
    and most.
    """
    _show(
        [unit, "number", *(f"p{share}" for share in _PERCENTILES), "least", "most"],
        [
            [name, str(len(of)), *(_short(value) for value in (*_shares(of), min(of), max(of)))]
            for name, of in rows.items()
        ],
    )


def show_spread_ratios(
    unit: str, rows: Mapping[str, Sequence[float]], ratios: Mapping[str, str]
) -> None:
    """Print the percentiles of the series that ``ratios`` names, each as a share of the same one of
    the series that it names for it.
    """
    _show(
        [f"ratio of {unit}", *(f"p{share}" for share in _PERCENTILES)],
        [
            [
                f"{name}, of {of}",
                *(
                    _short(one / other)
                    for one, other in zip(_shares(rows[name]), _shares(rows[of]), strict=True)
                ),
            ]
            for name, of in ratios.items()
        ],
    )
    if _Options.absolute:
        print()
        show_spread(unit, rows)


def _shares(values: Sequence[float]) -> list[float]:
    """The percentiles; the last of a few values stands for what is beyond them."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in _PERCENTILES]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _show(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print Markdown: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print("|", " | ".join(_aligned(heads, widths)), "|")
    print(
        "|"
        + "|".join("-" * (width + 1) + ("-" if not at else ":") for at, width in enumerate(widths))
        + "|"
    )
    for row in rows:
        print("|", " | ".join(_aligned(row, widths)), "|", flush=True)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
