"""App Engine's files, queue.yaml and cron.yaml, read from where the configuration says."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Flask

from .api.declared_schedules import DeclaredSchedule
from .core.appengine.cron_yaml import CronEntry, parse_cron_yaml
from .core.appengine.queue_yaml import parse_queue_yaml
from .core.errors import ConfigurationError, InvalidScheduleError
from .core.settings.app import Settings
from .core.settings.queue import parse_queues
from .core.tasks.spec import TaskOptions, TaskSpec


def with_queue_yaml(app: Flask, settings: Settings) -> Settings:
    """Return the settings with the queues of ``TASKQUEUE_QUEUE_YAML`` added.

    Raises `ConfigurationError` for a file that cannot be read or is malformed, naming file, line
    and key, and for a queue that is in ``TASKQUEUE_QUEUES`` as well.
    """
    if settings.queue_yaml is None:
        return settings
    given: Mapping[str, Any] = app.config.get("TASKQUEUE_QUEUES") or {}
    file = _path(app, settings.queue_yaml)
    found = parse_queue_yaml(
        _read("TASKQUEUE_QUEUE_YAML", file), file=file.name, services=settings.services
    )
    for name in found:
        if name in given:
            raise ConfigurationError(
                f"queue {name!r} is in TASKQUEUE_QUEUES and in {file.name}: leave it in one of them"
            )
    return replace(settings, queues=parse_queues("TASKQUEUE_QUEUES", {**found, **given}))


def cron_yaml_schedules(app: Flask, settings: Settings) -> list[DeclaredSchedule]:
    """Return the schedules of ``TASKQUEUE_CRON_YAML``, each a GET of its URL.

    Each schedule is named after its URL, because schedules have no names in App Engine. Raises
    `ConfigurationError`, naming file, line and key.
    """
    if settings.cron_yaml is None:
        return []
    file = _path(app, settings.cron_yaml)
    seen: Counter[str] = Counter()
    found: list[DeclaredSchedule] = []
    text = _read("TASKQUEUE_CRON_YAML", file)
    for entry in parse_cron_yaml(text, file=file.name, services=settings.services):
        seen[entry.url] += 1
        try:
            found.append(
                DeclaredSchedule.of(
                    _name(entry.url, seen[entry.url]),
                    _spec(entry),
                    entry.schedule,
                    entry.timezone,
                    description=entry.description,
                )
            )
        except InvalidScheduleError as error:
            raise ConfigurationError(f"{file.name}, line {entry.line}: {error}") from error
    return found


def _spec(entry: CronEntry) -> TaskSpec:
    options: TaskOptions = {
        "method": "GET",
        "retry": entry.retry,
        "deadline": entry.deadline,
        "target": entry.target,
    }
    return TaskSpec(entry.url, **options)


def _name(url: str, number: int) -> str:
    suffix = "" if number == 1 else f"#{number}"
    if len(url) + len(suffix) <= 100:
        return url + suffix
    return f"{url[:70]}~{hashlib.sha256(url.encode()).hexdigest()[:12]}{suffix}"


def _path(app: Flask, given: str) -> Path:
    """Return the path of a file that is given relative to the application's folder."""
    return Path(app.root_path) / given


def _read(key: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"{key}: {file.name} cannot be read from {file.parent}: {reason}"
        ) from error
