"""The rpcs about queues."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa

from ..api.statistics import statistics
from ..core.rpc.messages import Fields
from ..core.rpc.resource_names import QueueName, location_name, queue_name
from ..core.rpc.status import Code, RpcError, invalid
from ..core.rpc.wire import timestamp_text
from ..core.settings.queue import LimitOptions
from ..core.times import to_micros
from . import tasks
from .context import NOT_FOUND, Context, Reply, required
from .retry_config import retry_config, retry_options

_MOST = 9800
_FASTEST, _CONCURRENT = 500.0, 1000
"""What Cloud Tasks shows for a queue without limits."""
_FIXED = ("appEngineRoutingOverride", "appEngineHttpQueue", "httpTarget", "taskTtl", "tombstoneTtl")
_COMPARISON = re.compile(
    r'\s*([A-Za-z_.]{1,80})\s*(<=|>=|!=|=|<|>|:)\s*(?:"([^"\\]{0,200})"|([^"\\\s]{1,200}))\s*',
    re.ASCII,
)
_CONFIGURED = (
    "queue {queue} is configured by the app, in TASKQUEUE_QUEUES or queue.yaml: change {what} there"
)


def get(context: Context, fields: Fields) -> Reply:
    """Return a queue."""
    name = context.queue_of(fields)
    return _shown(context, name, _rows(context)[name.queue], fields)


def list_all(context: Context, fields: Fields) -> Reply:
    """Return a page of queues, by name."""
    parent = context.check_parent(location_name(required(fields, "parent")))
    size, fits = tasks.page_size(fields, _MOST), _filter(fields.get("filter", ""))
    after = tasks.page_start(fields.get("pageToken", ""))
    rows = _rows(context)
    names = sorted(name for name in context.runtime.settings.queues if name > after)
    shown = [_shown(context, QueueName(parent, name), rows[name], fields) for name in names[:size]]
    more = {"nextPageToken": tasks.page_token(names[size - 1])} if len(names) > size else {}
    found = [queue for queue in shown if fits(queue)]
    return ({"queues": found} if found else {}) | more


def create(context: Context, fields: Fields) -> Reply:
    """Create a queue."""
    parent = context.check_parent(location_name(required(fields, "parent")))
    name = queue_name(required(required(fields, "queue"), "name"), "queue.name")
    if name.parent != parent:
        raise invalid(f"queue.name is in {name.parent}, but parent is {parent}.")
    if name.queue in context.runtime.settings.queues:
        raise RpcError(Code.ALREADY_EXISTS, "Queue already exists")
    raise _unknown(name)


def update(context: Context, fields: Fields) -> Reply:
    """Change the limits of a queue for all dispatchers, as ``queue.configure()`` does."""
    given = required(fields, "queue")
    name = queue_name(required(given, "name"), "queue.name")
    context.check_parent(name.parent, "the queue")
    if name.queue not in context.runtime.settings.queues:
        raise _unknown(name)
    paths: frozenset[str] = fields.get("updateMask", frozenset())
    _refuse_others(context, name, given, paths)
    limits = _limits(given.get("rateLimits", {}), paths)
    if limits:
        told = ", ".join(f"{limit}={value}" for limit, value in limits.items())
        work = partial(context.queue(name).configure, transactional=context.transactional, **limits)
        context.change("configure", f"{name.queue}: {told}", work)
    return _shown(context, name, _rows(context)[name.queue], fields)


def delete(context: Context, fields: Fields) -> Reply:
    """Delete a queue."""
    name = context.queue_of(fields, missing=NOT_FOUND)
    raise _configured(name, "or take it out")


def purge(context: Context, fields: Fields) -> Reply:
    """Cancel the tasks of a queue."""
    name = context.queue_of(fields)
    work = partial(context.queue(name).purge, transactional=context.transactional)
    context.change("purge", name.queue, work)
    return _shown(context, name, _rows(context)[name.queue], fields)


def pause(context: Context, fields: Fields) -> Reply:
    """Pause a queue."""
    name = context.queue_of(fields)
    by = None if context.actor is None else context.actor.who
    work = partial(context.queue(name).pause, by, transactional=context.transactional)
    context.change("pause", name.queue, work)
    return {**_shown(context, name, _rows(context)[name.queue], fields), "state": "PAUSED"}


def resume(context: Context, fields: Fields) -> Reply:
    """Resume a queue."""
    name = context.queue_of(fields)
    work = partial(context.queue(name).resume, transactional=context.transactional)
    context.change("resume", name.queue, work)
    return {**_shown(context, name, _rows(context)[name.queue], fields), "state": "RUNNING"}


def _rows(context: Context) -> Mapping[str, sa.Row[Any]]:
    runtime = context.runtime
    runtime.see_queues()
    with runtime.store.reading() as connection:
        return {row.name: row for row in runtime.store.queues.rows(connection)}


def _shown(context: Context, name: QueueName, row: sa.Row[Any], fields: Fields) -> Reply:
    """Return a queue as its clients see it; its statistics only if they are asked for."""
    options = context.settings_of(name).retry or context.runtime.settings.retry
    reply: Reply = {
        "name": str(name),
        "rateLimits": {
            "maxDispatchesPerSecond": _FASTEST if row.rate is None else row.rate,
            "maxBurstSize": row.bucket_size,
            "maxConcurrentDispatches": row.max_concurrent or _CONCURRENT,
        },
        "retryConfig": retry_config(options),
        "state": "RUNNING" if row.paused_at is None and row.rate != 0 else "PAUSED",
    }
    if context.version == "v2":
        return reply
    reply["type"] = "PUSH"
    asked: frozenset[str] = fields.get("readMask", frozenset())
    if any(path.partition(".")[0] == "stats" for path in asked):
        reply["stats"] = _statistics(context, name)
    return reply


def _statistics(context: Context, name: QueueName) -> Reply:
    found = statistics(context.runtime, [name.queue])[0]
    reply: Reply = {
        "tasksCount": str(found.scheduled + found.in_flight + found.waiting_for_key),
        "executedLastMinuteCount": str(found.executed_last_minute),
        "concurrentDispatchesCount": str(found.in_flight),
        "effectiveExecutionRate": _FASTEST if found.enforced_rate is None else found.enforced_rate,
    }
    if found.oldest_eta is not None:
        reply["oldestEstimatedArrivalTime"] = timestamp_text(to_micros(found.oldest_eta))
    return reply


def _unknown(name: QueueName) -> RpcError:
    return RpcError(
        Code.FAILED_PRECONDITION,
        f"there is no queue {name.queue}, and queues are configured by the app: add it to "
        "TASKQUEUE_QUEUES or queue.yaml",
    )


def _configured(name: QueueName, what: str) -> RpcError:
    return RpcError(
        Code.FAILED_PRECONDITION, _CONFIGURED.format(queue=name.queue, what=f"it, {what},")
    )


def _refuse_others(context: Context, name: QueueName, given: Fields, paths: frozenset[str]) -> None:
    """Raise `RpcError` for changes of what only the app's configuration can change."""
    options = context.settings_of(name).retry or context.runtime.settings.retry
    for field in _FIXED:
        if given.get(field):
            raise RpcError(
                Code.FAILED_PRECONDITION,
                _CONFIGURED.format(queue=name.queue, what=f"its {field}"),
            )
    named = not paths or any(path.startswith("retryconfig") for path in paths)
    if "retryConfig" in given and named and retry_options(given["retryConfig"]) != options:
        raise RpcError(
            Code.FAILED_PRECONDITION,
            _CONFIGURED.format(queue=name.queue, what="its retry policy"),
        )


