"""JSON that reads back as the value it was made from; any other value is refused.

Refused are texts that are not Unicode, numbers that are not finite, and keys that would become
other keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 100
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"?')


def dumps(value: Any) -> str:
    """Return a value as JSON.

    Raises TypeError or ValueError for a value that JSON does not have, or that not every reader
    would read.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\ud" in text:
        _check_texts(value)
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    return text


def document(value: Any) -> bytes:
    """Return the body that ``json=`` asks for.

    It reads back as the value that was given, except that tuples become lists. Raises TypeError or
    ValueError, with a reason, for a value that would be read as another one.
    """
    text = dumps(value)
    if json.loads(text) != value:
        _check_keys(value)
    return text.encode()


def shown_json(text: str | bytes | None, kind: type[Any]) -> Any:
    """Return the object or list that a row's text holds, to be shown; an empty one without it.

    So it is for a text that somebody has written by hand: its task is dead with the reason, and
    must not keep its page, or a list, from being shown.
    """
    try:
        found = json.loads(text or "")
    except (ValueError, TypeError, RecursionError):
        return kind()
    return found if type(found) is kind else kind()


def _check_texts(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text in it holds half of a surrogate pair, which is no text") from None


def _check_depth(text: str) -> None:
    depth = 0
    for mark in re.sub(r"[^\[\]{}]", "", _TEXT.sub("", text)):
        depth += 1 if mark in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def _check_keys(value: Any) -> None:
    if isinstance(value, Mapping):
        if hasattr(value, "getlist"):
            raise TypeError(
                f"a {type(value).__name__} may have several values by a name: give it as "
                "params, or its to_dict(flat=False)"
            )
        for key in value:
            if not isinstance(key, str):
                raise TypeError(
                    f"an object has a key of type {type(key).__name__}, which JSON would "
                    "make a text: use texts as keys"
                )
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for member in value:
        _check_keys(member)
