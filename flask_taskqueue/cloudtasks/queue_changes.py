"""The rpcs that create, change and delete queues."""

from __future__ import annotations

import math
from datetime import timedelta
from functools import partial

from ..api.added_queues import add_queue, change_queue, delete_queue
from ..core.queues.rates import BUCKET_SIZE
from ..core.retry import RetryOptions
from ..core.rpc.messages import Fields
from ..core.rpc.resource_names import QueueName, location_name, queue_name
from ..core.rpc.status import Code, RpcError, invalid
from ..core.settings.engines import MOST_CONCURRENT
from ..core.settings.queue import LimitOptions, QueueOptions, QueueSettings
from .context import NOT_FOUND, Context, Reply, required
from .messages import RETRY_CONFIG
from .queues import CONCURRENT, FASTEST, shown_queue
from .retry_config import changed_options, retry_options

_SLOWEST = 1e-9
_LARGEST_BUCKET = 10_000
_LONGEST_TOMBSTONE = 9 * 86_400
_UNSUPPORTED = {
    "appEngineRoutingOverride": "name the service in the task, in appEngineRouting",
    "appEngineHttpQueue": "name the service in the task, in appEngineRouting",
    "httpTarget": "say in the task where it goes",
    "taskTtl": "TASKQUEUE_RETRY says when tasks give up",
}
_CONFIGURED = (
    "queue {queue} is configured by the app, in TASKQUEUE_QUEUES or queue.yaml: change {what} there"
)


def create(context: Context, fields: Fields) -> Reply:
    """Create a queue, with Cloud Tasks' defaults for what is not given."""
    parent = context.check_parent(location_name(required(fields, "parent")))
    given = required(fields, "queue")
    name = queue_name(required(given, "name"), "queue.name")
    if name.parent != parent:
        raise invalid(f"queue.name is in {name.parent}, but parent is {parent}.")
    _create(context, name, given)
    return shown_queue(context, name, fields)


def update(context: Context, fields: Fields) -> Reply:
    """Change what the mask names of a queue, or what is given; create it if there is none.

    Of a queue that the app configures, only the limits can be changed, as by ``configure()``.
    """
    given = required(fields, "queue")
    name = queue_name(required(given, "name"), "queue.name")
    context.check_parent(name.parent, "the queue")
    paths: frozenset[str] = fields.get("updateMask", frozenset())
    if not context.exists(name):
        _create(context, name, given)
    elif name.queue in context.runtime.settings.queues:
        _configure(context, name, given, paths)
    else:
        _change(context, name, given, paths)
    return shown_queue(context, name, fields)


def delete(context: Context, fields: Fields) -> Reply:
    """Delete a queue with its tasks; its name is free again after three days."""
    name = context.queue_of(fields, missing=NOT_FOUND)
    if name.queue in context.runtime.settings.queues:
        raise _configured(name, "it, or take it out,")
    work = partial(delete_queue, context.runtime, name.queue, context.transactional)
    context.change("delete queue", name.queue, work)
    return {}


def _create(context: Context, name: QueueName, given: Fields) -> None:
    options: QueueOptions = {
        **_settings(given),
        "retry": retry_options(given.get("retryConfig", {})),
    }
    _add_bucket(options)
    work = partial(
        add_queue,
        context.runtime,
        name.queue,
        options,
        context.transactional,
        origin="cloudtasks",
    )
    context.change("add queue", name.queue, work)


def _change(context: Context, name: QueueName, given: Fields, paths: frozenset[str]) -> None:
    """Change an added queue."""
    options = _changed(context.settings_of(name), _settings(given, paths))
    retry = _retry(context, name, given, paths)
    if retry is not None:
        options["retry"] = retry
    _add_bucket(options)
    if options:
        work = partial(change_queue, context.runtime, name.queue, options, context.transactional)
        context.change("change queue", f"{name.queue}: {', '.join(options)}", work)


