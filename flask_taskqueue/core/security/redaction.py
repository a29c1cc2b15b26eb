"""Redaction: values that are never shown, chosen by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from ..urls import redacted

HIDDEN = "\N{BULLET}" * 3
_FORM = "application/x-www-form-urlencoded"
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

        Hidden values are removed from a form or JSON, and JSON is indented; any other text stays as
        it is. JSON that is nested too deeply to look through is hidden as a whole.
        """
        text = _text(body)
        if text is None:
            return None
        if content_type.startswith(_FORM):
            return self._form(text)
        if content_type.startswith("multipart/"):  # its fields may have names that are hidden
            return HIDDEN
        try:
            document = _json(text, content_type)
            return text if document is None else _dumped(self._walk(document, None), indent=2)
        except RecursionError:
            return HIDDEN

    def line(self, body: bytes, content_type: str) -> str | None:
        """Return a body as the arguments of a call, in one line of at most 160 characters.

        Values are hidden as in `body`. Returns None for a body that is not text, or that is longer
        than `READ_FOR_LINE`.
        """
        text = None if len(body) > READ_FOR_LINE else _text(body)
        if text is None:
            return None
        if content_type.startswith(_FORM):
            shown = ", ".join(map(unquote_plus, self._form(text).split("&")))
        elif content_type.startswith("multipart/"):
            shown = HIDDEN
        else:
            shown = self._call(text, content_type)
        plain = " ".join("".join(char if char.isprintable() else " " for char in shown).split())
        return plain if len(plain) <= _LINE else f"{plain[: _LINE - 1]}…"

    def _call(self, text: str, content_type: str) -> str:
        """Return the members of a JSON object as arguments; any other text stays as it is."""
        try:
            document = _json(text, content_type)
            found = self._walk(document, None)
            if not isinstance(found, dict):
                return text if document is None else _dumped(found)
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
        original = _text(body) or ""
        if content_type.startswith(_FORM):
            return self._restored_form(edited, original).encode()
        try:
            before = _json(original, content_type)
            if before is None:
                return edited.encode()
            return _dumped(_filled(_loads(edited), before)).encode()
        except RecursionError as error:
            raise ValueError("the document is nested too deeply") from error

    def _form(self, text: str) -> str:
        """Replace a form's hidden values pair by pair, so that nothing else changes."""
        return "&".join(
            name + "=" + HIDDEN if mark and self.hides(unquote_plus(name)) else name + mark + value
            for name, mark, value in _pairs(text)
        )

    def _restored_form(self, edited: str, original: str) -> str:
        known: dict[str, list[str]] = {}
        for name, _, value in _pairs(original):
            known.setdefault(name, []).append(value)
        return "&".join(
            name + mark + (known[name].pop(0) if value == HIDDEN and known.get(name) else value)
            for name, mark, value in _pairs(edited.strip())
        )

    def _walk(self, value: Any, name: object) -> Any:
        if name is not None and self.hides(name) and value is not None:
            return HIDDEN
        if isinstance(value, dict):
            return {key: self._walk(member, key) for key, member in value.items()}
        return [self._walk(member, None) for member in value] if isinstance(value, list) else value


def _pairs(text: str) -> list[tuple[str, str, str]]:
    return [pair.partition("=") for pair in text.split("&")] if text else []


def _text(body: bytes) -> str | None:
    try:
        return bytes(body).decode()
    except UnicodeDecodeError:
        return None


def _json(text: str, content_type: str) -> Any:
    """Return the document of a text that claims to be JSON; None for any other text."""
    if "json" not in content_type.lower():
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
