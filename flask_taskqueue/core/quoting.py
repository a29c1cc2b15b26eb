"""Values as a message shows them."""

from __future__ import annotations

_LONGEST = 200


def shown(value: object) -> str:
    """A value's repr, cut where it is long; its type where it has none, as a whole number of very many digits."""
    try:
        text = repr(value)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return f"of type {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
