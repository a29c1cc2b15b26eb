"""Redaction: values that are never shown, chosen by their names."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from ..urls import redacted

HIDDEN = "\N{BULLET}" * 3
_FORM = "application/x-www-form-urlencoded"
_PLAIN_NAME = re.compile(r"[\w.+%\[\]-]+")
_ESCAPE = re.compile(
    r"%([0-9a-f]{2})|\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|&#x0*([0-9a-f]{1,6});|&#0*([0-9]{1,7});",
    re.I,
)
"""A character as URLs, JSON, YAML, XML and HTML escape it."""
_LABELS, _VALUES = ("name", "key", "field", "header"), ("value", "values", "val", "content")
"""The members of an object that name a value, and those that have it."""
_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"
_MARKED = re.compile(f'"{_MARK}([^"]*){_MARK}"')

READ_FOR_LINE = 16_384
"""The most bytes of a body that `Redaction.line` reads."""
_LINE = 160


@dataclass(frozen=True, slots=True)
class Redaction:
    """A filter that hides the values whose names contain one of ``parts``, in any case."""

    parts: tuple[str, ...]

    def hides(self, name: object) -> bool:
        """Return whether a value with this name is hidden."""
        return any(part.lower() in str(name).lower() for part in self.parts)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers as they may be shown."""
        return {name: HIDDEN if self.hides(name) else value for name, value in headers.items()}

    def url(self, url: str) -> str:
        """Return a URL as it may be shown.

        Hidden values are removed from its query, and user information from its host.
        """
        path, mark, query = url.partition("?")
        scheme, separator, rest = path.partition("://")
        host, slash, place = rest.partition("/")
        shown = f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{place}" if separator else path
        return shown + mark + self._form(query)

    def body(self, body: bytes, content_type: str) -> str | None:
        """Return a body as it may be shown; None if it is not text.

        Hidden values are removed from a form or JSON, and JSON is indented. Any other text,
        malformed JSON too, cannot be looked through: it is `HIDDEN` as a whole if a name that is
        hidden may be in it, and otherwise stays as it is. So is JSON that is nested too deeply.
        """
        text = _text(body)
        if text is None:
            return None
        kind = _media_type(content_type)
        if kind == _FORM:
            return self._form(text)
        try:
            document = _json(text, kind)
            if document is not None:
                return _dumped(self._walk(document, None), indent=2)
        except RecursionError:
            return HIDDEN
        return HIDDEN if self._may_hold(text, kind) else text

    def line(self, body: bytes, content_type: str) -> str | None:
        """Return a body as the arguments of a call, in one line of at most 160 characters.

        Values are hidden as in `body`. Returns None for a body that is not text, or that is longer
        than `READ_FOR_LINE`.
        """
        text = None if len(body) > READ_FOR_LINE else _text(body)
        if text is None:
            return None
        kind = _media_type(content_type)
        if kind == _FORM:
            shown = ", ".join(map(unquote_plus, self._form(text).split("&")))
        else:
            shown = self._call(text, kind)
        plain = " ".join("".join(char if char.isprintable() else " " for char in shown).split())
        return plain if len(plain) <= _LINE else f"{plain[: _LINE - 1]}…"

    def _call(self, text: str, kind: str) -> str:
        """Return the members of a JSON object as arguments, any other text as it may be shown."""
        try:
            document = _json(text, kind)
            found = self._walk(document, None)
            if document is None:
                return HIDDEN if self._may_hold(text, kind) else text
            if not isinstance(found, dict):
                return _dumped(found)
            return ", ".join(
                f"{name}={value if value == HIDDEN else _dumped(value)}"
                for name, value in found.items()
            )
        except RecursionError:
            return HIDDEN

    def restore(self, edited: str, body: bytes, content_type: str) -> bytes:
        """Return the body of an edited text; values still hidden in it are taken from ``body``.

        Raises ValueError for JSON that is malformed, or nested too deeply.
        """
        if edited == self.body(body, content_type):
            return body
        original, kind = _text(body) or "", _media_type(content_type)
        if kind == _FORM:
            return self._restored_form(edited, original).encode()
        try:
            before = _json(original, kind)
            if before is None:
                return edited.encode()
            return _dumped(_filled(_loads(edited), before)).encode()
        except RecursionError as error:
            raise ValueError("the document is nested too deeply") from error

    def _form(self, text: str) -> str:
        """Replace a form's hidden values pair by pair, so that nothing else changes."""
        return "&".join(self._pair(*pair) for pair in _pairs(text))

    def _pair(self, name: str, mark: str, value: str) -> str:
        """Return a pair as it may be shown, without a name that is itself more than a name."""
        if self.hides(unquote_plus(name)):
            return f"{name}={HIDDEN}" if mark and _PLAIN_NAME.fullmatch(name) else HIDDEN
        return f"{name}={HIDDEN}" if self._is_veiled(unquote_plus(value)) else name + mark + value

    def _restored_form(self, edited: str, original: str) -> str:
        known: dict[str, list[str]] = {}
        for pair in _pairs(original):
            known.setdefault(self._pair(*pair), []).append("".join(pair))
        return "&".join(
            known[shown].pop(0) if known.get(shown) else shown
            for shown in map("".join, _pairs(edited.strip()))
        )

    def _walk(self, value: Any, name: object) -> Any:
        if name is not None and self.hides(name) and value is not None:
            return HIDDEN
        if isinstance(value, dict):
            labelled = any(self._is_hidden_name(value.get(label)) for label in _LABELS)
            return {
                key: HIDDEN if labelled and key in _VALUES else self._walk(member, key)
                for key, member in value.items()
            }
        if isinstance(value, list):
            if len(value) == 2 and self._is_hidden_name(value[0]):
                return [value[0], HIDDEN]
            return [self._walk(member, None) for member in value]
        return HIDDEN if isinstance(value, str) and self._is_veiled(value) else value

    def _is_hidden_name(self, value: object) -> bool:
        """Return whether a value is itself the name of a hidden one, beside which that stands."""
        return isinstance(value, str) and bool(_PLAIN_NAME.fullmatch(value)) and self.hides(value)

    def _is_veiled(self, value: str) -> bool:
        """Return whether a value is a document of its own that may hold what is hidden."""
        return value.lstrip("\ufeff \t\r\n")[:1] in ("{", "[", "<") and self._may_hold(value)

    def _may_hold(self, text: str, kind: str = "") -> bool:
        """Return whether a name that is hidden may be in a text, escaped too.

        The names of a multipart body can be in pieces, so it always may.
        """
        if kind.startswith("multipart/"):
            return bool(self.parts)
        return self.hides(text) or self.hides(_ESCAPE.sub(_character, text))


