"""Places in a thread's work where an exception from outside would lose what it holds for good.

What it holds may be a lock, a permit or a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FrameType

_WHOLE = ("threading", "queue", "concurrent.futures", "sqlalchemy.pool", "sqlalchemy.util.queue")
"""Modules that leave what others wait for half done when they are interrupted."""
_TURNS = frozenset(
    (
        "acquire",
        "release",
        "__enter__",
        "__exit__",
        "__del__",
        "_acquireLock",
        "_releaseLock",
        "acquire_lock",
        "release_lock",
    )
)
"""Functions that begin or end what is held: between the two it does not show who holds it."""
_BY_HAND = ("logging", "importlib")
"""Packages whose functions call those before and behind a ``try``."""


def may_be_interrupted(frame: FrameType, outermost: CodeType, called: str = "") -> bool:
    """Whether an exception may be raised where a thread is, down to the ``outermost`` function of
    what is interrupted.

    A wait for a condition may be: `threading` has it restore what it had. Where something
    ``called`` has just returned, its name tells whether it was a turn.
    """
    if _waits(frame):
        return True
    if called in _TURNS:
        return False
    if (
        _is_of(frame, _BY_HAND)
        and not _TURNS.isdisjoint(frame.f_code.co_names)
        and not _is_in_try(frame)
    ):
        return False
    return not any(
        one.f_code.co_name in _TURNS or _is_whole(one) for one in stack(frame, outermost)
    )


def protection(code: CodeType, place: int) -> int | None:
    """Where an exception that is raised at a place of a function leads, if not out of it."""
    return next(
        (
            target
            for start, end, target in _protected(code.co_exceptiontable)
            if start <= place < end
        ),
        None,
    )


def stack(frame: FrameType | None, outermost: CodeType) -> Iterator[FrameType]:
    """The calls that a thread is in, from the innermost, without the ``outermost`` and what
    called that.
    """
    while frame is not None and frame.f_code is not outermost:
        yield frame
        frame = frame.f_back


def find(frame: FrameType | None, code: CodeType) -> FrameType | None:
    """The innermost call of a function that a thread is in."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame


def _waits(frame: FrameType) -> bool:
    """Whether it is `threading.Condition.wait`, at the point where the lock is let go and is
    going to be taken again.
    """
    return (
        frame.f_code.co_name == "wait"
        and _is_of(frame, ("threading",))
        and "saved_state" in frame.f_locals
        and _is_in_try(frame)
    )


def _is_whole(frame: FrameType) -> bool:
    """Whether it is a function that must run to its end; those of `threading` that only look
    (``is_set``) have no ``with`` nor ``try``.
    """
    return _is_of(frame, _WHOLE) and not (
        _is_of(frame, ("threading",)) and not frame.f_code.co_exceptiontable
    )


def _is_of(frame: FrameType, modules: tuple[str, ...]) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return any(name == one or name.startswith(f"{one}.") for one in modules)


def _is_in_try(frame: FrameType) -> bool:
    """Whether what the frame does now is within a ``try`` or ``with`` of its own, by the table
    of its code.
    """
    return protection(frame.f_code, frame.f_lasti) is not None


def _protected(table: bytes) -> Iterator[tuple[int, int, int]]:
    """The ranges of bytecode of an exception table, and where they lead.

    Four numbers an entry (start, length, target, depth), in words of two bytes.
    """
    numbers = iter(table)
    for first in numbers:
        start = _number(first, numbers)
        length, target, _depth = (_number(next(numbers), numbers) for _ in range(3))
        yield 2 * start, 2 * (start + length), 2 * target


def _number(first: int, rest: Iterator[int]) -> int:
    """A number of six bits a byte, the highest first; a byte with 64 has another behind it."""
    value = first & 63
    while first & 64:
        first = next(rest)
        value = value << 6 | first & 63
    return value
