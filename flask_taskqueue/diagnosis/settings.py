"""Whether the configuration is what the queue works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from ..core.checks import nearest
from ..core.config import PREFIX, Settings
from ..core.counts import count
from ..core.finding import Finding
from ..runtime import Runtime

_ANCHOR = "troubleshooting#unknown-setting"


def look(runtime: Runtime) -> Iterator[Finding]:
    """Keys that nobody reads, and a pool of connections too small for the threads."""
    yield from judge_keys(runtime.app.config)
    yield from _pool(runtime)


def judge_keys(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys that came into the configuration after the extension had read it: before, they are an error."""
    known = {PREFIX + one.name.upper() for one in fields(Settings)}
    for key in config:
        if key.startswith(PREFIX) and key not in known:
            text = f"{key} is not a setting of Flask-TaskQueue{nearest(key, known)}, and was set after the extension"
            yield Finding("warning", text, "correct it, and configure the application before TaskQueue(app)", _ANCHOR)


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
            f"{threads} tasks run at a time (TASKQUEUE_CONCURRENCY), but the application's pool has {count(connections, 'connection')}",
            f'set SQLALCHEMY_ENGINE_OPTIONS = {{"pool_size": {threads}}}, or run fewer at a time',
            "troubleshooting#pool",
        )
