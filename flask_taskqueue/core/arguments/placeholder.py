"""The placeholder for a reply that is not known yet."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final


class _Placeholder(Enum):
    REPLY = "the reply of the task before"

    def __repr__(self) -> str:
        return self.name


REPLY: Final[Any] = _Placeholder.REPLY
"""The reply of the task before, as one argument of a task in ``then``.

It may stand for an argument of a handler or a task function, for a value of ``params`` or of
``json``, or for the ``payload``; a task has it once. What the task is given is what the earlier one
replied: the value of a JSON reply, the text of any other, None for a 204. As ``payload`` it is the
reply's body, unchanged, with its content type.
"""


def is_inside(value: Any) -> bool:
    """Return whether `REPLY` is somewhere within a list, a tuple or a mapping."""
    seen: set[int] = set()
    rest = _items(value)
    while rest:
        item = rest.pop()
        if item is REPLY:
            return True
        if id(item) not in seen:
            seen.add(id(item))
            rest += _items(item)
    return False


def _items(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return [*value] if isinstance(value, list | tuple) else []
