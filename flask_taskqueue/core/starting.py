"""Where a dispatcher may start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Start(Enum):
    """When the dispatcher of a process starts."""

    NEVER = "never"
    WHEN_LOADED = "when the application is loaded"
    FIRST_REQUEST = "at the first request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of the process in which the extension is initialised.

    ``commands`` is the chain of click commands, outermost first, empty when there is none;
    ``reloads`` whether ``flask run`` uses a reloader, ``in_reloader`` whether this is its child.
    """

    setting: str
    testing: bool
    commands: tuple[str, ...]
    reloads: bool
    in_reloader: bool


def when_to_start(situation: Situation) -> Start:
    """When, if at all, the dispatcher starts.

    With ``flask run`` once the application is loaded, but not in the parent of a reloader, which
    serves nothing; in no other command. Without a command (gunicorn, uWSGI, app.run) at the first
    request, for a reloader's parent and the master of preloaded workers never get one; a debug
    flag says nothing there. Under test nothing runs by itself.
    """
    if situation.setting == "off" or (situation.testing and situation.setting != "on"):
        return Start.NEVER
    if not situation.commands:
        return Start.FIRST_REQUEST
    if situation.commands[1:] != ("run",):
        return Start.NEVER
    if situation.reloads and not situation.in_reloader:
        return Start.NEVER
    return Start.WHEN_LOADED
