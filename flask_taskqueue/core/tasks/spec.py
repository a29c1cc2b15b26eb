"""The arguments of add(): a task as its user describes it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ..retry import RetryOptions
from ..urls import redacted
from .new_task import OnConflict

if TYPE_CHECKING:
    Duration = float | str | timedelta


class ScheduleOptions(TypedDict, total=False):
    """The options of the tasks of a schedule: `TaskOptions` without name, eta and countdown."""

    json: Any
    payload: str | bytes | None
    method: str | None
    headers: Mapping[str, str] | None
    queue: str | None
    priority: int | None
    expires: datetime | Duration | None
    deadline: Duration | None
    retry: RetryOptions | Mapping[str, Any] | None
    target: str | None
    unique_key: str | None
    on_conflict: OnConflict
    concurrency_key: str | None
    concurrency_limit: int
    serial_key: str | None
    then: TaskSpec | Iterable[TaskSpec] | None
    keep_result: bool


class TaskOptions(ScheduleOptions, total=False):
    """The options of a task beside its URL and params.

    Durations are seconds, texts such as "10m", or timedeltas.

    ``json``, ``payload``: the body, instead of params. ``method``: POST unless given. ``headers``:
    the headers of the request. ``queue``: its queue. ``priority``: from -9 to 9, the higher the
    sooner; each step counts as a minute of waiting. ``eta``, ``countdown``: run it no earlier than
    this aware datetime, or this long from now. ``expires``: an aware datetime or a duration; a task
    that has not begun by then is cancelled. ``deadline``: how long one attempt may take. ``retry``:
    the retry policy. ``target``: another base URL to send a path to.

    ``name``: unique in its queue, for as long as the task is kept or the queue's ``tombstone_ttl``
    says. ``unique_key``: unique among the queue's tasks that have not ended; ``on_conflict`` says
    what happens to a second one: "skip" (the default: it is not added), "raise", "replace" (the
    first is cancelled) or "debounce" (the first takes its request and eta). ``concurrency_key``: at
    most ``concurrency_limit`` (1) tasks with this key run at a time. ``serial_key``: tasks with
    this key run one after the other, in the order in which they were added.

    ``then``: tasks that are added when this one succeeds. ``keep_result``: whether the reply of the
    success is kept, for `Task.result`.
    """

    eta: datetime | None
    countdown: Duration | None
    name: str | None


class SpecOptions(TaskOptions, total=False):
    """Every argument of ``tasks.add`` beside the URL and the params.

    These are the options of `TaskOptions`, and ``transactional``.
    """

    transactional: bool | None


_NAMES = SpecOptions.__optional_keys__


class TaskSpec:
    """A task that has not been added yet, for lists, batches and follow-up tasks.

    The arguments are those of ``tasks.add``; they are checked when it is added. ``transactional``
    is for a task that is added alone: in a list or batch it belongs to the call that adds them.
    Raises TypeError for an unknown argument.
    """

    __slots__ = ("options", "params", "url")

    def __init__(
        self,
        url: Any = None,
        params: Mapping[str, Any] | None = None,
        **options: Unpack[SpecOptions],
    ) -> None:
        self.url = url
        self.params = params
        self.options = options
        for name in options:
            if name not in _NAMES:
                matches = difflib.get_close_matches(name, sorted(_NAMES), n=1)
                hint = f"; did you mean {matches[0]}?" if matches else ""
                raise TypeError(f"a task has no argument {name!r}{hint}")

    def __repr__(self) -> str:
        return f"<TaskSpec {redacted(self.url) if isinstance(self.url, str) else self.url!r}>"

    def in_queue(self, queue: str) -> TaskSpec:
        """Return the same task in another queue."""
        options: SpecOptions = {**self.options, "queue": queue}
        return TaskSpec(self.url, self.params, **options)

    def split_transactional(self, transactional: bool | None) -> tuple[TaskSpec, bool | None]:
        """Return the task without ``transactional``, and the value that applies.

        The call's value takes precedence over the task's own.
        """
        if "transactional" not in self.options:
            return self, transactional
        options: SpecOptions = {**self.options}
        own = options.pop("transactional")
        return TaskSpec(
            self.url, self.params, **options
        ), own if transactional is None else transactional

    @classmethod
    def of(cls, given: Any) -> TaskSpec:
        """Make a spec from anything that describes a task.

        That is a spec, a URL, a pair of URL and params, or a mapping of arguments.
        """
        if isinstance(given, TaskSpec):
            return given
        if isinstance(given, Mapping):
            return cls(**given)
        if isinstance(given, tuple) and len(given) == 2:
            return cls(*given)
        return cls(given)


SpecLike = (
    TaskSpec | str | Callable[..., Any] | tuple[Any, Mapping[str, Any] | None] | Mapping[str, Any]
)
"""A task as an item of a list.

It is a `TaskSpec`, a URL or a worker, a pair of these and params, or a mapping of the arguments of
``tasks.add``.
"""
