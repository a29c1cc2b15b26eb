"""The task that a test expects, and how stored tasks differ from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from werkzeug.http import parse_options_header

from ..core.json_text import shown_json
from ..core.states import Record
from ..core.tasks.request import FORM, JSON
from ..core.times import duration_micros, to_datetime, to_micros
from .expected_url import ExpectedUrl

_TOLERANCE = 1_000_000
"""Microseconds by which an eta may differ."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTask:
    """A test's expectation of a task; None leaves a field open.

    ``params`` must be among those of the task.
    """

    url: ExpectedUrl | None = None
    params: Mapping[str, Any] | None = None
    queue: str | None = None
    name: str | None = None
    state: str | None = None
    eta: datetime | timedelta | None = None

    def differences(self, record: Record) -> list[str]:
        """Say in words how a task differs from what is expected."""
        differences = (
            [] if self.url is None or self.url.fits(record) else [f"url is {record.url!r}"]
        )
        differences += [
            f"{field} is {actual!r}"
            for field, actual in (
                ("queue", record.queue),
                ("name", record.name),
                ("state", record.state),
            )
            if getattr(self, field) not in (None, actual)
        ]
        if self.params is not None:
            differences += _params_differ(self.params, record)
        if self.eta is not None and not _is_eta(self.eta, record):
            differences.append(f"eta is {to_datetime(record.eta).isoformat()}")
        return differences

    def __str__(self) -> str:
        parts = [
            f"{field}={value!r}"
            for field, value in (
                ("url", None if self.url is None else str(self.url)),
                ("queue", self.queue),
                ("name", self.name),
                ("state", self.state),
            )
            if value is not None
        ]
        parts[1:1] = [] if self.params is None else [f"params⊇{dict(self.params)!r}"]
        return " ".join(parts + ([] if self.eta is None else [f"eta={self.eta!s}"])) or "anything"


def params_of(record: Record) -> dict[str, Any]:
    """Return a task's parameters: its JSON object, or those of its form and query.

    The values of a form are texts; a parameter given twice has a list of them. A body that is not
    what its Content-Type says has none.
    """
    headers = {name.lower(): value for name, value in json.loads(record.headers or "{}").items()}
    kind = parse_options_header(headers.get("content-type"))[0].lower()
    if kind == JSON or (kind.startswith("application/") and kind.endswith("+json")):
        params: dict[str, Any] = shown_json(record.body, dict)
        return params
    query = record.url.partition("?")[2]
    form = record.body.decode("utf-8", "replace") if kind == FORM else ""
    values = parse_qs("&".join(filter(None, (query, form))), keep_blank_values=True)
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in values.items()}


def shown(record: Record) -> str:
    """Describe a task in one line."""
    return (
        f"{record.url.partition('?')[0]} params={params_of(record)!r} (queue {record.queue}, "
        f"{record.state})"
    )


def closest(expected: ExpectedTask, records: Sequence[Record]) -> list[str]:
    """Describe the closest tasks, a line each, with how they differ."""
    ranked = sorted(
        records,
        key=lambda record: (
            expected.url is not None and not expected.url.fits(record),
            _distance(expected, record),
        ),
    )
    return [
        f"{shown(record)}: {', '.join(expected.differences(record)) or 'as expected'}"
        for record in ranked[:_SHOWN]
    ]


def _distance(expected: ExpectedTask, record: Record) -> int:
    return len(expected.differences(record))


def _params_differ(params: Mapping[str, Any], record: Record) -> list[str]:
    actual = params_of(record)
    differences = []
    for name, value in params.items():
        expected = list(value) if isinstance(value, tuple) else value
        if name not in actual:
            differences.append(f"there is no param {name!r}")
        elif actual[name] != expected:
            hint = (
                "; form params are strings"
                if isinstance(actual[name], str) and str(expected) == actual[name]
                else ""
            )
            differences.append(f"params[{name!r}] is {actual[name]!r}, not {value!r}{hint}")
    return differences


def _is_eta(eta: datetime | timedelta, record: Record) -> bool:
    if isinstance(eta, timedelta):
        return (
            abs(record.eta - record.created_at - duration_micros(eta.total_seconds())) < _TOLERANCE
        )
    return abs(record.eta - to_micros(eta)) < _TOLERANCE
