"""How commands end: exit codes, and errors told in a sentence."""

from __future__ import annotations

import os
from typing import Any

import click
from flask.cli import AppGroup

from ..core.errors import (
    TaskQueueError,
    TransientError,
    UnknownBatchError,
    UnknownQueueError,
    UnknownScheduleError,
    UnknownTaskError,
    WaitTimeoutError,
)
from ..store import refusal

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


class Failure(click.ClickException):
    """Ends a command with a sentence and an exit code."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = code  # type: ignore[misc]


class Commands(AppGroup):
    """A group whose commands end with the sentence of an error, not with its traceback, and without colour if NO_COLOR asks so."""

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except TaskQueueError as error:
            raise failure(error) from error
        except (KeyboardInterrupt, click.Abort) as stopped:
            if isinstance(stopped, click.Abort) and not isinstance(stopped.__context__, KeyboardInterrupt):
                raise
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


def failure(error: TaskQueueError) -> Failure:
    """The end of a command that an error means."""
    codes = [code for kind, code in _CODES.items() if isinstance(error, kind)]
    said = refusal(error)
    return Failure(f"{error}: {said}" if said else str(error), codes[0] if codes else FAILED)
