"""``flask taskqueue doctor``."""

from __future__ import annotations

from dataclasses import asdict

import click
from flask.cli import with_appcontext

from .. import diagnosis
from ..core.counts import count
from ..core.finding import Finding
from .current import current_runtime
from .exits import FAILED
from .options import json_option
from .output import echo_json

_MARKS = {"ok": ("✓", "green"), "info": ("i", "blue"), "warning": ("!", "yellow"), "error": ("✕", "red")}


@click.command("doctor")
@json_option
@with_appcontext
def doctor(as_json: bool) -> None:
    """Look for what keeps tasks from running, with what to do about it; exit code 1 when something does.

    Each worker route gets a delivery that passes the application's hooks and that no handler sees.
    """
    found = diagnosis.findings(current_runtime())
    problems = sum(one.level == "error" for one in found)
    if as_json:
        echo_json([asdict(one) for one in found])
    else:
        for one in found:
            _show(one)
        click.echo(f"{count(problems, 'problem')}, {count(sum(one.level == 'warning' for one in found), 'warning')}.")
    if problems:
        raise click.exceptions.Exit(FAILED)


def _show(finding: Finding) -> None:
    mark, colour = _MARKS[finding.level]
    click.echo(f"{click.style(mark, fg=colour)} {finding.text}")
    if finding.remedy:
        place = f"  (docs: {finding.anchor})" if finding.anchor else ""
        click.echo(f"  → {finding.remedy}{place}")
