"""The settings: every ``TASKQUEUE_`` key, declared once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..delivery.delivery import FAMILIES
from ..errors import ConfigurationError
from ..retry import RetryOptions
from . import checks
from .declared import key as _key
from .engines import EngineSettings, check_engines
from .hosts import AllowedHost
from .queue import DAY, MAX_DEADLINE, QueueSettings, default_queues, parse_queues
from .services import default_services, parse_services

PREFIX = "TASKQUEUE_"
KEEP_ATTEMPTS = 20
MAX_BODY = 102_400
WEBHOOK_REPLAY = 600.0
"""How long a signed webhook can be sent again: while its timestamp is within the tolerance."""
REDACT = ("authorization", "cookie", "token", "secret", "password", "key")
DEFAULT_RETRY = RetryOptions(task_age_limit=30 * DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EngineSettings):
    """The checked settings of one app; a key that is left out, or None, has its default."""

    database_uri: str | None = _key(
        None,
        checks.text,
        "A database of the queue's own, as an SQLAlchemy URL; not with ``db``. A relative path of "
        "a SQLite file is in the instance folder.",
        secret=True,
    )
    bind_key: str | None = _key(
        None, checks.text, "The Flask-SQLAlchemy bind that holds the queue's tables."
    )
    table_prefix: str = _key("taskqueue_", checks.text, "What the tables' names begin with.")
    create_tables: bool | None = _key(
        None,
        checks.boolean,
        "Whether missing tables are created at first use; by default in debug, in testing "
        "and in the queue's own file.",
    )
    dispatcher: str = _key(
        "auto",
        checks.one_of("auto", "on", "off"),
        "Who runs a dispatcher: auto (what serves), on (every process), off.",
    )
    transport: str = _key(
        "wsgi",
        checks.one_of("wsgi", "http"),
        "How the app's own paths are called: wsgi (in process) or http.",
    )
    base_url: str | None = _key(
        None,
        checks.base_url,
        "Where the app answers, for the http transport; may hold a path prefix.",
    )
    poll_interval: float = _key(
        1.0,
        checks.duration(0.01, 3600),
        "Seconds between two looks at the table when nothing wakes the dispatcher.",
    )
    notify: bool = _key(
        True,
        checks.boolean,
        "Whether dispatchers in other processes are told of new tasks at once, or see them "
        "at their next poll.",
    )
    concurrency: int = _key(
        8, checks.count(1, 1000), "How many tasks one process attempts at a time."
    )
    lease: float = _key(
        30.0,
        checks.duration(1, 3600),
        "Seconds a dispatcher that died keeps its tasks; renewed every third of it.",
    )
    grace_period: float = _key(
        25.0,
        checks.duration(0, 3600),
        "Seconds that running tasks have to end when the process is stopped.",
    )
    deadline: float = _key(
        30.0,
        checks.duration(0.001, MAX_DEADLINE),
        "Seconds one attempt may take in all, at most 24 hours.",
    )
    connect_timeout: float = _key(
        5.0,
        checks.duration(0.001, 3600),
        "Seconds a connection of the http transport may take to be made.",
    )
    queues: Mapping[str, QueueSettings] = _key(
        default_queues,
        parse_queues,
        "The queues beside ``default``, each with its settings (below).",
    )
    queue_yaml: str | None = _key(
        None,
        checks.text,
        "A queue.yaml of App Engine's, relative to the application's folder: more queues.",
    )
    cron_yaml: str | None = _key(
        None,
        checks.text,
        "A cron.yaml of App Engine's, relative to the application's folder: schedules.",
    )
    services: Mapping[str, str | None] = _key(
        default_services,
        parse_services,
        "The names that a ``target`` may have, as in App Engine, each with its base URL, or None "
        "for this app.",
    )
    deferred: str | None = _key(
        None,
        checks.one_of("json", "pickle"),
        "How calls of App Engine's ``deferred.defer`` are stored: json, or pickle where JSON does "
        "not suffice; by default json, in an app whose code imports deferred.",
    )
    deferred_modules: tuple[str, ...] = _key(
        (),
        checks.modules,
        "The modules, beside the app's own package, whose functions may be deferred; each with "
        "the modules below it.",
    )
    retry: RetryOptions = _key(  # noqa: RUF009 - a field with a frozen default
        DEFAULT_RETRY,
        checks.retry,
        "The retry policy of queues and tasks that have none; gives up after 30 days.",
    )
    max_body: int = _key(
        MAX_BODY,
        checks.count(0, 33_554_432),
        "The most bytes a task may have: method, URL, headers and body.",
    )
    max_eta: float = _key(
        30 * DAY, checks.duration(0, 3650 * DAY), "How far away, in seconds, an eta may be."
    )
    reply_excerpt: int = _key(
        16_384, checks.count(0, 1_048_576), "The most bytes of a reply that are read and kept."
    )
    traceback_excerpt: int = _key(
        16_384,
        checks.count(0, 1_048_576),
        "The most characters kept of the traceback of a failed attempt, its end; 0 keeps none.",
    )
    keep_succeeded: float = _key(
        DAY,
        checks.duration(0, math.inf),
        "Seconds that succeeded and cancelled tasks are kept; infinite keeps them for ever.",
    )
    keep_dead: float = _key(
        30 * DAY,
        checks.duration(0, math.inf),
        "Seconds that dead tasks are kept; infinite keeps them for ever.",
    )
    webhook_ttl: float = _key(
        7 * DAY,
        checks.duration(WEBHOOK_REPLAY, 3650 * DAY),
        "Seconds after the end of a webhook's task in which the same webhook is not stored again; "
        "at least ten minutes.",
    )
    keep_attempts: float = _key(
        KEEP_ATTEMPTS,
        checks.count_or_all,
        "How many attempts of a task are kept, the last ones; infinite keeps all.",
    )
    secret: bytes | None = _key(
        None,
        checks.secret,
        "What signatures are derived from; by default ``SECRET_KEY`` and its fallbacks.",
        secret=True,
    )
    encryption_keys: tuple[str, ...] = _key(
        (),
        checks.encryption_keys,
        "Fernet keys, newest first, by which what tasks hold is encrypted in the tables.",
        secret=True,
    )
    headers: tuple[str, ...] = _key(
        FAMILIES[:1],
        checks.some_of(*FAMILIES),
        "Which families of task headers are sent: taskqueue, appengine, cloudtasks.",
    )
    targets: str | None = _key(
        None,
        checks.one_of("internal", "allowlist", "public"),
        "Where tasks may go: internal (the app itself), allowlist, public; by default "
        "allowlist if one is set.",
    )
    allowed_hosts: tuple[AllowedHost, ...] = _key(
        (),
        checks.allowed_hosts,
        "The hosts that absolute URLs and targets may name: names, ``*.example.com``, "
        "addresses, networks.",
    )
    target_ports: tuple[int, ...] = _key(
        (80, 443), checks.ports, "The ports of public hosts that are not among the allowed ones."
    )
    redact: tuple[str, ...] = _key(
        REDACT,
        checks.texts,
        "Parts of names, whatever their case: the values of such headers and params are "
        "never shown.",
    )
    trace_propagation: bool = _key(
        True,
        checks.boolean,
        "Whether tasks carry the trace context in which they were added (traceparent, "
        "tracestate, baggage, sentry-trace).",
    )

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Return the settings in a Flask configuration.

        Raises `ConfigurationError` for an unknown ``TASKQUEUE_`` key, suggesting the nearest match,
        and for a value that cannot be used.
        """
        checked = {PREFIX + setting.name.upper(): setting for setting in fields(cls)}
        given = {key: value for key, value in config.items() if key.startswith(PREFIX)}
        for key in given:
            if key not in checked:
                raise ConfigurationError(
                    f"{key} is not a setting of Flask-TaskQueue{checks.nearest(key, checked)}"
                )
        settings = cls(
            **{
                checked[key].name: checked[key].metadata["check"](key, value)
                for key, value in given.items()
                if value is not None
            }
        )
        check_engines(
            settings,
            settings.queues.values(),
            base_url=settings.base_url,
            deadline=settings.deadline,
            retry=settings.retry,
        )
        return settings

    def deadline_of(self, queue: QueueSettings | None, given: float | None) -> float:
        """Return the deadline, in seconds, of an attempt of a task.

        It is the task's own (``given``), otherwise its queue's, otherwise the general one.
        """
        found = given or (queue.deadline if queue is not None else None)
        return found if isinstance(found, int | float) and found > 0 else self.deadline
