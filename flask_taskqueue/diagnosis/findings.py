"""Everything that is looked at to say whether tasks can run."""

from __future__ import annotations

from ..core.finding import Finding
from ..runtime import Runtime
from . import database, dispatchers, routes, servers, settings, slowdowns


def findings(runtime: Runtime) -> list[Finding]:
    """What is well, what may go wrong and what does, each with its remedy; the worst first.

    Each worker route gets a ping: a delivery that passes the application's hooks, and which no
    handler sees. Nothing is changed.
    """
    found = [
        *database.look(runtime),
        *dispatchers.look(runtime),
        *slowdowns.look(runtime),
        *routes.look(runtime),
        *settings.look(runtime),
        *servers.look(runtime),
    ]
    return sorted(found, key=lambda one: ("error", "warning", "info", "ok").index(one.level))
