"""A task before it is stored: as its user describes it, and as it is checked."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from ..errors import InvalidTaskError
from ..retry import RetryOptions
from ..times import duration_micros
from ..urls import redacted
from .request import TaskRequest

if TYPE_CHECKING:
    Duration = float | str | timedelta


class _CommonOptions(TypedDict, total=False):
    """The options of handlers, schedules and tasks alike."""

    priority: int | None
    expires: datetime | Duration | None
    unique_key: str | None
    on_conflict: OnConflict
    concurrency_key: str | None
    concurrency_limit: int
    serial_key: str | None
    rate_key: str | None
    keep_result: bool
    headers: Mapping[str, str] | None
    target: str | None
    then: TaskSpec | Iterable[TaskSpec] | None


class HandlerOptions(_CommonOptions, total=False):
    """The options of `TaskOptions` that a handler may declare for all its tasks.

    It declares its queue, deadline and retry policy as well. ``then`` holds tasks of handlers that
    are declared before this one.
    """

    countdown: Duration | None


class ScheduleOptions(_CommonOptions, total=False):
    """The options of the tasks of a schedule: `TaskOptions` without name, eta and countdown."""

    json: Any
    payload: str | bytes | None
    event: Mapping[str, Any] | None
    method: str | None
    queue: str | None
    deadline: Duration | None
    retry: RetryOptions | Mapping[str, Any] | None


class TaskOptions(ScheduleOptions, total=False):
    """The options of a task beside its URL and params.

    Durations are seconds, texts such as "10m", or timedeltas.

    ``json``, ``payload``: the body, instead of params. ``event``: the attributes that make the
    request a CloudEvent, ``type`` and ``source`` at least; its id is the task's. ``method``: POST
    unless given. ``headers``: the headers of the request. ``queue``: its queue. ``priority``: from
    -9 to 9, the higher the sooner; each step counts as a minute of waiting. ``eta``, ``countdown``:
    run it no earlier than this aware datetime, or this long from now. ``expires``: an aware
    datetime or a duration; a task that has not begun by then, or not again after a failure, is
    cancelled. ``deadline``: how long one attempt may take. ``retry``: the retry policy. ``target``:
    another base URL to send a path to.

    ``name``: unique in its queue, for as long as the task is kept or the queue's ``tombstone_ttl``
    says. ``unique_key``: unique among the queue's tasks that have not ended; ``on_conflict`` says
    what happens to a second one: "skip" (the default: it is not added), "raise", "replace" (the
    first is cancelled) or "debounce" (the first takes its request, eta and expiry).
    ``concurrency_key``: at most ``concurrency_limit`` (1) tasks with this key run at a time.
    ``serial_key``: tasks with this key run one after the other, in the order in which they were
    added. ``rate_key``: attempts with this key keep to the queue's ``rate_per_key``. These three
    exclude each other.

    ``then``: tasks that are added when this one succeeds; `REPLY` stands in them for its reply.
    ``keep_result``: whether the reply of the success is kept, for `Task.result`.
    """

    eta: datetime | None
    countdown: Duration | None
    name: str | None


class SpecOptions(TaskOptions, total=False):
    """Every argument of ``tasks.add`` beside the URL and the params: also ``transactional``."""

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
        self.url: Any = url
        self.params: Mapping[str, Any] | None = params
        self.options: SpecOptions = options
        for name in options:
            if name not in _NAMES:
                matches = difflib.get_close_matches(name, sorted(_NAMES), n=1)
                hint = (
                    f"did you mean {matches[0]}?"
                    if matches
                    else f"the handler's parameters go into a dict: add(url, {{{name!r}: ...}})"
                )
                raise TypeError(f"a task has no argument {name!r}; {hint}")

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

    @classmethod
    def each(cls, given: Iterable[Any]) -> Iterator[TaskSpec]:
        """Make a spec from each item of a list or a generator.

        Raises `InvalidTaskError` for one task in its place, of whose letters or names each would be
        taken for a task.
        """
        if isinstance(given, cls | str | Mapping) or not isinstance(given, Iterable):
            raise InvalidTaskError(
                f"the tasks are of type {type(given).__name__}; give a list, or another iterable, "
                "whose items are tasks"
            )
        return map(cls.of, given)


SpecLike = (
    TaskSpec | str | Callable[..., Any] | tuple[Any, Mapping[str, Any] | None] | Mapping[str, Any]
)
"""An item of a list of tasks.

It is a `TaskSpec`, a URL, a worker, a pair of these and params, or a mapping of add()'s arguments.
"""

OnConflict = Literal["skip", "raise", "replace", "debounce"]
Disposition = Literal["added", "skipped", "replaced", "debounced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """The task that add() makes from its arguments, fully checked.

    ``eta`` is the datetime asked for; if it is None, the task is due ``delay`` microseconds after
    it was stored, by the database's clock. It expires at ``expires_at``, or ``expires_in``
    microseconds after it was stored. ``lock_key`` is shared by tasks of which ``lock_limit`` may
    run at a time; without a limit they run one by one in the order of their ids, except by a rate.
    """

    id: str
    request: TaskRequest
    name: str | None = None
    tombstone_ttl: float | None = None
    queue: str = "default"
    priority: int = 0
    eta: datetime | None = None
    delay: int = 0
    deadline: float | None = None
    retry: str | None = None
    target: str | None = None
    unique_key: str | None = None
    on_conflict: OnConflict = "skip"
    lock_key: str | None = None
    lock_limit: int | None = None
    expires_at: datetime | None = None
    expires_in: int | None = None
    follow_up: str | None = field(default=None, repr=False)
    batch_id: str | None = None
    callback_of: str | None = None
    schedule: str | None = None
    keep_result: bool = False
    for_worker: bool = False
    """Whether its URL is a worker's, so that no other view may complete it."""
    surface: str | None = None
    """How it was added, if by the API of another product (see `Surface`), as it is stored."""
    tag: str | None = None
    """The tag by which tasks of a pull queue are leased together."""
    reply_to: str | None = None
    """Where it gets the reply of the task that it follows (see `handover`); None if it does not."""

    @property
    def headers(self) -> str | None:
        """The headers as they are stored: JSON, or None for none."""
        return (
            json.dumps(self.request.headers, separators=(",", ":"))
            if self.request.headers
            else None
        )

    @property
    def tombstone(self) -> int | None:
        """Microseconds that the name outlives the end; None means as long as the task is kept."""
        return None if self.tombstone_ttl is None else duration_micros(self.tombstone_ttl)
