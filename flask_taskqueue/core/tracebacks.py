"""Tracebacks: of what a handler raised, as they are kept."""

from __future__ import annotations

import traceback
from types import TracebackType

_WAY_THERE = frozenset({"flask_taskqueue", "flask", "werkzeug"})
"""Packages whose frames lead to the app's own code, and say nothing."""

_LONGEST_LINE = 500


def told(error: BaseException, most: int) -> str | None:
    """The traceback of an error, from the first frame of the app's own on: its end, in whole lines of together at most so many characters.

    It holds what Python prints: lines of source and the texts of exceptions, no values of variables.
    None where none is to be kept, or there is none that could be written.
    """
    if not most:
        return None
    try:
        written = traceback.TracebackException(type(error), error, _of_app(error.__traceback__), compact=True)
        lines = [_clean(line) for text in written.format() for line in text.splitlines()]
    except Exception:  # noqa: BLE001 - one that cannot be printed must not change what became of the attempt
        return None
    kept: list[str] = []
    room = most
    for line in reversed(lines):
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join(reversed(kept)) or None


def _of_app(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames that lead to the app's own; whole where it has none."""
    inner = trace
    while inner is not None and str(inner.tb_frame.f_globals.get("__name__")).partition(".")[0] in _WAY_THERE:
        inner = inner.tb_next
    return inner or trace


def _clean(line: str) -> str:
    """A line that can be stored and shown."""
    return "".join(character if character.isprintable() else " " for character in line[:_LONGEST_LINE])
