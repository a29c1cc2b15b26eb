"""Places where an exception from outside would lose what a thread holds for good.

What it holds may be a lock, a permit or a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FrameType

_WHOLE = ("threading", "queue", "concurrent.futures", "sqlalchemy.pool", "sqlalchemy.util.queue")
"""Modules that leave half done what others wait for when they are interrupted."""
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
"""Functions that take or release what is held: within them nothing shows who holds it."""
_BY_HAND = ("logging", "importlib")
"""Packages whose functions call those just before and after a ``try``."""


def may_be_interrupted(frame: FrameType, outermost: CodeType, called: str = "") -> bool:
    """Return whether an exception may be raised where a thread is.

    All calls down to the ``outermost`` function of what is interrupted count. A wait for a
    condition may be interrupted, because `threading` then restores what it held. Where something
    ``called`` has just returned, its name tells whether it took or released something.
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
        outer.f_code.co_name in _TURNS or _is_whole(outer) for outer in stack(frame, outermost)
    )


def protection(code: CodeType, place: int) -> int | None:
    """Return where an exception raised at ``place`` leads within ``code``, or None if out of it."""
    return next(
        (
            target
            for start, end, target in _protected(code.co_exceptiontable)
            if start <= place < end
        ),
        None,
    )


def stack(frame: FrameType | None, outermost: CodeType) -> Iterator[FrameType]:
    """Yield the calls that a thread is in, from the innermost.

    The ``outermost`` call is left out, and so is what called that.
    """
    while frame is not None and frame.f_code is not outermost:
        yield frame
        frame = frame.f_back


def find(frame: FrameType | None, code: CodeType) -> FrameType | None:
    """Return the innermost call of a function that a thread is in, or None."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame


def _waits(frame: FrameType) -> bool:
    """Return whether a frame is in `threading.Condition.wait` with its lock released.

    It is where the lock has been let go and is going to be taken again.
    """
    return (
        frame.f_code.co_name == "wait"
        and _is_of(frame, ("threading",))
        and "saved_state" in frame.f_locals
        and _is_in_try(frame)
    )


def _is_whole(frame: FrameType) -> bool:
    """Return whether a frame belongs to a function that must run to its end.

    The functions of `threading` that only look (``is_set``) have neither ``with`` nor ``try``, and
    need not.
    """
    return _is_of(frame, _WHOLE) and not (
        _is_of(frame, ("threading",)) and not frame.f_code.co_exceptiontable
    )


def _is_of(frame: FrameType, modules: tuple[str, ...]) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in modules)


def _is_in_try(frame: FrameType) -> bool:
    """Return whether a frame is within a ``try`` or ``with`` of its own function.

    The exception table of its code tells.
    """
    return protection(frame.f_code, frame.f_lasti) is not None


def _protected(table: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the ranges of bytecode of an exception table, and where they lead.

    Each entry is four numbers (start, length, target, depth), in words of two bytes.
    """
    numbers = iter(table)
    for first in numbers:
        start = _number(first, numbers)
        length, target, _depth = (_number(next(numbers), numbers) for _ in range(3))
        yield 2 * start, 2 * (start + length), 2 * target


def _number(first: int, rest: Iterator[int]) -> int:
    """Return a number of six bits a byte, the highest first.

    A byte with the bit 64 has another behind it.
    """
    value = first & 63
    while first & 64:
        first = next(rest)
        value = value << 6 | first & 63
    return value
