"""What commands print: data on stdout, all else on stderr."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

import click
import sqlalchemy as sa

from ..core.clock import to_datetime
from ..core.delivery.reply import stored_headers
from ..core.humanize import plural, relative, utc
from ..core.record import Record
from ..core.security.encryption import Encryption
from ..core.tasks.task import Task


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
    action: str,
    *,
    matched: int,
    changed: int,
    dry_run: bool,
    as_json: bool,
    verb: str,
    past: str,
    what: str = "task",
) -> None:
    """Say how many tasks were changed, or would be."""
    if as_json:
        echo_json({"action": action, "dry_run": dry_run, "matched": matched, "changed": changed})
    elif not matched:
        chatter("No tasks match.")
    else:
        click.echo(
            f"Would {verb} {plural(matched, what)}."
            if dry_run
            else f"{past} {plural(changed, what)}."
        )


def chatter(text: str) -> None:
    """Say something that is not data."""
    click.echo(text, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask unless ``yes``; no ends the command."""
    if not yes:
        click.confirm(question, abort=True, err=True)


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[int], object]]:
    """A bar on stderr, where that is a terminal; call what it gives with each number that is
    done.
    """
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


def echo_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    colours: Mapping[int, Sequence[str | None]] | None = None,
) -> None:
    """Print rows under their heads; the columns in ``right`` end at one edge, the others begin at
    one.

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


_LEFT_OUT = ("disposition", "progress")


def task_document(task: Task) -> dict[str, Any]:
    """A task."""
    known = {
        one.name: getattr(task, one.name)
        for one in fields(task)
        if one.name not in _LEFT_OUT and not one.name.startswith("_")
    }
    return {**known, "progress": None if task.progress is None else asdict(task.progress)}


def request_document(record: Record) -> dict[str, Any]:
    """The request of a task; the body as text, or in base64 if it is none."""
    return {
        "target": record.target,
        "headers": json.loads(record.headers or "{}"),
        **body_document(record.body),
    }


def attempt_document(row: sa.Row[Any], encryption: Encryption) -> dict[str, Any]:
    """An attempt that has ended. Raises `DecryptionError`."""
    body = body_document(encryption.decrypt(bytes(row.reply_body or b"")))
    headers, truncated = stored_headers(encryption.decrypt_text(row.reply_headers))
    return {
        "number": row.number,
        "started_at": to_datetime(row.started_at),
        "finished_at": to_datetime(row.finished_at),
        "seconds": (row.finished_at - row.started_at) / 1_000_000,
        "reason": row.reason,
        "status": row.status,
        "error": row.error,
        "held_by": row.held_by,
        "reply_headers": headers,
        "traceback": encryption.decrypt_text(row.traceback),
        **{f"reply_{key}": value for key, value in body.items()},
        "reply_truncated": truncated,
    }


def body_document(body: bytes) -> dict[str, Any]:
    """A body."""
    try:
        return {"body": bytes(body).decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body).decode()}
