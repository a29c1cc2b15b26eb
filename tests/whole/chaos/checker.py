"""The checker: whether a history keeps what the queue promises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from . import follows, kept, leftovers, limits
from .asked import Asked
from .history import Delivery, Fault, History, deliveries

UNRECORDED = 5.0
"""Seconds after its end within which a delivery has been recorded, so that a later fault is no
excuse to repeat it.
"""

AFTER_PAUSE = 2.0
"""Seconds after pause() within which what a dispatcher had just taken may still begin; without
faults, and on a busy machine.
"""

FOLLOWING = (
    follows.followers,
    follows.batches,
    follows.fires,
    follows.left_out,
    follows.overlapping,
)
LEFT = (leftovers.unneeded_locks, leftovers.stranded, leftovers.miscounted)

Deliveries = Mapping[str, Sequence[Delivery]]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong, each a sentence. All empty: the history is good."""

    lost: tuple[str, ...]
    """Tasks that are not done."""
    unexpected: tuple[str, ...]
    """Tasks that nobody added."""
    unexplained: tuple[str, ...]
    """Second deliveries without a cause."""
    overlaps: tuple[str, ...]
    """Deliveries of one task at the same time, though nobody was paused."""
    regressions: tuple[str, ...]
    """Attempts whose number is not higher than that of the one before."""
    disorder: tuple[str, ...]
    """Tasks of a serial key that ran before the one in front was done with."""
    undrained: tuple[str, ...]
    """Tasks that still wait, or are still leased."""
    early: tuple[str, ...]
    """Tasks tried before their eta."""
    effects: tuple[str, ...]
    """Transactional tasks whose effect is not there exactly once."""
    words: tuple[str, ...]
    """Operations whose answer does not hold, or that raised what nothing explains."""
    crowds: tuple[str, ...]
    """More at a time than a key or a queue allows."""
    unpaused: tuple[str, ...]
    """Deliveries from a queue that was paused."""
    keys: tuple[str, ...]
    """Names given twice, and unique keys of two tasks that had not ended."""
    follows: tuple[str, ...]
    """What follows tasks, batches and fire times, and is not there exactly when it was due."""
    leftovers: tuple[str, ...]
    """Locks, waiting tasks and counts that nothing accounts for."""

    @property
    def problems(self) -> list[str]:
        """All of them."""
        return [
            f"{field.name}: {text}" for field in fields(self) for text in getattr(self, field.name)
        ]


def check(
    history: History,
    *,
    unrecorded: float = UNRECORDED,
    after_pause: float = AFTER_PAUSE,
    deleted_hold: bool = False,
) -> Findings:
    """Compare what was asked for with what became of it."""
    found = deliveries(history.lines)
    asked = Asked(history)
    history = asked.history = asked.expected()
    return Findings(
        lost=(*_lost(history, found), *kept.missing(asked)),
        unexpected=(*_unexpected(history, found), *kept.uncommitted(asked), *kept.doubled(asked)),
        unexplained=tuple(_unexplained(history, found, unrecorded)),
        overlaps=tuple(_overlaps(history, found)),
        regressions=tuple(_regressions(history, found)),
        disorder=(*_disorder(history, found), *limits.out_of_turn(asked)),
        undrained=tuple(_undrained(history)),
        early=tuple(_early(history)),
        effects=tuple(_effects(history)),
        words=tuple(kept.broken_words(asked)),
        crowds=tuple(limits.crowded(asked, found, deleted_hold=deleted_hold)),
        unpaused=tuple(limits.unpaused(asked, found, after_pause)),
        keys=(*limits.together(asked), *limits.names_twice(asked)),
        follows=tuple(one for each in FOLLOWING for one in each(asked)),
        leftovers=tuple(one for each in LEFT for one in each(history)) if asked.operations else (),
    )


