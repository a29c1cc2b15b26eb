"""What an action has done, told on the page that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
class Done:
    """An action that is over: what it was, on what, how much it changed, and the page that follows, if it is a certain one."""

    action: str
    subject: str
    changed: int = 1
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
