"""Output of commands: data goes to stdout, everything else to stderr."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import click
import sqlalchemy as sa

from ..core.delivery.verdict import shown_headers
from ..core.json_text import shown_json
from ..core.security.encryption import Encryption
from ..core.states import Record
from ..core.tasks.task import Task
from ..core.times import plural, relative, to_datetime, utc

_UNPRINTABLE = re.compile(r"[^\w \n\t!-~]")
"""A character that may be one that a terminal obeys; `str.isprintable` decides."""


def visible(text: str) -> str:
    """Return a text that a terminal shows and does not obey.

    Control, formatting and bidirectional characters but newlines and tabs are escaped as in JSON,
    so JSON stays the same document.
    """
    return _UNPRINTABLE.sub(
        lambda found: found[0] if found[0].isprintable() else _escaped(found[0]), text
    )


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def echo(text: str = "", *, mark: str = "", err: bool = False) -> None:
    """Print a text as it is `visible`, after a ``mark`` of the command's own that may be styled."""
    click.echo(mark + visible(text.replace("\r\n", "\n")), err=err)


def write_any_text() -> None:
    """Have characters that the encoding of stdout lacks written as escapes, as stderr does."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def is_of_echo(error: OSError) -> bool:
    """Return whether an error was raised by what prints."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_code is click.echo.__code__


def drop_output() -> None:
    """Throw away what stdout still holds, and whatever else is printed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _is_narrow() -> bool:
    return not (sys.stdout.encoding or "utf-8").lower().startswith("utf")


def echo_json(document: Any) -> None:
    """Print a document as indented JSON."""
    echo(json.dumps(document, default=_plain, indent=2, ensure_ascii=_is_narrow()))


def echo_json_line(document: Any) -> None:
    """Print a document as one line of JSON."""
    echo(json.dumps(document, default=_plain, ensure_ascii=_is_narrow()))


def echo_change(action: str, name: str, changed: bool, as_json: bool, text: str) -> None:
    """Report what a command did to the queue or schedule with this name."""
    if as_json:
        echo_json({"action": action, "name": name, "changed": changed})
    else:
        echo(text)


@dataclass(frozen=True, slots=True)
class Changes:
    """The result of a command that changes many tasks.

    ``present`` and ``past`` say what it does and did, with ``{}`` for the number of tasks. ``kept``
    is how many match too, but cannot be forgotten yet.
    """

    action: str
    present: str
    past: str
    matched: int
    changed: int
    dry_run: bool
    noun: str = "task"
    kept: int = 0

    def echo(self, as_json: bool) -> None:
        """Print how many tasks were changed, or would be."""
        if as_json:
            names = ("action", "dry_run", "matched", "changed")
            echo_json({name: getattr(self, name) for name in names})
            return
        if self.kept:
            chatter(
                f"Kept {plural(self.kept, self.noun)}, whose names must not be taken again yet: "
                "the tombstone_ttl of their queue, or TASKQUEUE_WEBHOOK_TTL, says how long."
            )
        if not self.matched:
            if not self.kept:
                chatter("No tasks match.")
        elif self.dry_run:
            echo(f"Would {self.present.format(plural(self.matched, self.noun))}.")
        else:
            echo(self.past.format(plural(self.changed, self.noun)))


def chatter(text: str) -> None:
    """Print a message that is not data, to stderr."""
    echo(text, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation unless ``yes``; "no" ends the command."""
    if not yes:
        click.confirm(visible(question), abort=True, err=True)


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[int], object]]:
    """Show a progress bar if stderr is a terminal.

    Yields a function to call with the number of items done since the last call.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def number_or_dash(value: int | None) -> str:
    """Format a limit for people; none is a dash."""
    return "-" if value is None else str(value)


def moment(instant: datetime | None, in_utc: bool) -> str:
    """Format a time for people: relative to now, or in UTC."""
    if instant is None:
        return "-"
    return utc(instant) if in_utc else relative(instant, datetime.now(UTC))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def echo_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    colours: Mapping[int, Sequence[str | None]] | None = None,
) -> None:
    """Print rows under their heads, with the columns in ``right`` aligned to the right.

    ``colours`` maps a column to the colour of each row; only terminals show them.
    """
    lines = [head, *([_cell(text) for text in row] for row in rows)]
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


def _cell(text: str) -> str:
    return visible(text.replace("\n", "\\n").replace("\t", "\\t"))


_LEFT_OUT = ("disposition", "progress")


def task_document(task: Task) -> dict[str, Any]:
    """Return the JSON document of a task."""
    known = {
        field.name: getattr(task, field.name)
        for field in fields(task)
        if field.name not in _LEFT_OUT and not field.name.startswith("_")
    }
    return {**known, "progress": None if task.progress is None else asdict(task.progress)}


def request_document(record: Record) -> dict[str, Any]:
    """Return a task's request, its body as text or in base64 if it is not text."""
    return {
        "target": record.target,
        "headers": shown_json(record.headers, dict),
        **body_document(record.shown_body),
    }


def attempt_document(row: sa.Row[Any], encryption: Encryption) -> dict[str, Any]:
    """Return the document of an attempt that has ended. Raises `DecryptionError`."""
    body = body_document(encryption.decrypt(bytes(row.reply_body or b"")))
    headers, truncated = shown_headers(encryption.decrypt_text(row.reply_headers))
    return {
        **attempt_facts(row),
        "reply_headers": headers,
        "traceback": encryption.decrypt_text(row.traceback),
        **{f"reply_{key}": value for key, value in body.items()},
        "reply_truncated": truncated,
    }


def attempt_facts(row: sa.Row[Any]) -> dict[str, Any]:
    """Return what is known of an attempt that has ended beside its reply."""
    return {
        "number": row.number,
        "started_at": to_datetime(row.started_at),
        "finished_at": to_datetime(row.finished_at),
        "seconds": (row.finished_at - row.started_at) / 1_000_000,
        "reason": row.reason,
        "status": row.status,
        "error": row.error,
        "held_by": row.held_by,
    }


def body_document(body: bytes) -> dict[str, Any]:
    """Return a body as text, or in base64 if it is not UTF-8."""
    try:
        return {"body": bytes(body).decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body).decode()}