def _lost(history: History, found: Deliveries) -> Iterator[str]:
    states = {row.id: row.state for row in history.rows}
    for task_id in history.expected:
        wanted = history.ends.get(task_id, ["dead" if task_id in history.poison else "succeeded"])
        if states.get(task_id) not in wanted:
            yield (
                f"{task_id} is {states.get(task_id, 'not in the table')}, not "
                f"{' or '.join(sorted(wanted))}"
            )
        elif states[task_id] == "succeeded" and not any(
            one.end is not None and not one.failed for one in found.get(task_id, ())
        ):
            yield f"{task_id} is succeeded, but its handler never ended well"


def _undrained(history: History) -> Iterator[str]:
    for row in history.rows:
        if row.state == "leased" or (
            row.state == "scheduled" and "scheduled" not in history.ends.get(row.id, ())
        ):
            yield f"{row.id} is {row.state}"


def _early(history: History) -> Iterator[str]:
    for row in history.rows:
        if (
            row.first_tried_at is not None
            and row.first_tried_at < row.eta
            and row.id not in history.hurried
        ):
            yield row.id


def _unexpected(history: History, found: Deliveries) -> Iterator[str]:
    for task_id in sorted({*found, *(row.id for row in history.rows)} - {*history.expected}):
        yield f"{task_id} was added by nobody"


def _unexplained(history: History, found: Deliveries, unrecorded: float) -> Iterator[str]:
    for earlier, later in _successions(found):
        if not earlier.failed and not _cause(history.faults, earlier, later, unrecorded):
            yield (
                f"{earlier.task_id}: attempt {later.attempt} after attempt {earlier.attempt} in "
                f"process {earlier.pid}"
            )


def _cause(
    faults: Iterable[Fault], earlier: Delivery, later: Delivery, unrecorded: float
) -> Fault | None:
    """What made a later delivery necessary."""
    causes = (
        fault
        for fault in faults
        if fault.since <= later.start and earlier.hit_by(fault, unrecorded)
    )
    return next(causes, None)


def _overlaps(history: History, found: Deliveries) -> Iterator[str]:
    pauses = [fault for fault in history.faults if fault.kind == "pause"]
    for some in found.values():
        for number, later in enumerate(some):
            for earlier in some[:number]:
                paused = any(
                    pause.since <= later.start and earlier.hit_by(pause, 0.0) for pause in pauses
                )
                if not paused and later.start < earlier.over_at(history.faults):
                    yield (
                        f"{earlier.task_id}: attempt {later.attempt} began while attempt "
                        f"{earlier.attempt} ran"
                    )


def _regressions(history: History, found: Deliveries) -> Iterator[str]:
    stops = [fault for fault in history.faults if fault.kind == "stop"]
    for earlier, later in _successions(found):
        if earlier.task_id in history.requeued:
            continue
        # What is given back when a process is stopped does not count as attempt.
        given_back = later.attempt == earlier.attempt and any(
            stop.pid == earlier.pid for stop in stops
        )
        if later.attempt <= earlier.attempt and not given_back:
            yield f"{earlier.task_id}: attempt {later.attempt} after attempt {earlier.attempt}"
    for row in history.rows:
        last = max((one.attempt for one in found.get(row.id, ())), default=0)
        if last > row.attempts and row.id not in history.requeued:
            yield f"{row.id}: attempt {last} was made, {row.attempts} are counted"


def _disorder(history: History, found: Deliveries) -> Iterator[str]:
    lanes: dict[str, list[str]] = defaultdict(list)
    for task_id, key in history.expected.items():
        if key is not None:
            lanes[key].append(task_id)
    for key, ids in lanes.items():
        for front, behind in pairwise(ids):
            begun = min((one.start for one in found.get(behind, ())), default=None)
            over = max((one.over_at(history.faults) for one in found.get(front, ())), default=None)
            if begun is not None and (over is None or begun < over):
                yield f"{key}: {behind} began before {front} was done with"


def _effects(history: History) -> Iterator[str]:
    for task_id in sorted({*history.transactional, *history.effects}):
        wanted = 1 if task_id in history.transactional else 0
        if history.effects[task_id] != wanted:
            yield f"{task_id} left {history.effects[task_id]} effects, not {wanted}"


def _successions(found: Deliveries) -> Iterator[tuple[Delivery, Delivery]]:
    for some in found.values():
        yield from pairwise(some)
