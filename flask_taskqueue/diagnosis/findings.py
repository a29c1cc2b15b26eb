"""Everything that is looked at to say whether tasks can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from ..core.diagnosis.finding import Finding
from ..core.humanize import plural
from ..core.settings.app import PREFIX, Settings
from ..core.settings.checks import nearest
from ..runtime import Runtime
from . import database, dispatchers, routes, servers, slowdowns
from . import findings as settings

_ANCHOR = "troubleshooting#unknown-setting"


def look(runtime: Runtime) -> Iterator[Finding]:
    """Keys that nobody reads, pages that nobody can, and a pool of connections too small for
    the threads.
    """
    yield from judge_keys(runtime.app.config)
    yield from _doors(runtime)
    yield from _pool(runtime)


def judge_keys(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys that came into the configuration after the extension had read it: before, they are
    an error.
    """
    known = {PREFIX + one.name.upper() for one in fields(Settings)}
    for key in config:
        if key.startswith(PREFIX) and key not in known:
            text = (
                f"{key} is not a setting of Flask-TaskQueue{nearest(key, known)}, and was set "
                "after the extension"
            )
            yield Finding(
                "warning",
                text,
                "correct it, and configure the application before TaskQueue(app)",
                _ANCHOR,
            )


def _doors(runtime: Runtime) -> Iterator[Finding]:
    """By what metrics and dashboard are open, where there are any."""
    settings = runtime.settings
    if settings.metrics:
        doors = {
            "TASKQUEUE_METRICS_TOKEN": settings.metrics_token,
            "TASKQUEUE_METRICS_ACCESS": settings.metrics_access,
        }
        remedy = (
            "set TASKQUEUE_METRICS_TOKEN to a long random text, and have it sent as a bearer token"
        )
        yield _opened("TASKQUEUE_METRICS", doors, remedy, "monitoring#metrics")
    if settings.dashboard:
        doors = {
            "TASKQUEUE_DASHBOARD_ACCESS": settings.dashboard_access,
            "TASKQUEUE_DASHBOARD_USERNAME": settings.dashboard_username,
        }
        remedy = "set TASKQUEUE_DASHBOARD_ACCESS, or a user and a password"
        yield _opened(
            "TASKQUEUE_DASHBOARD",
            doors | {"the link of flask run": runtime.app.debug or None},
            remedy,
            "dashboard",
        )


def _opened(key: str, doors: Mapping[str, object], remedy: str, anchor: str) -> Finding:
    by = [door for door, value in doors.items() if value is not None]
    if by:
        return Finding("ok", f"what {key} adds is opened by {by[0]}")
    return Finding(
        "warning", f"{key} is on, and what it adds is closed to everybody", remedy, anchor
    )


def _pool(runtime: Runtime) -> Iterator[Finding]:
    if runtime.binding.db is None:
        return
    pool = runtime.binding.engine(runtime.app).pool
    size, overflow = getattr(pool, "size", None), getattr(pool, "_max_overflow", None)
    if size is None or overflow is None or overflow < 0:
        return
    threads, connections = runtime.settings.concurrency, size() + overflow
    if 0 < connections < threads:
        yield Finding(
            "warning",
            f"{threads} tasks run at a time (TASKQUEUE_CONCURRENCY), but the application's "
            f"pool has {plural(connections, 'connection')}",
            f'set SQLALCHEMY_ENGINE_OPTIONS = {{"pool_size": {threads}}}, or run fewer at a time',
            "troubleshooting#pool",
        )


def findings(runtime: Runtime) -> list[Finding]:
    """What is well, what may go wrong and what does, each with its remedy; the worst first.

    Each worker route gets a ping: a delivery that passes the application's hooks, and which no
    handler sees. Nothing is changed.
    """
    found = [
        *database.look(runtime),
        *dispatchers.look(runtime),
        *slowdowns.look(runtime),
        *routes.look(runtime),
        *settings.look(runtime),
        *servers.look(runtime),
    ]
    return sorted(found, key=lambda one: ("error", "warning", "info", "ok").index(one.level))