def _pairs(text: str) -> list[tuple[str, str, str]]:
    return [pair.partition("=") for pair in text.split("&")] if text else []


def _character(escape: re.Match[str]) -> str:
    code = int(escape[5]) if escape[5] else int(next(filter(None, escape.groups())), 16)
    return chr(code) if code <= sys.maxunicode else escape[0]


def _media_type(content_type: str) -> str:
    """Return the media type of a Content-Type in lower case, because it has no case."""
    return content_type.partition(";")[0].strip().lower()


def _text(body: bytes) -> str | None:
    """Return a body's text; None if it is not UTF-8, or holds a NUL, as UTF-16 does."""
    try:
        text = bytes(body).decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _json(text: str, kind: str) -> Any:
    """Return the document of a text that claims to be JSON; None for any other text."""
    if "json" not in kind:
        return None
    try:
        return _loads(text)
    except ValueError:
        return None


def _loads(text: str) -> Any:
    """Read JSON whose numbers keep their digits, because no float is read and written again."""
    return json.loads(text, parse_float=_marked, parse_int=_marked, parse_constant=_marked)


def _marked(digits: str) -> str:
    return f"{_MARK}{digits}{_MARK}"


def _dumped(document: Any, indent: int | None = None) -> str:
    separators = (",", ": ") if indent else (",", ":")
    return _MARKED.sub(
        r"\1", json.dumps(document, indent=indent, separators=separators, ensure_ascii=False)
    )


def _filled(edited: Any, original: Any) -> Any:
    if edited == HIDDEN:
        return original
    if isinstance(edited, dict) and isinstance(original, dict):
        return {key: _filled(value, original.get(key, HIDDEN)) for key, value in edited.items()}
    if isinstance(edited, list) and isinstance(original, list):
        return [
            _filled(value, original[place] if place < len(original) else HIDDEN)
            for place, value in enumerate(edited)
        ]
    return edited


@dataclass(frozen=True, slots=True)
class UrlRedaction:
    """How much of a URL is shown.

    With ``queries`` that includes the query, without values whose names contain one of ``redact``;
    otherwise it is the path alone.
    """

    queries: bool
    redact: tuple[str, ...]

    def url(self, url: str) -> str:
        """Return a URL as it is shown."""
        return Redaction(self.redact).url(url) if self.queries else redacted(url)
