"""A finding: something that operators of the app should know about its surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, in a sentence, and what to do about it.

    An error means that something is refused or does not work, a warning that it may not; "info" is
    shown on request, "ok" says that all is well. ``anchor`` is the place in the documentation, as
    page and label.
    """

    level: Level
    text: str
    remedy: str = ""
    anchor: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text
