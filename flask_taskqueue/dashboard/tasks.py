"""The page of tasks, and what can be done to many of them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from flask import g, request, url_for
from werkzeug.exceptions import BadRequest

from ..api.bulk import change_ids
from ..api.changes import make_change
from ..core.clock import SECOND, to_datetime
from ..core.durations import seconds
from ..core.errors import ConfigurationError, shown
from ..core.ids import is_task_id
from ..core.record import Record
from ..core.security.redaction import Sight
from ..runtime import Runtime
from ..store import CAP, Action, Cursor, Filter, ListKind, QueueCounts, Visible
from ..store.tasks.filters import LastStatus
from .audit import printable
from .errors import ids_of
from .rendering import Deed, Page

_OPEN, _URLS = ("group", "queue", "status", "attempts", "since"), ("url", "q")
FIELDS = (*_OPEN, *_URLS)
_LONGEST = 500
_LOOKED_FOR = re.compile(rf", (?:{'|'.join(_URLS)}) .*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The list, its filter, and the arguments as they were given. ``problems`` says which of
    them could not be used.
    """

    kind: ListKind
    wanted: Filter
    visible: Visible
    given: Mapping[str, str]
    after: Cursor | None = None
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, arguments: Mapping[str, str], sight: Sight) -> Chosen:
        """What some arguments choose among what is seen. What cannot be used is left out, and
        told.
        """
        given = {
            name: value for name in FIELDS if (value := arguments.get(name, "").strip()[:_LONGEST])
        }
        problems: list[str] = []
        state = arguments.get("state", "all")
        if state not in list(ListKind):
            problems.append(f"There is no list of {state[:40]!r}; this is every task.")
            state = ListKind.ALL
        wanted = Filter(
            queue=given.get("queue"),
            status=_status(given, problems),
            attempts_at_least=_attempts(given, problems),
            since=_since(given, problems),
        )
        visible = Visible(sight=sight, url=given.get("url"), search=given.get("q"))
        return cls(
            ListKind(state),
            wanted,
            visible,
            given,
            Cursor.parse(arguments.get("after", "")),
            problems,
        )

    def among(self, ids: Sequence[str] | None) -> Chosen:
        """The same among these tasks only; None says that the group of errors whose they would
        be is not there any more.
        """
        problems = (
            self.problems
            if ids is not None
            else [*self.problems, "There is no such group of errors any more."]
        )
        return replace(self, wanted=replace(self.wanted, ids=ids or ()), problems=problems)

    @property
    def only_queue(self) -> bool:
        """Whether nothing but the queue is filtered by, so that the counts of the lists hold."""
        return not set(self.given) - {"queue"}

    def told(self) -> str:
        """What is chosen, for people; what may be of a URL comes last (see `without_urls`)."""
        given = {
            name: self.visible.sight.url(value) if name == "url" else value
            for name, value in self.given.items()
        }
        return ", ".join(
            [
                f"{self.kind} tasks",
                *(f"{name} {given[name]}" for name in (*_OPEN, *_URLS) if name in given),
            ]
        )

    def arguments(self, **changes: str | None) -> dict[str, str]:
        """The arguments of a link to the same, with changes; without a place."""
        changed = {"state": self.kind.value, **self.given, **changes}
        return {
            name: value
            for name, value in changed.items()
            if value and (name, value) != ("state", "all")
        }


def without_urls(told: str) -> str:
    """What `Chosen.told` says, without what somebody looked for in URLs."""
    return _LOOKED_FOR.sub(", …", told)


def _status(given: Mapping[str, str], problems: list[str]) -> LastStatus | None:
    if "status" not in given:
        return None
    try:
        return LastStatus.parse(given["status"])
    except ValueError as error:
        problems.append(str(error))
        return None


def _attempts(given: Mapping[str, str], problems: list[str]) -> int | None:
    text = given.get("attempts")
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 7:
        return int(text)
    problems.append(f"attempts is {text[:40]!r}; it must be a whole number")
    return None


def _since(given: Mapping[str, str], problems: list[str]) -> int | None:
    if "since" not in given:
        return None
    try:
        return time.time_ns() // 1000 - int(
            min(seconds(given["since"], what="since"), 1e9) * SECOND
        )
    except ConfigurationError as error:
        problems.append(str(error)[:200])
        return None


AT_ONCE = 100
"""How many tasks an action on everything that matches changes before it answers; more are
changed in the background.
"""

_VERBS = {Action.REQUEUE: "requeue", Action.RUN_NOW: "run", Action.DELETE: "delete"}


