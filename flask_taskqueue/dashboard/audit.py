"""Actions of the dashboard, carried out with their entry in the audit log."""

from __future__ import annotations

from flask import g, request

from ..api.audit import Actor, AuditEntry, recorded
from ..runtime import Runtime
from .rendering import CompletedAction, PlannedAction


def carry_out(runtime: Runtime, action: PlannedAction) -> CompletedAction:
    """Carry out an action and write its entry in the same transaction."""
    actor = Actor(g.taskqueue_access.user, request.remote_addr or "")
    entry = AuditEntry(runtime, actor, action.name, action.subject, action.count)
    with recorded(runtime, entry):
        result = action.do()
    target = action.target(result) if callable(action.target) else action.target
    return CompletedAction(action.name, action.count(result), target)
