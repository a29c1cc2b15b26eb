"""What commands say when no task matches."""

from __future__ import annotations

from ..runtime import Runtime
from ..store import Filter
from .output import chatter


def tell_nothing(runtime: Runtime, wanted: Filter | None) -> None:
    """Say that no task matches; and if there is no such queue at all, which there are."""
    told = "No tasks match."
    if wanted is not None and wanted.queue is not None:
        with runtime.store.reading() as connection:
            known = sorted({*runtime.settings.queues, *(row.name for row in runtime.store.queues.rows(connection))})
        if wanted.queue not in known:
            told += f" There is no queue {wanted.queue!r}; there are {', '.join(known)}."
    chatter(told)
