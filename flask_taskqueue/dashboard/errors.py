"""The errors page: failed attempts, grouped by what they have in common."""

from __future__ import annotations

from functools import partial

from ..api.bulk import change_ids
from ..core.errors import UnknownTaskError
from ..core.failures import Group, group
from ..runtime import Runtime
from ..store import LATEST_FAILURES, Action
from .overview import failure_group
from .rendering import Page, PlannedAction

_MOST = 100
"""The most groups that are shown."""


def page(runtime: Runtime) -> Page:
    """Show the groups of failed attempts, most frequent first, then latest first."""
    groups = sorted(_groups(runtime), key=lambda found: found.count, reverse=True)
    data = {
        "looked_at": sum(found.count for found in groups),
        "groups": [failure_group(found) for found in groups[:_MOST]],
        "more": max(0, len(groups) - _MOST),
    }
    return Page(template="errors.html", title="Errors", data=data, extra={"most": LATEST_FAILURES})


def requeue(runtime: Runtime, group: str) -> PlannedAction:
    """Requeue the dead tasks of a group."""
    found = _find(runtime, group)
    return PlannedAction(
        "requeue",
        f"dead tasks of errors like: {found.error}",
        partial(change_ids, runtime, Action.REQUEUE, found.dead),
    )


def run(runtime: Runtime, group: str) -> PlannedAction:
    """Run the retrying tasks of a group now."""
    found = _find(runtime, group)
    return PlannedAction(
        "run",
        f"retrying tasks of errors like: {found.error}",
        partial(change_ids, runtime, Action.RUN_NOW, found.retrying),
    )


def ids_of(runtime: Runtime, name: str) -> list[str] | None:
    """Return the ids of a group's tasks; None if there is no such group."""
    found = _search(runtime, name)
    return None if found is None else list(found.tasks)


def _groups(runtime: Runtime) -> list[Group]:
    store = runtime.store
    return store.read(lambda connection: group(store.failures.latest(connection)))


def _find(runtime: Runtime, name: str) -> Group:
    found = _search(runtime, name)
    if found is None:
        raise UnknownTaskError("There is no such group of errors any more.")
    return found


def _search(runtime: Runtime, name: str) -> Group | None:
    return next((found for found in _groups(runtime) if found.signature.id == name), None)
