"""The URL that a test names."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask
from werkzeug.exceptions import HTTPException

from ..core.states import Record
from ..core.urls import leads_out
from ..web.parsed_rules import match
from ..web.routes import bound


@dataclass(frozen=True, slots=True)
class ExpectedUrl:
    """A URL, with any query unless it has one itself."""

    text: str

    def fits(self, record: Record) -> bool:
        """Return whether a task has this URL."""
        return self.text == (record.url if "?" in self.text else record.url.partition("?")[0])

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ExpectedRoute(ExpectedUrl):
    """A rule with variables, whatever their values are."""

    endpoint: str
    app: Flask

    def fits(self, record: Record) -> bool:
        """Return whether the view of this endpoint answers a task."""
        if leads_out(record.url, record.target):
            return False
        try:
            rule, _ = match(bound(self.app), record.url.partition("?")[0], record.method)
        except HTTPException:
            return False
        return bool(rule.endpoint == self.endpoint)
