"""A request as a curl command."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping


def curl(method: str, url: str, headers: Mapping[str, str], body: bytes) -> str:
    """Return a command for a POSIX shell that sends the request, byte for byte.

    >>> print(curl("POST", "http://localhost/w", {"X-A": "it's"}, b"a=1"))
    curl -X POST http://localhost/w -H 'X-A: it'"'"'s' --data-binary a=1
    """
    words = ["curl", "-X", method, url]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    if not body:
        return shlex.join(words)
    text = _text(body)
    if text is None or text.startswith("@"):  # which would name a file
        encoded = base64.b64encode(body).decode()
        return f"echo {encoded} | base64 -d | {shlex.join([*words, '--data-binary', '@-'])}"
    return shlex.join([*words, "--data-binary", text])


def _text(body: bytes) -> str | None:
    """Return a body as text if a terminal can show it; None otherwise."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return (
        text if all(character.isprintable() or character in "\n\t" for character in text) else None
    )
