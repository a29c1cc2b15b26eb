"""The page of errors: failed attempts, grouped by what they have in common."""

from __future__ import annotations

from functools import partial

from ..api.bulk import change_ids
from ..core.errors import UnknownTaskError
from ..core.failures import Group, group
from ..runtime import Runtime
from ..store import LATEST_FAILURES, Action
from .overview import failure_group
from .rendering import Deed, Page


def page(runtime: Runtime) -> Page:
    """The groups, the latest first."""
    groups = _groups(runtime)
    data = {
        "looked_at": sum(one.count for one in groups),
        "groups": [failure_group(one) for one in groups],
    }
    return Page(template="errors.html", title="Errors", data=data, extra={"most": LATEST_FAILURES})


def requeue(runtime: Runtime, group: str) -> Deed:
    """Schedule the dead tasks of a group again."""
    found = _find(runtime, group)
    return Deed(
        "requeue",
        f"dead tasks of errors like: {found.error}",
        partial(change_ids, runtime, Action.REQUEUE, found.dead),
    )


def run(runtime: Runtime, group: str) -> Deed:
    """Make those that are tried again due now."""
    found = _find(runtime, group)
    return Deed(
        "run",
        f"retrying tasks of errors like: {found.error}",
        partial(change_ids, runtime, Action.RUN_NOW, found.retrying),
    )


def ids_of(runtime: Runtime, name: str) -> list[str] | None:
    """The tasks of a group; None if there is no such group."""
    found = next((one for one in _groups(runtime) if one.signature.id == name), None)
    return None if found is None else list(found.tasks)


def _groups(runtime: Runtime) -> list[Group]:
    store = runtime.store
    with store.reading() as connection:
        return group(store.failures.latest(connection))


def _find(runtime: Runtime, name: str) -> Group:
    for one in _groups(runtime):
        if one.signature.id == name:
            return one
    raise UnknownTaskError("There is no such group of errors any more.")
