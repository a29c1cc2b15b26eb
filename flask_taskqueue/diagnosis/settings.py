"""The settings, and the mistakes in them: keys set too late, closed pages, a small pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from ..core.diagnosis.facts import Finding
from ..core.settings.app import PREFIX, Settings
from ..core.settings.checks import nearest
from ..core.times import plural
from ..runtime import Runtime

_ANCHOR = "troubleshooting#unknown-setting"


def check(runtime: Runtime) -> Iterator[Finding]:
    """Check for keys that came too late, pages that nobody can open, and too small a pool."""
    yield from judge_keys(runtime.app.config)
    yield from _pages(runtime)
    yield from _pool(runtime)


def judge_keys(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Warn of unknown keys that were set after the extension; before, they are an error."""
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
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


def _pages(runtime: Runtime) -> Iterator[Finding]:
    """Say what opens the metrics, the API and the dashboard, if they are on."""
    settings = runtime.settings
    if settings.metrics:
        keys = {
            "TASKQUEUE_METRICS_TOKEN": settings.metrics_token,
            "TASKQUEUE_METRICS_ACCESS": settings.metrics_access,
        }
        remedy = (
            "set TASKQUEUE_METRICS_TOKEN to a long random text, and have it sent as a bearer token"
        )
        yield _opened("TASKQUEUE_METRICS", keys, remedy, "monitoring#metrics")
    if settings.api:
        keys = {
            "TASKQUEUE_API_TOKEN": settings.api_token,
            "TASKQUEUE_API_ACCESS": settings.api_access,
        }
        remedy = "set TASKQUEUE_API_TOKEN to a long random text, and give it to the clients"
        yield _opened("TASKQUEUE_API", keys, remedy, "leaving-cloudtasks#cloud-tasks-rest")
    if settings.dashboard:
        keys = {
            "TASKQUEUE_DASHBOARD_ACCESS": settings.dashboard_access,
            "TASKQUEUE_DASHBOARD_USERNAME": settings.dashboard_username,
        }
        remedy = "set TASKQUEUE_DASHBOARD_ACCESS, or a user and a password"
        yield _opened(
            "TASKQUEUE_DASHBOARD",
            keys | {"the link of flask run": runtime.app.debug or None},
            remedy,
            "dashboard",
        )


def _opened(setting: str, keys: Mapping[str, object], remedy: str, anchor: str) -> Finding:
    by = [key for key, value in keys.items() if value is not None]
    if by:
        return Finding("ok", f"what {setting} adds is opened by {by[0]}")
    return Finding(
        "warning", f"{setting} is on, and what it adds is closed to everybody", remedy, anchor
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
