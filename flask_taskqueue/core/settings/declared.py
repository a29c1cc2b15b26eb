"""The declaration of a setting: its default, its check and what it means."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from .checks import Check


def key(default: Any, check: Check, doc: str, *, secret: bool = False) -> Any:
    """Return the field of a setting; a ``secret`` one is never shown."""
    given: dict[str, Any] = {"default_factory" if callable(default) else "default": default}
    return field(metadata={"check": check, "doc": doc}, repr=not secret, **given)
