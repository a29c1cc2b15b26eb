"""The database, and whether it is fit for the queue."""

from __future__ import annotations

import time
from collections.abc import Iterator

import sqlalchemy as sa

from ..api.migrations import include_object
from ..core.diagnosis.facts import Finding, Level
from ..core.errors import TablesMissingError, TransientError
from ..core.times import SECOND, duration
from ..runtime import Runtime
from ..runtime.contexts import in_bare_context
from ..store import Notifications, refusal

_SKEW = 2.0
_POOLER = "databases#pgbouncer"


def check(runtime: Runtime) -> Iterator[Finding]:
    """Check that it can be reached, its tables are complete and safe, and its clock agrees."""
    database = runtime.store.database
    try:
        yield from database.findings()
        yield from database.write_lock.findings()
        database.open()
        yield from _tables(runtime)
        if not database.dialect.clock_is_local:
            yield judge_clock(_skew(runtime))
        yield from _migrations(runtime)
        yield from _notices(runtime)
    except TransientError as error:
        reason = refusal(error)
        yield Finding(
            "error",
            f"{error}: {reason}" if reason else str(error),
            "start the database, or correct its URL",
            "databases",
        )
    except TablesMissingError as error:
        yield Finding(
            "error", str(error), "run: flask taskqueue upgrade", "troubleshooting#tables-missing"
        )


def judge_clock(skew: float) -> Finding:
    """Judge by how many seconds this host's clock is ahead of the database's."""
    anchor = "troubleshooting#clock"
    if abs(skew) < _SKEW:
        return Finding("ok", "the clocks of this host and the database agree", "", anchor)
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        "warning",
        f"the clock of this host is {duration(skew)} {direction} the database's, by which tasks "
        "are due",
        "let NTP set the clocks of both",
        anchor,
    )


def _tables(runtime: Runtime) -> Iterator[Finding]:
    database = runtime.store.database
    missing = database.missing()
    for change in missing:
        text = f"the {change} is missing" + (
            ", so claims read the whole table" if change.kind == "index" else ""
        )
        level: Level = "warning" if change.kind == "index" else "error"
        yield Finding(
            level, text, "run: flask taskqueue upgrade", "troubleshooting#tables-outdated"
        )
    if not missing:
        yield Finding("ok", "the database is reached, and its tables are complete")
        other_owner = runtime.store.read(runtime.store.ownership.look)
        yield from [] if other_owner is None else [other_owner]


def _notices(runtime: Runtime) -> Iterator[Finding]:
    """Check that a dispatcher here would be notified of tasks that are added on other hosts."""
    channel = runtime.wakeup_channel
    if not isinstance(channel, Notifications):
        return
    try:
        heard = channel.is_heard()
    except sa.exc.DBAPIError as error:
        yield Finding(
            "warning",
            f"could not check whether notifications get through: {refusal(error)}",
            "run doctor again",
            _POOLER,
        )
        return
    if not heard:
        yield Finding(
            "warning",
            "notifications of the database do not reach this process, perhaps because of a "
            "pooler in transaction mode: tasks that other processes add start at the next poll",
            "let dispatchers connect to PostgreSQL directly, or set TASKQUEUE_NOTIFY = False and "
            "accept the delay",
            _POOLER,
        )


def _skew(runtime: Runtime) -> float:
    store = runtime.store
    with store.reading() as connection:
        before = time.time()
        theirs = connection.scalar(sa.select(store.database.dialect.now)) or 0
        return (before + time.time()) / 2 - theirs / SECOND


def _migrations(runtime: Runtime) -> Iterator[Finding]:
    """Warn if autogenerate would drop the tables: they are in the app's database only."""
    migrate = runtime.app.extensions.get("migrate")
    db = getattr(migrate, "db", None)
    if migrate is None or db is None:
        return
    task = runtime.binding.tables.task
    if any(task.name in metadata.tables for metadata in db.metadatas.values()):
        return
    arguments = getattr(migrate, "configure_args", {})
    if arguments.get("include_object") is not None or arguments.get("include_name") is not None:
        return
    engines = in_bare_context(runtime.app, lambda: db.engines).values()
    if any(engine.url == runtime.store.database.engine.url for engine in engines):
        yield Finding(
            "warning",
            f"Flask-Migrate does not know {task.name} and would drop it: the tables are in "
            "the application's database, "
            "but not in its metadata",
            "use Migrate(app, db, "
            f"include_object=flask_taskqueue.{include_object.__name__}), or TaskQueue(app, "
            "db)",
            "troubleshooting#migrations-drop",
        )
