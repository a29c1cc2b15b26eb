"""Options, parameter types and exit codes that several commands share."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup

from ..api.tasks import filter_of
from ..core.durations import seconds
from ..core.errors import (
    ConfigurationError,
    TaskQueueError,
    TransientError,
    UnknownBatchError,
    UnknownQueueError,
    UnknownScheduleError,
    UnknownTaskError,
    WaitTimeoutError,
)
from ..core.states import State
from ..engine.pulse import usable_processors
from ..runtime import Runtime
from ..store import refusal
from .output import drop_output, is_of_echo, visible, write_any_text

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType

FAILED = 1
NOT_FOUND = 3
UNAVAILABLE = 69
"""No dispatcher, or no database (EX_UNAVAILABLE)."""
STILL_PENDING = 75
"""``--wait`` ended before the task did (EX_TEMPFAIL)."""
INTERRUPTED = 130

_CODES: dict[type[TaskQueueError], int] = {
    UnknownTaskError: NOT_FOUND,
    UnknownQueueError: NOT_FOUND,
    UnknownScheduleError: NOT_FOUND,
    UnknownBatchError: NOT_FOUND,
    TransientError: UNAVAILABLE,
    WaitTimeoutError: STILL_PENDING,
}


class CommandFailure(click.ClickException):
    """An error that ends a command with a sentence and an exit code."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(visible(sentence))
        self.exit_code = code  # type: ignore[misc]


LARGEST = 2**31 - 1
"""The largest number that every database takes."""

Sections = Mapping[str, Sequence[tuple[click.Command, str]]]
"""The commands of a group under headings, each with a few words that fit into one line."""


class Commands(AppGroup):
    """A group whose commands report errors as sentences instead of tracebacks.

    Output has no colour when the environment has NO_COLOR.
    """

    def __init__(self, name: str, *, help: str, sections: Sections) -> None:
        super().__init__(name, help=help)
        self._sections = sections
        for command, _ in (entry for section in sections.values() for entry in section):
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        for heading, commands in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (command.name or "", words)
                        for command, words in commands
                        if not command.hidden
                    ]
                )

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _stdout_refused():  # it prints the help
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        write_any_text()
        try:
            with _stdout_refused():
                return super().invoke(ctx)
        except TaskQueueError as error:
            raise failure(error) from error
        except (KeyboardInterrupt, click.Abort) as stopped:
            if isinstance(stopped, click.Abort) and not isinstance(
                stopped.__context__, KeyboardInterrupt
            ):
                raise
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


@contextmanager
def _stdout_refused() -> Iterator[None]:
    """Raise `CommandFailure` if stdout cannot be written, as on a full disk.

    Click ends the command by itself when nobody reads a pipe any more.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE or not is_of_echo(error):
            raise
        drop_output()
        reason = error.strerror or str(error)
        raise CommandFailure(f"the output could not be written: {reason}") from error


def failure(error: TaskQueueError) -> CommandFailure:
    """Return the failure of a command that ``error`` ended, with its exit code."""
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)
    reason = refusal(error)
    return CommandFailure(f"{error}: {reason}" if reason else str(error), code)


def current_runtime() -> Runtime:
    """Return the current app's runtime. Raises `CommandFailure` if it has no task queue."""
    runtime = current_app.extensions.get("taskqueue")
    if not isinstance(runtime, Runtime):
        raise CommandFailure(
            "the application has no task queue: call TaskQueue(app), or tasks.init_app(app)"
        )
    return runtime


Command = TypeVar("Command", bound=Callable[..., Any])


class Option(Protocol):
    """A decorator that gives a command an option."""

    def __call__(self, command: Command, /) -> Command: ...


_MOST_PROCESSES = 64


class Processes(_ParamType):
    """A number of processes, or "auto" for one per usable processor."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return (
            min(usable_processors(), _MOST_PROCESSES)
            if value == "auto"
            else click.IntRange(1, _MOST_PROCESSES).convert(value, param, ctx)
        )


class Duration(_ParamType):
    """A duration in seconds, or as a text such as 10m."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        try:
            return (
                value
                if isinstance(value, timedelta)
                else timedelta(seconds=seconds(value, what="the duration"))
            )
        except (ConfigurationError, OverflowError):
            self.fail(
                f"{value!r} is not a duration: give seconds, or a number and a unit, such as "
                "90s, 10m, 2h, 7d",
                param,
                ctx,
            )


class Instant(_ParamType):
    """A time in ISO 8601, with its offset from UTC."""

    name = "instant"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time: give it as 2026-12-31T23:59:00Z", param, ctx)
        if instant.utcoffset() is None:
            self.fail(
                f"{value!r} has no offset from UTC: give it as {instant.isoformat()}Z, or end it "
                "with an offset such as +01:00",
                param,
                ctx,
            )
        return instant


json_option: Option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document with stable keys."
)
utc_option: Option = click.option(
    "--utc", "in_utc", is_flag=True, help="Show full times in UTC, not relative to now."
)
yes_option: Option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
dry_run_option: Option = click.option(
    "--dry-run", is_flag=True, help="Only count the tasks; change nothing."
)

_FILTERS = {
    "state": click.option(
        "--state", type=click.Choice([state.value for state in State]), help="Tasks in this state."
    ),
    "queue": click.option("--queue", help="Tasks in this queue."),
    "url": click.option("--url", help="Tasks with exactly this URL."),
    "name": click.option("--name", help="Tasks with exactly this name."),
    "status": click.option(
        "--status",
        help="Tasks whose last attempt ended with this: 502, 5xx, timeout, connection, crash …",
    ),
    "since": click.option(
        "--since", type=Duration(), help="Tasks added within this time, such as 1h."
    ),
    "attempts_at_least": click.option(
        "--attempts-at-least",
        type=click.IntRange(0, LARGEST),
        help="Tasks attempted at least this often.",
    ),
    "search": click.option(
        "--search",
        help="Tasks with this text in the id, name, URL or last error; looks through the newest "
        "100,000.",
    ),
}


def filter_options(command: Command) -> Command:
    """Give a command the filter options; it receives ``task_filter``, None if none was given."""

    @functools.wraps(command)
    def collected(*args: Any, **options: Any) -> Any:
        given = {name: value for name in _FILTERS if (value := options.pop(name)) is not None}
        try:
            task_filter = filter_of(**given) if given else None
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        return command(*args, task_filter=task_filter, **options)

    for option in reversed(_FILTERS.values()):
        collected = option(collected)
    return collected  # type: ignore[return-value]
