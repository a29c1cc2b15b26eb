"""A plain table with aligned columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import click


def echo_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    colours: Mapping[int, Sequence[str | None]] | None = None,
) -> None:
    """Print rows under their heads; the columns in ``right`` end at one edge, the others begin at one.

    ``colours`` are those of some columns, by row. What is not a terminal gets none.
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for number, line in enumerate(lines):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for column, shades in (colours or {}).items():
            shade = shades[number - 1] if number else None
            cells[column] = click.style(cells[column], fg=shade) if shade else cells[column]
        click.echo("  ".join(cells).rstrip())
