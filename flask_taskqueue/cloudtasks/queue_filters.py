"""Filters of queues: one comparison, such as ``state: PAUSED``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..core.rpc.status import invalid
from .context import Reply

_COMPARISON = re.compile(
    r'\s*([A-Za-z_.]{1,80})\s*(<=|>=|!=|=|<|>|:)\s*(?:"([^"\\]{0,200})"|([^"\\\s]{1,200}))\s*',
    re.ASCII,
)


def queue_filter(text: str) -> Callable[[Reply], bool]:
    """Return what a filter lets through: one comparison, such as ``state: PAUSED``."""
    if not text.strip():
        return lambda _: True
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise invalid(f"filter {text[:80]!r} must be one comparison, such as state: PAUSED.")
    path, sign, quoted, plain = match.groups()
    wanted = plain if quoted is None else quoted
    parts = path.replace("_", "").lower().split(".")
    return lambda queue: _compare(_value(queue, parts), sign, wanted)


def _value(queue: Any, parts: list[str]) -> Any:
    for part in parts:
        fields = {name.lower(): value for name, value in queue.items()}
        queue = fields.get(part) if isinstance(fields.get(part), dict) else fields.get(part, "")
        if not isinstance(queue, dict):
            break
    return queue


def _compare(value: Any, sign: str, wanted: str) -> bool:
    if sign == ":":
        return wanted.lower() in str(value).lower()
    if sign in ("=", "!="):
        return (str(value) == wanted or _number(value) == _number(wanted, other=1)) is (sign == "=")
    have, limit = _number(value), _number(wanted)
    if have is None or limit is None:
        raise invalid(f"filter compares with {wanted!r}, which is no number.")
    return {"<": have < limit, ">": have > limit, "<=": have <= limit, ">=": have >= limit}[sign]


def _number(value: Any, other: Any = None) -> float | Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return other