def page(runtime: Runtime) -> Page:
    """A list of tasks, filtered, page by page."""
    chosen = chosen_of(runtime, request.args)
    store = runtime.store
    runtime.see_queues()
    size = runtime.settings.dashboard_page_size
    with store.reading() as connection:
        listing = store.listings.page(
            connection, chosen.kind, chosen.wanted, chosen.after, size, chosen.visible
        )
        lost = store.tasks.lost(connection, listing.ids)
        records = {record.id: record for record in store.tasks.get_all(connection, listing.ids)}
        counts = counts_of(runtime, connection, chosen.wanted.queue) if chosen.only_queue else {}
        queues = [row.name for row in store.queues.rows(connection)]
    data = {
        "state": chosen.kind.value,
        "filters": dict(chosen.given),
        "problems": chosen.problems,
        "counts": counts,
        "tasks": [
            line(runtime, records[one], is_lost=one in lost)
            for one in listing.ids
            if one in records
        ],
        "next": None if listing.next is None else str(listing.next),
        "is_partial": listing.is_partial,
    }
    return Page(
        template="tasks.html",
        title="Tasks",
        data=data,
        extra={"chosen": chosen, "queues": queues, "kinds": list(ListKind), "cap": CAP},
    )


def requeue(runtime: Runtime) -> Deed:
    """Schedule the dead ones of the chosen tasks again."""
    return _change(runtime, Action.REQUEUE)


def run(runtime: Runtime) -> Deed:
    """Make the scheduled ones of the chosen tasks due."""
    return _change(runtime, Action.RUN_NOW)


def delete(runtime: Runtime) -> Deed:
    """Cancel those of the chosen tasks that have not ended."""
    return _change(runtime, Action.DELETE)


def sight(runtime: Runtime) -> Sight:
    """How much of a URL whoever asks may see."""
    return Sight(g.taskqueue_access.may("view_payload"), runtime.settings.redact)


def line(runtime: Runtime, record: Record, *, is_lost: bool) -> dict[str, Any]:
    """What a list shows of a task; ``is_lost`` says that the lease under which it would run has
    run out.
    """
    instants = {
        name: instant(getattr(record, name))
        for name in ("created_at", "eta", "due_at", "started_at", "finished_at")
    }
    texts = (
        "id",
        "name",
        "queue",
        "method",
        "priority",
        "state",
        "attempts",
        "last_status",
        "last_reason",
        "last_error",
        "schedule",
    )
    return {
        **{name: getattr(record, name) for name in texts},
        "is_lost": is_lost,
        "url": sight(runtime).url(record.url),
        **instants,
    }


def instant(micros: int | None) -> Any:
    """An instant of a row."""
    return None if micros is None else to_datetime(micros)


def counts_of(runtime: Runtime, connection: sa.Connection, queue: str | None) -> dict[str, int]:
    """How many tasks each list has, in one queue or in all; those that have not ended as far as
    the cap.
    """
    store = runtime.store
    parts = (store.backlog.of(connection), store.counters.ended(connection))
    counts = sum(
        (one for part in parts for name, one in part.items() if queue in (None, name)),
        QueueCounts(),
    )
    return {
        kind.value: getattr(counts, kind.value) for kind in ListKind if kind is not ListKind.ALL
    }


def chosen_of(runtime: Runtime, arguments: Mapping[str, str]) -> Chosen:
    """What some arguments choose, with the tasks of a group of errors looked up."""
    chosen = Chosen.of(arguments, sight(runtime))
    return (
        chosen
        if "group" not in chosen.given
        else chosen.among(ids_of(runtime, chosen.given["group"]))
    )


def _change(runtime: Runtime, action: Action) -> Deed:
    if request.form.get("scope") == "all":
        return _change_matching(runtime, action, chosen_of(runtime, request.form))
    ids = request.form.getlist("id")[: runtime.settings.dashboard_page_size]
    for one in ids:
        if not is_task_id(one):
            raise BadRequest(f"{shown(one)} is no id of a task.")
    return Deed(
        _VERBS[action],
        f"{len(ids)} selected: {', '.join(ids)}",
        partial(change_ids, runtime, action, ids),
    )


def _change_matching(runtime: Runtime, action: Action, chosen: Chosen) -> Deed:
    """Everything that matches: here if that is little, otherwise in the background. A filter
    that cannot be used matches nothing.
    """
    told = chosen.told()
    if chosen.problems:
        return Deed(_VERBS[action], told, partial(int, 0))
    store = runtime.store
    with store.reading() as connection:
        listing = store.listings.page(
            connection, chosen.kind, chosen.wanted, None, AT_ONCE, chosen.visible
        )
        counts = counts_of(runtime, connection, chosen.wanted.queue) if chosen.only_queue else {}
    if listing.next is None:
        return Deed(_VERBS[action], told, partial(change_ids, runtime, action, listing.ids))
    order = partial(
        store.bulk_changes.add,
        action=action,
        kind=chosen.kind,
        filter=chosen.wanted,
        visible=chosen.visible,
        by=g.taskqueue_access.user,
        told=printable(told, 1000),
        total=counts.get(chosen.kind.value),
    )
    return Deed(
        f"bulk-{_VERBS[action]}",
        told,
        partial(make_change, runtime, order, None, wakes=False),
        url_for(".system"),
        changes=False,
    )
