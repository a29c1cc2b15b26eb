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
        """Return whether this endpoint answers a task."""
        return endpoint_of(self.app, record) == self.endpoint


def endpoint_of(app: Flask, record: Record) -> str | None:
    """Return the endpoint of an app that answers a task; None if none does."""
    if leads_out(record.url, record.target):
        return None
    try:
        rule, _ = match(bound(app), record.url.partition("?")[0], record.method)
    except HTTPException:
        return None
    endpoint: str = rule.endpoint
    return endpoint