def _configure(context: Context, name: QueueName, given: Fields, paths: frozenset[str]) -> None:
    """Change the limits of a configured queue. Raises `RpcError` for anything else."""
    options = _changed(context.queue(name).settings, _settings(given, paths))
    if "tombstone_ttl" in options:
        raise _configured(name, "its tombstoneTtl")
    if _retry(context, name, given, paths) is not None:
        raise _configured(name, "its retry policy")
    limits: LimitOptions = {}
    if "rate" in options:
        limits["rate"] = options["rate"]
    if "max_concurrent" in options:
        limits["max_concurrent"] = options["max_concurrent"]
    if limits:
        told = ", ".join(f"{limit}={value}" for limit, value in limits.items())
        work = partial(context.queue(name).configure, transactional=context.transactional, **limits)
        context.change("configure", f"{name.queue}: {told}", work)


def _configured(name: QueueName, what: str) -> RpcError:
    return RpcError(Code.FAILED_PRECONDITION, _CONFIGURED.format(queue=name.queue, what=what))


def _settings(given: Fields, paths: frozenset[str] = frozenset()) -> QueueOptions:
    """Return the settings that a message gives and the mask names, without the retry policy.

    What the mask names and the message lacks is None, the default. Raises `RpcError`.
    """
    for field, instead in _UNSUPPORTED.items():
        if given.get(field):
            raise invalid(f"{field} is not supported: {instead}.")
    if given.get("type") == "PULL":
        raise invalid("type is PULL, and only push queues are supported.")
    found: QueueOptions = {}
    limits = given.get("rateLimits", {})
    if _is_named("rateLimits", "maxDispatchesPerSecond", limits, paths):
        found["rate"] = _rate(limits.get("maxDispatchesPerSecond") or None)
    if _is_named("rateLimits", "maxConcurrentDispatches", limits, paths):
        found["max_concurrent"] = _concurrent(limits.get("maxConcurrentDispatches") or None)
    if "tombstonettl" in paths or ("tombstoneTtl" in given and paths <= {"*"}):
        found["tombstone_ttl"] = _tombstone(given.get("tombstoneTtl"))
    return found


def _changed(current: QueueSettings, options: QueueOptions) -> QueueOptions:
    """Return the options without those that a queue without limits is shown with."""
    if current.rate is None and options.get("rate") == _rate(FASTEST):
        del options["rate"]
    if current.max_concurrent is None and options.get("max_concurrent") == CONCURRENT:
        del options["max_concurrent"]
    return options


def _concurrent(most: int | None) -> int | None:
    if most is not None and not 0 < most <= MOST_CONCURRENT:
        raise invalid(f"maxConcurrentDispatches is {most}; it must be 1 to {MOST_CONCURRENT}.")
    return most


def _tombstone(given: timedelta | None) -> float | None:
    if given is None:
        return None
    seconds = given.total_seconds()
    if not 0 <= seconds <= _LONGEST_TOMBSTONE:
        raise invalid(f"tombstoneTtl is {seconds:g}s; it must be 0s to {_LONGEST_TOMBSTONE}s.")
    return seconds


def _rate(rate: float | None) -> str | None:
    if rate is None:
        return None
    if not _SLOWEST <= rate <= FASTEST:
        raise invalid(
            f"maxDispatchesPerSecond is {rate:g}; it must be {_SLOWEST:g} to {FASTEST:g}."
        )
    return f"{rate:.9f}/s"


def _add_bucket(options: QueueOptions) -> None:
    """Give a queue a bucket for a second of its rate, as Cloud Tasks does."""
    rate = options.get("rate")
    if isinstance(rate, str):
        second = math.ceil(float(rate.removesuffix("/s")))
        options["bucket_size"] = min(max(second, BUCKET_SIZE), _LARGEST_BUCKET)


def _retry(
    context: Context, name: QueueName, given: Fields, paths: frozenset[str]
) -> RetryOptions | None:
    """Return the retry policy that a queue is to have; None if that is the one that it has."""
    config: Fields = given.get("retryConfig", {})
    named = [part for part in RETRY_CONFIG.fields if _is_named("retryConfig", part, config, paths)]
    if not named:
        return None
    current = context.settings_of(name).retry or context.runtime.settings.retry
    wanted = changed_options(current, {part: config.get(part) for part in named})
    return None if wanted == changed_options(current, {}) else wanted


def _is_named(field: str, part: str, given: Fields, paths: frozenset[str]) -> bool:
    """Return whether a part of a field is to be changed."""
    if not paths:
        return part in given
    whole = field.lower()
    return bool(paths & {"*", whole, f"{whole}.{part.lower()}"})
