"""The options that a handler declares for its tasks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, cast

from ..errors import InvalidTaskError, InvalidUrlError
from ..names import check_key
from .options import (
    check_countdown,
    check_deadline,
    check_flag,
    check_priority,
    conflict,
    expiry,
    lock,
    retry_json,
)
from .packed import FollowUpError
from .request import check_headers, check_method
from .spec import HandlerOptions, SpecOptions, TaskSpec

_EXCLUSIVE = (
    {"eta", "countdown"},
    {name for name in HandlerOptions.__optional_keys__ if name.endswith("_key")} - {"unique_key"},
)
"""Options of which a task can have only one."""
_LONGEST_CHAIN = 100
"""How many tasks may follow each other, so that each level is read without deep recursion."""
_ELSEWHERE = {
    "name": "a name is one task's own: give it with .options() or to add()",
    "eta": "an eta is one task's own: give it with .options() or to add()",
    "json": "the body is what a task holds: give it to add()",
    "payload": "the body is what a task holds: give it to add()",
    "method": "a worker has methods=, of which the first is that of its tasks",
}


def check_declared(
    deadline: float | str | timedelta | None, transactional: bool, options: HandlerOptions
) -> HandlerOptions:
    """Check the options that a handler declares for its tasks, and return them to be kept.

    Raises `InvalidTaskError` and its subclasses, and TypeError for an unknown one. What only an app
    can tell, such as whether a target is allowed, is checked when a task is added.
    """
    for name in options:
        if name not in HandlerOptions.__optional_keys__:
            raise TypeError(f"a handler has no option {name!r}; {_hint(name)}")
    check_flag("transactional", transactional)
    check_values({**options, "deadline": deadline})
    if (then := options.get("then")) is None:
        return options
    return {**options, "then": _that_ends(then)}


def check_values(options: Mapping[str, Any]) -> None:
    """Check the values of options that are declared, each as a task's.

    Another declaration may have the key that one of them is for. Raises `InvalidTaskError` and its
    subclasses, and `InvalidTaskRetryOptionsError`.
    """
    check_flag("keep_result", options.get("keep_result", False))
    for name, check in _CHECKS.items():
        if (value := options.get(name)) is not None:
            check(value)
    conflict(cast(HandlerOptions, {**options, "unique_key": options.get("unique_key") or ""}))
    keys = {name: value for name, value in options.items() if name != "concurrency_limit"}
    lock(cast(HandlerOptions, keys))
    if "concurrency_limit" in options:  # for those tasks that have a key
        lock({"concurrency_key": "key", "concurrency_limit": options["concurrency_limit"]})


def with_declared(given: SpecOptions, declared: HandlerOptions) -> SpecOptions:
    """Return the options of a task with those that its handler declares.

    What is given for the task goes before what is declared, and before what it excludes: an eta
    before a countdown, a serial_key before a concurrency_key. An ``on_conflict`` is declared for
    those tasks that have a unique_key, a ``concurrency_limit`` for those with a concurrency_key.
    """
    own = {name: value for name, value in given.items() if value is not None or name == "json"}
    excluded = {name for group in _EXCLUSIVE if not group.isdisjoint(own) for name in group}
    kept = {name: value for name, value in declared.items() if name not in excluded}
    merged: dict[str, Any] = {**kept, **own}
    for key, option in (("unique_key", "on_conflict"), ("concurrency_key", "concurrency_limit")):
        if merged.get(key) is None and option not in own:
            merged.pop(option, None)
    return cast(SpecOptions, merged)


def check_target(target: object) -> str:
    """Return a target. Raises `InvalidUrlError` for anything but text."""
    if not isinstance(target, str):
        raise InvalidUrlError(
            f"target is of type {type(target).__name__}; it must be a base URL, such as "
            "'https://api.example.com', or a name of TASKQUEUE_SERVICES"
        )
    return target


def then_specs(then: object, level: int = 0) -> list[TaskSpec]:
    """Return the tasks that follow one that has itself this many tasks before it.

    Raises `InvalidTaskError` for anything but tasks, and for too long a chain.
    """
    if level >= _LONGEST_CHAIN:
        raise FollowUpError(
            f"more than {_LONGEST_CHAIN} tasks follow each other by then: have one of them add "
            "the next"
        )
    if isinstance(then, str | Mapping) or not isinstance(then, TaskSpec | Iterable):
        raise InvalidTaskError(
            f"then is of type {type(then).__name__}; it must be a TaskSpec, as of "
            "handler.spec(), or a list of them"
        )
    return [then] if isinstance(then, TaskSpec) else [TaskSpec.of(spec) for spec in then]


_CHECKS: dict[str, Callable[[Any], object]] = {
    "deadline": check_deadline,
    "method": check_method,
    "priority": check_priority,
    "retry": retry_json,
    "unique_key": partial(check_key, "unique_key"),
    "expires": expiry,
    "headers": check_headers,
    "countdown": check_countdown,
    "target": check_target,
}


def _that_ends(then: object) -> tuple[TaskSpec, ...]:
    """Return the tasks that follow each task of a handler.

    They come from handlers that are declared already, so what follows them never leads back.
    """
    specs = tuple(then_specs(then))
    for spec in specs:
        if spec.url is None or isinstance(spec.url, str):
            raise InvalidTaskError(
                f"a handler declares a then of {spec.url!r}, which may lead back to the handler "
                "itself: give the task of a handler that is declared before, as handler.spec()"
            )
        if spec.options.get("then") is not None:
            _that_ends(spec.options["then"])
    return specs


def _hint(name: str) -> str:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    known = sorted(HandlerOptions.__optional_keys__ | {"queue", "deadline", "retry"})
    matches = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {matches[0]}?" if matches else f"it may have {', '.join(known)}"
