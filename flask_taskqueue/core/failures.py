"""Failures: attempts that failed, grouped by what they have in common, and their tracebacks."""

from __future__ import annotations

import hashlib
import re
import string
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from .states import State
from .urls import MAX_LENGTH, redacted

REASONS = ("failure", "timeout", "connection", "tls", "crash", "permanent")
"""The reason for which an attempt failed.

It is a reply that is not a success, no reply in time, no connection, no trust, a process that died,
or a refusal.
"""

_GAVE_UP = " (gave up after "
_VARYING = re.compile(
    r"""'[^']*'|"[^"]*"|(?<![0-9A-Za-z_-])[A-Za-z_-]*[0-9][0-9A-Za-z_-]*""", re.ASCII
)
"""A quoted text, or a whole run of letters, digits and hyphens in which a digit is."""
_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+")
_NO_DIGITS = "-_" + string.ascii_letters
_LONGEST = 200
_IDENTIFIER = 8
"""The fewest letters and digits with which an identifier begins."""

_HOST = re.compile(
    r"""://(?:[^\s/?#@'"]*@)?([^\s/?#@'"]+)|\bhost=['"]([^'"]*)['"]|\b([0-9]{1,3}(?:\.[0-9]{1,3}){3})\b""",
    re.ASCII,
)
"""The host of a URL with its port, a host as urllib3 reports it, or an address."""


class Failure(NamedTuple):
    """A failed attempt, with what is shown of its task; ``finished_at`` is in microseconds."""

    task_id: str
    number: int
    reason: str
    status: int | None
    error: str | None
    finished_at: int
    queue: str
    url: str
    state: str
    target: str | None = None


class Signature(NamedTuple):
    """What failures of one kind have in common."""

    queue: str
    path: str
    reason: str
    status: int | None
    text: str
    hosts: tuple[str, ...] = ()
    """The hosts that the error names."""

    @property
    def id(self) -> str:
        """A short name, the same in every process."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:16]

    @classmethod
    def of(cls, failure: Failure) -> Signature:
        """Return the signature of a failure.

        Numbers, quoted texts and identifiers in its error and path do not count.
        """
        error = unending(failure.error or "")[: 2 * _LONGEST]
        path = destination_of(failure.url, failure.target)
        text = " ".join(_alike(error).split())[:_LONGEST]
        return cls(failure.queue, path, failure.reason, failure.status, text, _hosts(error))


@dataclass(slots=True)
class Group:
    """Failures with one signature; ``error`` and ``last_task`` are those of the latest one.

    ``tasks`` maps the ids of tasks whose last failure is in this group to their states, the latest
    first. A task that failed in several ways is only in the group of its last failure, but each of
    its attempts counts in its own group.
    """

    signature: Signature
    error: str
    last_task: str
    first_at: int
    last_at: int
    count: int
    tasks: dict[str, str]

    @property
    def dead(self) -> list[str]:
        """The tasks that gave up."""
        return [task for task, state in self.tasks.items() if state == State.DEAD]

    @property
    def retrying(self) -> list[str]:
        """The tasks that are tried again."""
        return [task for task, state in self.tasks.items() if state == State.SCHEDULED]


def group(failures: Iterable[Failure]) -> list[Group]:
    """Return the groups of some failures; both are sorted with the latest first."""
    groups: dict[Signature, Group] = {}
    seen: set[str] = set()
    for failure in failures:
        signature = Signature.of(failure)
        found = groups.get(signature)
        if found is None:
            error = unending(failure.error or failure.reason)
            found = groups[signature] = Group(
                signature, error, failure.task_id, failure.finished_at, failure.finished_at, 0, {}
            )
        found.count += 1
        found.first_at = min(found.first_at, failure.finished_at)
        if failure.task_id not in seen:
            seen.add(failure.task_id)
            found.tasks[failure.task_id] = failure.state
    return list(groups.values())


def destination_of(url: str, target: str | None) -> str:
    """Return where requests of one kind were sent.

    Host and port stay as they are; the varying parts of the path are replaced, and the query is
    left out.
    """
    scheme, mark, rest = redacted(f"{target or ''}{url[:MAX_LENGTH]}").partition("://")
    if not mark:
        return _alike(scheme)
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host}{slash}{_alike(path)}"


def _hosts(error: str) -> tuple[str, ...]:
    """Return the hosts that an error names, because failures of different hosts are different."""
    return tuple(sorted({next(filter(None, found), "") for found in _HOST.findall(error)}))


def unending(error: str) -> str:
    """Return an error without the words that say that its task gave up."""
    text, mark, rest = error.rpartition(_GAVE_UP)
    return text if mark and rest.endswith((" attempt)", " attempts)")) else error


def _alike(text: str) -> str:
    """Return a text with ``*`` in place of its varying parts.

    Strangers can send the text, so the time this takes only grows in proportion to its length.
    """
    return _VARYING.sub(
        lambda found: "*" if found[0][0] in "'\"" else _without_identifier(found[0]), text
    )


def _without_identifier(run: str) -> str:
    """Return a run of letters, digits and hyphens without its numbers and its identifier.

    An identifier is a long part that contains a digit or is followed by one; the run is cut where
    the identifier begins.
    """
    if "_" not in run:
        begin, last = 0, len(run.rstrip(_NO_DIGITS)) - 1
        for part in run.split("-"):
            if len(part) >= _IDENTIFIER and begin <= last:
                return f"{_NUMBER.sub('*', run[:begin])}*"
            begin += len(part) + 1
    return _NUMBER.sub("*", run)


_WAY_THERE = frozenset({"flask_taskqueue", "flask", "werkzeug"})
"""The packages whose frames only lead to the app's own code, and explain nothing."""

_LONGEST_LINE = 500


def traceback_excerpt(error: BaseException, most: int) -> str | None:
    """Return the end of an error's traceback, in whole lines of at most ``most`` characters in all.

    It begins at the first frame of the app's own code. It holds what Python prints: lines of source
    and the texts of exceptions, but no values of variables. Returns None if no traceback is to be
    kept, or none can be written.
    """
    if not most:
        return None
    try:
        written = traceback.TracebackException(
            type(error), error, _of_app(error.__traceback__), compact=True
        )
        texts = list(written.format())
    except Exception:  # noqa: BLE001 - one that cannot be printed must not change what became of the attempt
        return None
    kept: list[str] = []
    room = most
    for text in _lines_from_end(texts, most):
        line = printable(text, _LONGEST_LINE)
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join(reversed(kept)) or None


def _lines_from_end(texts: list[str], most: int) -> Iterator[str]:
    """Iterate over the last lines of these texts, at least ``most`` of them, the last one first.

    The text of an error may have millions.
    """
    for text in reversed(texts):
        for part in reversed(text.removesuffix("\n").rsplit("\n", most)):
            yield from reversed(part.splitlines() or [""])


def _of_app(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the app's first frame on, or all of it if it has no such frame."""
    inner = trace
    while (
        inner is not None
        and str(inner.tb_frame.f_globals.get("__name__")).partition(".")[0] in _WAY_THERE
    ):
        inner = inner.tb_next
    return inner or trace


def printable(text: str, most: int) -> str:
    """Return the beginning of a text as one line that can be stored and shown anywhere."""
    return "".join(character if character.isprintable() else " " for character in text[:most])
