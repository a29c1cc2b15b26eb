"""What a task waits for: the facts, read in one transaction, and what follows from them."""

from __future__ import annotations

from dataclasses import replace

from ..core.diagnosis.why import Why, explain
from ..runtime import Runtime
from ..web.routes import answers


def why(runtime: Runtime, task_id: str) -> Why:
    """What a task waits for, or what became of it. Raises `UnknownTaskError`."""
    store = runtime.store
    with store.reading() as connection:
        facts = store.task_facts.facts(connection, store.tasks.get(connection, task_id))
    record = facts.record
    is_ours = record.target is None and record.url.startswith("/")
    return explain(
        replace(facts, is_answered=not is_ours or answers(runtime.app, record.url, record.method))
    )
