"""Schedules that do not fire any more."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.diagnosis.facts import Finding
from ..core.errors import TablesMissingError, TransientError
from ..runtime import Runtime


def check(runtime: Runtime) -> Iterator[Finding]:
    """Report each schedule that could not add its task, and why."""
    store = runtime.store
    try:
        with store.reading() as connection:
            rows = store.schedules.rows(connection)
    except (TransientError, TablesMissingError):
        return  # the check of the database reports it
    for row in rows:
        if row.last_error is not None and row.paused_at is None:
            yield Finding(
                "error",
                f"schedule {row.name} does not fire any more: {row.last_error}",
                "correct it by tasks.get_schedule(name).change(...) or where the code declares it, "
                f"or delete it: flask taskqueue cron delete {row.name}",
                "schedules",
            )
