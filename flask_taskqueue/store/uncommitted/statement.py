"""What the words of a statement show: whether it may write, or end a transaction or savepoint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from .functions import Names

_LONGEST = 20_000
_TOKEN = re.compile(
    r"""
      (?P<blank> \s+ | --(?=\s|\Z)[^\n]* | /\*(?!M?!)(?:(?!/\*|\*/).)*\*/ )
    | (?P<text> '[^'\\]*' )
    | (?P<quoted> "[^"\\]*" | `[^`\\]*` )
    | (?P<word> [^\W\d]\w* )
    | (?P<open> \( )
    | (?P<other> \d[\w.]* | -(?!-) | /(?!\*) | [),.;*=<>+%|?:\[\]&^~!@{}] )
    """,
    re.VERBOSE | re.DOTALL,
)
_FIRST = re.compile(r"(?:\s++|--[ \t][^\n]*+(?:\n|\Z))*+([a-z]+)", re.IGNORECASE)

CHANGES = {"insert", "update", "delete", "merge", "replace"}
_READS = {
    "select",
    "with",
    "values",
    "table",
    "show",
    "explain",
    "describe",
    "desc",
    "set",
    "reset",
    "use",
    "pragma",
}
_WRITING = CHANGES | {
    "into",
    "truncate",
    "call",
    "execute",
    "do",
    "load",
    "copy",
    "autocommit",
    "constraints",
    "statement",
}
"""Words that a statement which only reads does not have.

The exceptions are ``FOR UPDATE``, but not in MariaDB's ``SET STATEMENT … FOR UPDATE``, and the
function ``replace()``.
"""

_DEFINES = {"alter", "comment", "create", "drop", "grant", "revoke", "truncate"}


class StatementKind(Enum):
    """The kind of a statement, as far as its words show."""

    READ = "read"
    CHANGE = "change"
    """It changes rows, and the database counts how many."""
    SAVEPOINT = "savepoint"
    ROLLBACK_TO = "rollback to"
    RELEASE = "release"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    UNKNOWN = "unknown"
    """It may write; only the database knows."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, as far as its words show.

    ``name`` is the name of a savepoint, ``keyword`` the first word of another statement.
    """

    kind: StatementKind
    keyword: str = ""
    name: str = ""
    locks: bool = False
    """Whether it may lock rows."""
    writes: bool = False
    """Whether it has a word that writes."""
    is_temporary: bool = False
    """Whether it names something temporary."""
    ignores: bool = False
    """Whether it may go on after a row that fails (IGNORE)."""
    is_clear: bool = True
    """Whether all its words are known, so that it is one statement."""

    @property
    def defines(self) -> bool:
        """Whether it is about tables and the like, rather than their rows."""
        return self.keyword in _DEFINES

    @property
    def is_to_lock(self) -> bool:
        """Whether its words ask for locks, of rows or of tables."""
        return self.keyword == "lock" or (self.locks and self.kind is not StatementKind.UNKNOWN)


def read_statement(text: str, names: Names) -> Statement:
    """Return what kind of statement this is.

    ``names`` call nothing that writes, whatever functions the app has. An uncertain
    statement is `StatementKind.UNKNOWN`, for example because of comments and quotes that databases
    read differently.
    """
    return _read(text, names) if len(text) <= _LONGEST else _unclear(text, locks=True)


@lru_cache(maxsize=1024)
def _read(text: str, names: Names) -> Statement:
    words = list(_words(text, names))
    if not words or not all(word.text for word in words):
        return _unclear(text, locks=_keyword(text) not in _DEFINES)
    first = words[0].text
    if first in _TRANSACTIONS:
        return _of_transactions(first, [word.text for word in words])
    calls = any(word.calls for word in words)
    writes = any(word.writes for word in words)
    kind = StatementKind.UNKNOWN
    sets = first == "pragma" and "=" in text
    if not calls and not sets and (first in CHANGES or (first in _READS and not writes)):
        kind = StatementKind.CHANGE if first in CHANGES else StatementKind.READ
    locks = first not in _DEFINES and (calls or any(word.text == "for" for word in words))
    return Statement(
        kind,
        first,
        locks=locks,
        writes=writes,
        is_temporary=any(word.text == "temporary" for word in words),
        ignores=any(word.text == "ignore" for word in words),
    )


def _unclear(text: str, *, locks: bool) -> Statement:
    return Statement(
        StatementKind.UNKNOWN,
        _keyword(text),
        locks=locks,
        writes=True,
        is_temporary="temporary" in text.lower(),
        is_clear=False,
    )


def _keyword(text: str) -> str:
    found = _FIRST.match(text)
    return found[1].lower() if found else ""


_TRANSACTIONS = {
    "savepoint": StatementKind.SAVEPOINT,
    "release": StatementKind.RELEASE,
    "begin": StatementKind.BEGIN,
    "start": StatementKind.BEGIN,
    "commit": StatementKind.COMMIT,
    "end": StatementKind.COMMIT,
    "rollback": StatementKind.ROLLBACK,
    "abort": StatementKind.ROLLBACK,
}


@dataclass(slots=True)
class _Word:
    text: str
    calls: bool = False
    writes: bool = False
    names: bool = False
    """Whether a table is named here, so that its columns may follow in parentheses."""


def _words(text: str, names: Names) -> Iterator[_Word]:
    """Yield the words outside of comments and quotes; an empty one if that is uncertain."""
    word, place, adjacent = _Word(""), 0, False
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None or (token["other"] == ";" and text[token.end() :].strip()):
            yield _Word("")
            return
        place = token.end()
        kind = token.lastgroup
        if kind in ("word", "quoted"):
            if word.text:
                yield word
            word = _next_word(token, word)
        elif kind == "open" and adjacent:
            touches = text[token.start() - 1].isalnum()
            word.calls = not (word.names or names.cannot_write(word.text, touches=touches))
            word.writes &= word.text != "replace"
        adjacent = kind in ("word", "quoted") or (kind == "blank" and adjacent)
    if word.text:
        yield word


def _next_word(token: re.Match[str], before: _Word) -> _Word:
    quoted = token.lastgroup == "quoted"
    dotted = token.string[: token.start()].endswith(".") if token.start() else False
    text = token[0] if quoted or dotted else token[0].lower()
    names = before.names if dotted else before.text == "into"
    writes = (
        text in _WRITING and not dotted and not (text == "update" and before.text in ("for", "key"))
    )
    return _Word(f".{text}" if dotted else text, writes=writes, names=names)


def _of_transactions(first: str, words: list[str]) -> Statement:
    """Return a statement that begins or ends a savepoint or the transaction."""
    kind = _TRANSACTIONS[first]
    if kind is StatementKind.ROLLBACK and "to" in words:
        kind = StatementKind.ROLLBACK_TO
    named = (
        kind in (StatementKind.SAVEPOINT, StatementKind.RELEASE, StatementKind.ROLLBACK_TO)
        and len(words) > 1
    )
    return Statement(kind, first, name=words[-1].strip('"`').lower() if named else "")
