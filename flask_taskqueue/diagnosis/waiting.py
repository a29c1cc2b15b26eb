"""What a task waits for: the facts, read in one transaction, and what follows from them."""

from __future__ import annotations

from ..core.why import Why, explain
from ..runtime import Runtime


def why(runtime: Runtime, task_id: str) -> Why:
    """What a task waits for, or what became of it. Raises `UnknownTaskError`."""
    store = runtime.store
    with store.reading() as connection:
        return explain(store.surroundings.facts(connection, store.tasks.get(connection, task_id)))