def _limits(limits: Fields, paths: frozenset[str]) -> LimitOptions:
    """Return the limits that are to be changed."""
    found: LimitOptions = {}
    if _is_named("maxDispatchesPerSecond", limits, paths):
        rate = limits.get("maxDispatchesPerSecond") or None
        if rate is not None and not 0 < rate <= _FASTEST:
            raise invalid(f"maxDispatchesPerSecond is {rate:g}; it must be at most {_FASTEST:g}.")
        found["rate"] = None if rate is None else f"{rate:.9f}/s"
    if _is_named("maxConcurrentDispatches", limits, paths):
        most = limits.get("maxConcurrentDispatches") or None
        if most is not None and not 0 < most <= 5000:
            raise invalid(f"maxConcurrentDispatches is {most}; it must be 1 to 5000.")
        found["max_concurrent"] = most
    return found


def _is_named(field: str, limits: Fields, paths: frozenset[str]) -> bool:
    if not paths:
        return field in limits
    return bool(paths & {"ratelimits", f"ratelimits.{field.lower()}"})


def _filter(text: str) -> Callable[[Reply], bool]:
    """Return what a filter lets through: one comparison, such as ``state: PAUSED``."""
    if not text.strip():
        return lambda _: True
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise invalid(f"filter {text[:80]!r} must be one comparison, such as state: PAUSED.")
    path, sign, quoted, plain = match.groups()
    wanted = plain if quoted is None else quoted
    parts = path.replace("_", "").lower().split(".")
    return lambda queue: _compare(_value(queue, parts), sign, wanted)


def _value(queue: Any, parts: list[str]) -> Any:
    for part in parts:
        fields = {name.lower(): value for name, value in queue.items()}
        queue = fields.get(part) if isinstance(fields.get(part), dict) else fields.get(part, "")
        if not isinstance(queue, dict):
            break
    return queue


def _compare(value: Any, sign: str, wanted: str) -> bool:
    if sign == ":":
        return wanted.lower() in str(value).lower()
    if sign in ("=", "!="):
        return (str(value) == wanted or _number(value) == _number(wanted, other=1)) is (sign == "=")
    have, limit = _number(value), _number(wanted)
    if have is None or limit is None:
        raise invalid(f"filter compares with {wanted!r}, which is no number.")
    return {"<": have < limit, ">": have > limit, "<=": have <= limit, ">=": have >= limit}[sign]


def _number(value: Any, other: Any = None) -> float | Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return other
