"""Matching: which tasks an assertion means, and which came close."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from ..core.clock import duration_micros, to_datetime, to_micros
from ..core.record import Record

_TOLERANCE = 1_000_000
"""Microseconds by which an eta may differ."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a task is asked to be; None leaves a field open. ``params`` are among those of the task."""

    url: str | None = None
    params: Mapping[str, Any] | None = None
    queue: str | None = None
    name: str | None = None
    state: str | None = None
    eta: datetime | timedelta | None = None

    def differences(self, record: Record) -> list[str]:
        """In what a task is not as it is asked to be, in words."""
        found = [
            f"{field} is {actual!r}"
            for field, actual in (("url", record.url), ("queue", record.queue), ("name", record.name), ("state", record.state))
            if (asked := getattr(self, field)) is not None and not _equal(field, asked, actual)
        ]
        if self.params is not None:
            found += _params_differ(self.params, record)
        if self.eta is not None and not _is_eta(self.eta, record):
            found.append(f"eta is {to_datetime(record.eta).isoformat()}")
        return found

    def __str__(self) -> str:
        parts = [f"{one}={getattr(self, one)!r}" for one in ("url", "queue", "name", "state") if getattr(self, one) is not None]
        parts[1:1] = [] if self.params is None else [f"params⊇{dict(self.params)!r}"]
        return " ".join(parts + ([] if self.eta is None else [f"eta={self.eta!s}"])) or "anything"


def params_of(record: Record) -> dict[str, Any]:
    """What a task brings: its JSON object, or its form and query parameters; a form's values are texts, of one given twice a list."""
    headers = {name.lower(): value for name, value in json.loads(record.headers or "{}").items()}
    kind = headers.get("content-type", "")
    if kind.startswith("application/json"):
        found = json.loads(record.body)
        return found if isinstance(found, dict) else {}
    query = record.url.partition("?")[2]
    form = record.body.decode("utf-8", "replace") if kind.startswith("application/x-www-form-urlencoded") else ""
    values = parse_qs("&".join(filter(None, (query, form))), keep_blank_values=True)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def shown(record: Record) -> str:
    """A task in one line."""
    return f"{record.url.partition('?')[0]} params={params_of(record)!r} (queue {record.queue}, {record.state})"


def closest(wanted: Wanted, records: Sequence[Record]) -> list[str]:
    """The tasks that came closest, one line each, with what is different about them."""
    ranked = sorted(
        records, key=lambda record: (wanted.url is not None and not _equal("url", wanted.url, record.url), _distance(wanted, record))
    )
    return [f"{shown(record)}: {', '.join(wanted.differences(record)) or 'as asked'}" for record in ranked[:_SHOWN]]


def _distance(wanted: Wanted, record: Record) -> int:
    return len(wanted.differences(record))


def _equal(field: str, asked: str, actual: str | None) -> bool:
    if field == "url" and actual is not None and "?" not in asked:
        return asked == actual.partition("?")[0]
    return asked == actual


def _params_differ(asked: Mapping[str, Any], record: Record) -> list[str]:
    actual = params_of(record)
    found = []
    for name, value in asked.items():
        wanted = list(value) if isinstance(value, tuple) else value
        if name not in actual:
            found.append(f"there is no param {name!r}")
        elif actual[name] != wanted:
            hint = "; form params are strings" if isinstance(actual[name], str) and str(wanted) == actual[name] else ""
            found.append(f"params[{name!r}] is {actual[name]!r}, not {value!r}{hint}")
    return found


def _is_eta(asked: datetime | timedelta, record: Record) -> bool:
    if isinstance(asked, timedelta):
        return abs(record.eta - record.created_at - duration_micros(asked.total_seconds())) < _TOLERANCE
    return abs(record.eta - to_micros(asked)) < _TOLERANCE
