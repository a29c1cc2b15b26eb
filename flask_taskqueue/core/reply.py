"""What goes out and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request as a transport sends it. ``url`` is absolute, or a path for the wsgi transport."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``kind`` is "reply" when a whole answer came; ``error`` says in a sentence, without secrets, why none did."""

    status: int | None
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Up to the cap of the transport."""
    truncated: bool = False
    error: str | None = None
    kind: Literal["reply", "timeout", "connection", "tls", "refused"] = "reply"
