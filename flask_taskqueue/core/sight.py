"""Sight: how much of a task's URL somebody sees."""

from __future__ import annotations

from dataclasses import dataclass

from .redaction import Redaction
from .urls import redacted


@dataclass(frozen=True, slots=True)
class Sight:
    """What is shown of URLs: with their queries, but for values whose names hold one of ``redact``, or the path alone."""

    queries: bool
    redact: tuple[str, ...]

    def url(self, url: str) -> str:
        """A URL as it is seen."""
        return Redaction(self.redact).url(url) if self.queries else redacted(url)
