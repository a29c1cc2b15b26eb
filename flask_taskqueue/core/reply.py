"""What goes out and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .urls import redacted


@dataclass(frozen=True, slots=True, repr=False)
class OutgoingRequest:
    """A request as a transport sends it. ``url`` is absolute, or a path for the wsgi transport."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Without what the task holds: a repr ends up in logs."""
        return f"<OutgoingRequest {self.method} {redacted(self.url)}>"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``kind`` is "reply" when a whole answer came; ``error`` says in a sentence, without secrets, why none did."""

    status: int | None
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)
    """Up to the cap of the transport."""
    truncated: bool = False
    error: str | None = None
    kind: Literal["reply", "timeout", "connection", "tls", "refused"] = "reply"
    severed: bool = False
    """Whether a connection that had been kept broke before a byte of a reply came, so that the request may never have been read."""
