"""What a task waits for, from facts that are read in one transaction."""

from __future__ import annotations

from dataclasses import replace

from ..core.diagnosis.waiting import explain
from ..core.diagnosis.why import Why
from ..runtime import Runtime
from ..web.routes import answers


def why(runtime: Runtime, task_id: str) -> Why:
    """Say what a task waits for, or how it ended. Raises `UnknownTaskError`."""
    store = runtime.store
    facts = store.read(
        lambda connection: store.task_facts.facts(connection, store.search.get(connection, task_id))
    )
    record = facts.record
    may_begin = record.target is None and record.url.startswith("/")
    return explain(
        replace(facts, is_answered=not may_begin or answers(runtime.app, record.url, record.method))
    )
