"""A finding: something about the surroundings that whoever runs the application should know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, in a sentence, and what to do about it. With an error something is refused, with a warning nothing is."""

    level: Literal["warning", "error"]
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"
