"""All scenarios at full size, on every database, and a table of what became of them: ``make
chaos``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from tests.databases import NAMES, Servers

from .scenario import Report, Scenario, Size, together
from .scenarios import SCENARIOS

COLUMNS = (
    "scenario",
    "database",
    "tasks",
    "faults",
    "repeated",
    "lost",
    "unexplained",
    "other",
    "effects",
    "seconds",
    "notes",
)


@click.command()
@click.option(
    "--scenario",
    "names",
    multiple=True,
    type=click.Choice([scenario.name for scenario in SCENARIOS]),
    help="Only this one; may be repeated.",
)
@click.option(
    "--database",
    "databases",
    multiple=True,
    type=click.Choice(NAMES),
    help="Only this one; may be repeated.",
)
@click.option("--small", is_flag=True, help="At the size of the test suite.")
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=int,
    help="Of random runs only this one; may be repeated.",
)
def chaos(
    names: tuple[str, ...], databases: tuple[str, ...], small: bool, seeds: tuple[int, ...]
) -> None:
    """Play scenarios; exit code 1 when anything was found."""
    good = True
    click.echo(row(COLUMNS))
    click.echo(row("---" for _ in COLUMNS))
    with servers() as (found, directory):
        for scenario, name in chosen(
            names or [scenario.name for scenario in SCENARIOS], databases or NAMES
        ):
            good &= played(
                scenario, name, found, directory, list(sizes(scenario, seeds, small=small))
            )
    sys.exit(not good)


def sizes(scenario: Scenario, seeds: tuple[int, ...], *, small: bool) -> Iterator[Size]:
    """The size of each time that a scenario is played."""
    size = scenario.small if small else scenario.full
    yield from (
        ({**size, "seed": seed} for seed in seeds or range(1, scenario.seeds + 1))
        if scenario.seeds
        else [size]
    )


def chosen(
    names: tuple[str, ...] | list[str], databases: tuple[str, ...]
) -> Iterator[tuple[Scenario, str]]:
    """Each scenario with each database that it plays on."""
    for scenario in SCENARIOS:
        if scenario.name in names:
            yield from ((scenario, name) for name in scenario.databases if name in databases)


@contextmanager
def servers() -> Iterator[tuple[Servers, Path]]:
    """The database servers, and a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="taskqueue-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        found = Servers(directory)
        try:
            yield found, directory
        finally:
            found.close()


def played(
    scenario: Scenario, name: str, found: Servers, directory: Path, sizes: list[Size]
) -> bool:
    """Play one, as often as there are sizes, and print its row; whether all was good."""
    began = time.monotonic()
    reports = []
    try:
        for number, size in enumerate(sizes):
            place = directory / f"{scenario.name.replace(' ', '-')}-{name}-{number}"
            place.mkdir()
            place.chmod(0o755)
            reports.append(scenario.run(name, found, place, size))
            tell(reports[-1])
    except (pytest.skip.Exception, pytest.fail.Exception, AssertionError) as error:
        skipped = isinstance(error, pytest.skip.Exception)
        verdict = "skipped: " if skipped else "FAILED: "
        first, _, rest = str(error).partition("\n")
        click.echo(
            row(
                [scenario.name, name, *[""] * 7, f"{time.monotonic() - began:.0f}", verdict + first]
            )
        )
        click.echo(rest, err=True)
        return skipped
    whole = reports[0] if len(reports) == 1 else together(reports)
    click.echo(row(cells(whole)))
    return not whole.findings.problems


def tell(report: Report) -> None:
    """Say what is wrong, and by which plan it can be played again."""
    problems = report.findings.problems
    for problem in problems[:20]:
        click.echo(f"    {problem}", err=True)
    if problems and report.script:
        click.echo(report.script, err=True)


def cells(report: Report) -> list[str]:
    """A row of the table."""
    findings = report.findings
    lost, unexplained = len(findings.lost), len(findings.unexplained)
    return [
        report.scenario,
        report.database,
        f"{report.tasks:,}",
        ", ".join(
            f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in report.faults.items()
        )
        or "-",
        str(report.repeated),
        str(lost),
        str(unexplained),
        str(len(findings.problems) - lost - unexplained),
        report.effects,
        f"{report.seconds:.0f}",
        ", ".join(f"{what} {value}" for what, value in report.notes.items()),
    ]


def row(texts: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    chaos()
