"""What an action is to do, and what it has done, told on the page that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.counts import count

SENTENCES = {
    "pause": "The queue is paused.",
    "resume": "The queue goes on.",
    "configure": "The limits are changed.",
    "pause-cron": "The schedule is paused.",
    "resume-cron": "The schedule fires again.",
    "run-cron": "Its task is added.",
    "copy": "This is the copy.",
    "bulk-requeue": "The tasks are scheduled again in the background.",
    "bulk-run": "The tasks are made due in the background.",
    "bulk-delete": "The tasks are cancelled in the background.",
}
_COUNTED = {"requeue": "scheduled again", "run": "made due", "delete": "cancelled", "purge": "cancelled"}


@dataclass(frozen=True, slots=True)
class Deed:
    """An action that is decided and not yet done: nothing is changed but by ``do``, whose changes are noted in the audit log.

    ``subject`` says on what, perhaps by the result of the change in its transaction; ``place`` is the
    page that follows, if it is a certain one, perhaps by what ``do`` returns. What ``do`` and its
    changes return says how much was changed, unless it is an order for later, which ``changes`` nothing yet.
    """

    action: str
    subject: str | Callable[[Any], str]
    do: Callable[[], Any]
    place: str | Callable[[Any], str] | None = None
    changes: bool = True

    def count(self, result: Any) -> int:
        """How much a result says was changed: the number it is, or one thing."""
        if not self.changes:
            return 0
        return int(result) if isinstance(result, int) else 1


@dataclass(frozen=True, slots=True)
class Done:
    """An action that is over: what it was, how much it changed, and the page that follows, if it is a certain one."""

    action: str
    changed: int
    place: str | None = None


def message(arguments: Mapping[str, str]) -> str | None:
    """The sentence for what the redirect after an action carries. Anybody can write such a link, so only known words count."""
    action, given = arguments.get("did", ""), arguments.get("count", "")
    changed = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if action in _COUNTED:
        return f"{count(changed, 'task')} {_COUNTED[action]}."
    if not changed and action in ("pause", "resume", "pause-cron", "resume-cron"):
        return "Nothing had to be changed."
    return SENTENCES.get(action)
