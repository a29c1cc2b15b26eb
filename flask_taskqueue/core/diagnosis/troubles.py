"""Troubles: what keeps tasks from being done, judged by what is in the tables. Health and
doctor say the same of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ..dispatchers import DispatcherInfo
from ..failures import Failure, group
from ..humanize import count, relative
from ..urls import redacted
from .finding import Finding

_NOTHING_RUNS = "troubleshooting#nothing-runs"
_FAILS = "troubleshooting#fails"
_SHORT, _LONG = 10, 60
"""Minutes after which a queue fails all the time."""
_ENOUGH = 5
"""Attempts in the shorter time that are no coincidence."""
_SHOWN = 200


class Attempts(NamedTuple):
    """How many attempts there were, and how many of them failed."""

    all: int
    failed: int

    @property
    def are_all_failed(self) -> bool:
        """Whether none succeeded, of at least one."""
        return 0 < self.all == self.failed


def judge_dispatchers(
    known: Sequence[DispatcherInfo],
    queues: Sequence[str],
    waiting: Mapping[str, int],
    now: datetime,
) -> Iterator[Finding]:
    """What the dispatchers that are known mean, where so many tasks of each queue wait, or ran
    when the last one was seen.
    """
    alive = [one for one in known if one.is_alive]
    if not alive:
        number = sum(waiting.values())
        yield Finding(
            "error" if number else "warning",
            f"no dispatcher is alive{_who_wait(number)}",
            "start one: flask taskqueue run",
            _NOTHING_RUNS,
        )
    for queue in queues if alive else ():
        if not any(one.queues is None or queue in one.queues for one in alive):
            text = f"no dispatcher takes from queue {queue}{_who_wait(waiting.get(queue, 0))}"
            remedy = f"run one with it: flask taskqueue run --queues {queue}"
            yield Finding("error" if waiting.get(queue) else "warning", text, remedy, _NOTHING_RUNS)
    for one in known:
        if not one.is_alive:
            yield Finding(
                "warning",
                f"dispatcher {one.host}:{one.pid} was last seen "
                f"{relative(one.seen_at, now)}, and was not stopped: its process died, "
                "hangs, or is cut off from the database",
                "look at its log; what it held is taken over by another dispatcher. After an "
                "hour it is forgotten",
                _NOTHING_RUNS,
            )


def judge_deaths(dead: Sequence[Failure], *, more: bool) -> Iterator[Finding]:
    """What the tasks mean that gave up of late, the latest first; ``more`` says that these are
    not all.
    """
    if not dead:
        return
    groups = sorted(group(dead), key=lambda one: one.count, reverse=True)
    worst = groups[0]
    which = f"queue {worst.signature.queue}, {worst.signature.path}: {_short(worst.error)}"
    number = f"more than {len(dead):,} tasks" if more else count(len(dead), "task")
    often = (
        ""
        if len(dead) == 1
        else f", {'all' if worst.count == len(dead) else f'most ({worst.count:,})'} of them like "
        "this"
    )
    yield Finding(
        "warning",
        f"{number} gave up in the last hour{often}: {which}",
        "mend the cause, then: flask taskqueue requeue --state dead --all (see them: flask "
        "taskqueue list --state dead)",
        _FAILS,
    )


def judge_queues(
    minutes: Mapping[str, Sequence[Attempts]], failures: Iterable[Failure]
) -> Iterator[Finding]:
    """Queues of which every attempt fails: by the attempts of each minute, the latest last, and
    by the latest failed attempts.
    """
    errors: dict[str, str] = {}
    for one in failures:
        errors.setdefault(one.queue, f"{redacted(one.url)}: {_short(one.error or one.reason)}")
    for queue, attempts in sorted(minutes.items()):
        short, long = _sum(attempts[-_SHORT:]), _sum(attempts[-_LONG:])
        if (short.are_all_failed and short.all >= _ENOUGH) or (
            long.are_all_failed and long.all > 1
        ):
            number, span = (long.all, _LONG) if long.are_all_failed else (short.all, _SHORT)
            why = f"; the latest: {errors[queue]}" if queue in errors else ""
            text = (
                f"queue {queue} fails all the time: none of {count(number, 'attempt')} in the "
                f"last {span} minutes succeeded{why}"
            )
            yield Finding(
                "warning",
                text,
                "look at one of its tasks: flask taskqueue why, flask taskqueue show",
                _FAILS,
            )


def judge_places(nowhere: Mapping[str, int]) -> Iterator[Finding]:
    """URLs, with methods, that no route answers, with how many of the tasks that were looked at
    go there.
    """
    for place, number in Counter(nowhere).most_common(3):
        yield Finding(
            "warning",
            f"no route of this release answers {place}, and {count(number, 'task')} "
            f"{'waits' if number == 1 else 'wait'} for it",
            "deploy the release that has it, or delete them: flask taskqueue delete",
            "troubleshooting#not-found",
        )


def _who_wait(number: int) -> str:
    return f", and {count(number, 'task')} {'waits' if number == 1 else 'wait'}" if number else ""


def _sum(some: Sequence[Attempts]) -> Attempts:
    return Attempts(sum(one.all for one in some), sum(one.failed for one in some))


def _short(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
