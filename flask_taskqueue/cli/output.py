"""What commands print: data on stdout, all else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from ..core.counts import count
from ..core.spans import relative, utc


def echo_json(document: Any) -> None:
    """Print a document."""
    click.echo(json.dumps(document, default=_plain, indent=2, ensure_ascii=False))


def echo_json_line(document: Any) -> None:
    """Print a document as one line of a stream."""
    click.echo(json.dumps(document, default=_plain, ensure_ascii=False))


def echo_change(action: str, name: str, changed: bool, as_json: bool, text: str) -> None:
    """Say what became of something that has a name."""
    if as_json:
        echo_json({"action": action, "name": name, "changed": changed})
    else:
        click.echo(text)


def echo_changes(
    action: str, *, matched: int, changed: int, dry_run: bool, as_json: bool, verb: str, past: str, what: str = "task"
) -> None:
    """Say how many tasks were changed, or would be."""
    if as_json:
        echo_json({"action": action, "dry_run": dry_run, "matched": matched, "changed": changed})
    elif not matched:
        chatter("No tasks match.")
    else:
        click.echo(f"Would {verb} {count(matched, what)}." if dry_run else f"{past} {count(changed, what)}.")


def chatter(text: str) -> None:
    """Say something that is not data."""
    click.echo(text, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask unless ``yes``; no ends the command."""
    if not yes:
        click.confirm(question, abort=True, err=True)


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[int], object]]:
    """A bar on stderr, where that is a terminal; call what it gives with each number that is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def moment(instant: datetime | None, in_utc: bool) -> str:
    """An instant for people: how far away it is, or in UTC."""
    if instant is None:
        return "-"
    return utc(instant) if in_utc else relative(instant, datetime.now(UTC))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} is no JSON value")
