"""Schedules that do not fire, or not as this release declares them."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.diagnosis.facts import Finding
from ..core.errors import TablesMissingError, TransientError
from ..runtime import Runtime


def check(runtime: Runtime) -> Iterator[Finding]:
    """Report each schedule that cannot add its task, and each that another release has stored."""
    store = runtime.store
    declared = runtime.cron.declared
    for name, why in runtime.find_schedules.broken.items():
        yield Finding(
            "error",
            f"schedule {name} does not fire, because its task cannot be made: {why}",
            "correct it where the code declares it",
            "schedules",
        )
    try:
        rows = store.read(
            lambda connection: {row.name: row for row in store.schedules.rows(connection)}
        )
    except (TransientError, TablesMissingError):
        return  # the check of the database reports it
    for row in rows.values():
        if row.last_error is not None and row.paused_at is None:
            yield Finding(
                "error",
                f"schedule {row.name} does not fire any more: {row.last_error}",
                "correct it by tasks.get_schedule(name).change(...) or where the code declares it, "
                f"or delete it: flask taskqueue cron delete {row.name}",
                "schedules",
            )
    for schedule in store.declared_schedules.outdated(rows, declared.values()):
        if schedule.name in rows:
            yield Finding(
                "warning",
                f"schedule {schedule.name} is stored as another release declares it "
                f"({rows[schedule.name].text}): a dispatcher of that release was the last to look "
                "at it",
                "start a dispatcher of this release, or end those of the other",
                "schedules#roll-out",
            )
