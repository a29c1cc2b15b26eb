"""All checks that say whether tasks can run."""

from __future__ import annotations

from ..core.diagnosis.facts import Finding
from ..runtime import Runtime
from . import database, deadlines, dispatchers, routes, schedules, settings, slowdowns

_CHECKED = (database, dispatchers, slowdowns, schedules, routes, settings, deadlines)
_WORST_FIRST = ("error", "warning", "info", "ok")


def findings(runtime: Runtime) -> list[Finding]:
    """Return what is well, what may go wrong and what is wrong, each with its remedy, worst first.

    Each worker route gets a ping: a delivery that passes the app's hooks but reaches no handler.
    Nothing is changed.
    """
    found = [finding for module in _CHECKED for finding in module.check(runtime)]
    return sorted(found, key=lambda finding: _WORST_FIRST.index(finding.level))
