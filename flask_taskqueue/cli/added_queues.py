"""``flask taskqueue queues add``, ``change`` and ``delete``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
from flask.cli import with_appcontext

from ..api import added_queues
from ..core.times import plural
from .audit import logged
from .options import current_runtime, json_option, yes_option
from .output import confirm, echo_change
from .stats import queues

_SETTINGS = (
    click.option("--rate", help="How many tasks may start, such as 20/m; none for no limit."),
    click.option("--bucket-size", help="How many may start at the same time after a pause."),
    click.option("--max-concurrent", help="How many may run at the same time; none for no limit."),
    click.option("--rate-per-key", help="How many may start for each rate key; none for no limit."),
    click.option("--bucket-size-per-key", help="The bucket size of each rate key."),
    click.option("--priority", help="The priority of its tasks, from -9 to 9."),
    click.option("--deadline", help="How long an attempt may take, such as 30s or 10m."),
    click.option("--retry", metavar="JSON", help='The retry policy, {"task_retry_limit": 5}.'),
    click.option("--target", metavar="URL", help="Another base URL for the paths of its tasks."),
    click.option("--tombstone-ttl", help="How long names of ended tasks stay taken, such as 1h."),
)
_WHOLE = ("bucket_size", "max_concurrent", "bucket_size_per_key", "priority")


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@queues.command("add")
@click.argument("name")
@_settings
@json_option
@with_appcontext
def add_queue(name: str, as_json: bool, **options: str | None) -> None:
    """Add a queue NAME beside those that are configured."""
    runtime, given = current_runtime(), _given(options)
    with logged(runtime, "add-queue", _subject(name, options)):
        added_queues.add_queue(runtime, name, given, None, origin="command")
    echo_change("add", name, True, as_json, f"Added {name}.")


@queues.command("change")
@click.argument("name")
@_settings
@json_option
@with_appcontext
def change_queue(name: str, as_json: bool, **options: str | None) -> None:
    """Change queue NAME, which was added rather than configured; none is the default."""
    runtime, given = current_runtime(), _given(options)
    if not given:
        raise click.UsageError("there is nothing to change: give at least one option")
    with logged(runtime, "change-queue", _subject(name, options)):
        added_queues.change_queue(runtime, name, given, None)
    echo_change("change", name, True, as_json, f"Changed {name}.")


@queues.command("delete")
@click.argument("name")
@yes_option
@json_option
@with_appcontext
def delete_queue(name: str, yes: bool, as_json: bool) -> None:
    """Delete queue NAME, which was added rather than configured, and cancel its tasks.

    Its name is blocked for three days.
    """
    runtime = current_runtime()
    confirm(f"This will delete queue {name} and cancel its tasks. Continue?", yes=yes)
    with logged(runtime, "delete-queue", name):
        cancelled = added_queues.delete_queue(runtime, name, None)
    text = f"Deleted {name} and cancelled {plural(cancelled, 'task')}."
    echo_change("delete", name, True, as_json, text)


def _given(options: dict[str, str | None]) -> dict[str, Any]:
    """Return the settings that the options give; ``none`` is None."""
    return {
        name: None if text == "none" else _value(name, text)
        for name, text in options.items()
        if text is not None
    }


def _value(name: str, text: str) -> Any:
    option = f"--{name.replace('_', '-')}"
    if name in _WHOLE:
        try:
            return int(text)
        except ValueError:
            raise click.UsageError(
                f"{option} is {text!r}; it must be a whole number, or none"
            ) from None
    if name != "retry":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{option} is not valid JSON: {error}") from error


def _subject(name: str, options: dict[str, str | None]) -> str:
    """Name a queue and what it is given, for the audit log."""
    given = ", ".join(f"{option}={text}" for option, text in options.items() if text is not None)
    return f"{name}: {given}" if given else name
