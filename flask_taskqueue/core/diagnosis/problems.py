"""Problems that keep tasks from running, judged by the tables, for health and doctor alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ..dispatchers import DispatcherInfo
from ..failures import Failure, group
from ..times import plural, relative
from ..urls import redacted
from .facts import Finding

_NOTHING_RUNS = "troubleshooting#nothing-runs"
_FAILS = "troubleshooting#fails"
_SHORT, _LONG = 10, 60
"""The number of minutes after which a queue counts as failing all the time."""
_ENOUGH = 5
"""The number of attempts, within the shorter time, that rule out a coincidence."""
_SHOWN = 200


class AttemptCounts(NamedTuple):
    """The number of attempts, and of those that failed."""

    all: int
    failed: int

    @property
    def are_all_failed(self) -> bool:
        """Whether there was at least one attempt and all of them failed."""
        return 0 < self.all == self.failed


def judge_dispatchers(
    known: Sequence[DispatcherInfo],
    queues: Sequence[str],
    waiting: Mapping[str, int],
    now: datetime,
) -> Iterator[Finding]:
    """Yield what is wrong with the dispatchers.

    ``waiting`` maps each queue to the number of its tasks that wait, or that ran when the last
    dispatcher was seen.
    """
    alive = [dispatcher for dispatcher in known if dispatcher.is_alive]
    if not alive:
        number = sum(waiting.values())
        yield Finding(
            "error" if number else "warning",
            f"no dispatcher is alive{_who_wait(number)}",
            "start one: flask taskqueue run",
            _NOTHING_RUNS,
        )
    for queue in queues if alive else ():
        if not any(dispatcher.queues is None or queue in dispatcher.queues for dispatcher in alive):
            text = f"no dispatcher takes from queue {queue}{_who_wait(waiting.get(queue, 0))}"
            remedy = f"run one with it: flask taskqueue run --queues {queue}"
            yield Finding("error" if waiting.get(queue) else "warning", text, remedy, _NOTHING_RUNS)
    for dispatcher in known:
        if not dispatcher.is_alive:
            yield Finding(
                "warning",
                f"dispatcher {dispatcher.host}:{dispatcher.pid} was last seen "
                f"{relative(dispatcher.seen_at, now)}, and was not stopped: its process died, "
                "hangs, or is cut off from the database",
                "look at its log; what it held is taken over by another dispatcher. After an "
                "hour it is forgotten",
                _NOTHING_RUNS,
            )


def judge_dead_tasks(dead: Sequence[Failure], *, more: bool) -> Iterator[Finding]:
    """Yield findings about tasks that gave up recently, given with the latest first.

    ``more`` says that there are others beside these.
    """
    if not dead:
        return
    groups = sorted(group(dead), key=lambda similar: similar.count, reverse=True)
    worst = groups[0]
    which = f"queue {worst.signature.queue}, {worst.signature.path}: {_short(worst.error)}"
    number = f"more than {len(dead):,} tasks" if more else plural(len(dead), "task")
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
    minutes: Mapping[str, Sequence[AttemptCounts]], failures: Iterable[Failure]
) -> Iterator[Finding]:
    """Yield the queues in which every attempt fails.

    ``minutes`` has the attempts of each minute, the latest last; ``failures`` are the latest ones.
    """
    errors: dict[str, str] = {}
    for failure in failures:
        errors.setdefault(
            failure.queue, f"{redacted(failure.url)}: {_short(failure.error or failure.reason)}"
        )
    for queue, attempts in sorted(minutes.items()):
        short, long = _sum(attempts[-_SHORT:]), _sum(attempts[-_LONG:])
        if (short.are_all_failed and short.all >= _ENOUGH) or (
            long.are_all_failed and long.all > 1
        ):
            number, minutes_seen = (long.all, _LONG) if long.are_all_failed else (short.all, _SHORT)
            why = f"; the latest: {errors[queue]}" if queue in errors else ""
            text = (
                f"queue {queue} fails all the time: none of {plural(number, 'attempt')} in the "
                f"last {minutes_seen} minutes succeeded{why}"
            )
            yield Finding(
                "warning",
                text,
                "look at one of its tasks: flask taskqueue why, flask taskqueue show",
                _FAILS,
            )


def judge_missing_routes(nowhere: Mapping[str, int]) -> Iterator[Finding]:
    """Yield the URLs, with methods, that no route answers.

    ``nowhere`` maps each of them to the number of tasks, among those examined, that go there.
    """
    for place, number in Counter(nowhere).most_common(3):
        yield Finding(
            "warning",
            f"no route of this release answers {place}, and {plural(number, 'task')} "
            f"{'waits' if number == 1 else 'wait'} for it",
            "deploy the release that has it, or delete them: flask taskqueue delete",
            "troubleshooting#not-found",
        )


def _who_wait(number: int) -> str:
    return f", and {plural(number, 'task')} {'waits' if number == 1 else 'wait'}" if number else ""


def _sum(minutes: Sequence[AttemptCounts]) -> AttemptCounts:
    return AttemptCounts(
        sum(minute.all for minute in minutes), sum(minute.failed for minute in minutes)
    )


def _short(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
