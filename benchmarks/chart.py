"""The chart of the comparison: equal work by each queue, as a share of ours on PostgreSQL.

    python -m benchmarks chart

It draws docs/performance.csv, which `compare --csv` writes, into docs/performance.svg.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from html import escape
from pathlib import Path

from .compare import OURS

DOCS = Path(__file__).parent.parent / "docs"
DATA, CHART = DOCS / "performance.csv", DOCS / "performance.svg"
UNIT = f"{OURS}PostgreSQL"

_WIDTH, _LABELS, _ROW = 720, 230, 26
_LONGEST = _WIDTH - _LABELS - 60
"""The length of the longest bar; its figure stands behind it."""


def draw(rows: Sequence[dict[str, str]]) -> str:
    """Return the chart as SVG that takes its colours from the page."""
    rates = {row["queue"]: float(row["equal work"]) for row in rows}
    shares = {name: rate / rates[UNIT] for name, rate in rates.items()}
    ordered = sorted(shares.items(), key=lambda item: item[1], reverse=True)
    scale = _LONGEST / ordered[0][1]
    bars = "\n".join(
        _bar(name, share, share * scale, at * _ROW) for at, (name, share) in enumerate(ordered)
    )
    unit = _LABELS + scale
    height = len(ordered) * _ROW + 4
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" \
aria-labelledby="performance-title" width="100%" style="max-width: 45rem; margin-bottom: 1rem" \
font-family="inherit" font-size="14" fill="currentColor">
  <title id="performance-title">Tasks a second at equal work, as a share of {UNIT}: \
{escape("; ".join(f"{name} {share:.2f}" for name, share in ordered))}</title>
{bars}
  <path d="M{unit:.1f} 0 V{height}" stroke="currentColor" stroke-dasharray="3 4" fill="none"/>
</svg>
"""


def _bar(name: str, share: float, length: float, top: int) -> str:
    opacity, weight = (0.75, 600) if name.startswith(OURS) else (0.3, 400)
    middle = top + 18
    return (
        f'  <text x="{_LABELS - 8}" y="{middle}" text-anchor="end" font-weight="{weight}">'
        f"{escape(name)}</text>\n"
        f'  <rect x="{_LABELS}" y="{top + 4}" width="{length:.1f}" height="18" rx="3" '
        f'fill-opacity="{opacity}"/>\n'
        f'  <text x="{_LABELS + length + 6:.1f}" y="{middle}">{share:.2f}</text>'
    )


def main() -> None:
    """Draw it."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with DATA.open(newline="", encoding="utf-8") as file:
        CHART.write_text(draw(list(csv.DictReader(file))), encoding="utf-8")


if __name__ == "__main__":
    main()
