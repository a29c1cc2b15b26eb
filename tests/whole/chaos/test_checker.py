"""The checker: a good history passes, and each kind of fault in a history is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from . import log
from .checker import check
from .history import Fault, History, Row
from .log import Line


def ran(task_id: str, attempt: int, since: float, until: float | None, *, pid: int = 1, ending: str = "end") -> list[Line]:
    """The lines of one delivery; one that did not end left only the first."""
    end = [] if until is None else [Line(ending, task_id, attempt, pid, until)]
    return [Line("start", task_id, attempt, pid, since), *end]


def joined(*parts: Iterable[Line]) -> list[Line]:
    """The lines of several deliveries."""
    return [line for part in parts for line in part]


KILL = Fault("kill", 2.0, 2.1, pid=1)
GOOD = History(
    expected={"a": None, "b": "key", "c": "key", "d": None, "e": None, "p": None},
    lines=joined(
        ran("a", 1, 0, 1),
        ran("b", 1, 1, None),  # in flight at the kill
        ran("b", 2, 3, 4, pid=2),
        ran("c", 1, 5, 6, pid=2),
        ran("d", 1, 1, 2, ending="fail"),
        ran("d", 2, 8, 9, pid=2),
        ran("e", 1, 0.5, 1.5),  # ended, not yet recorded at the kill
        ran("e", 3, 10, 11, pid=2),  # killed once more before its handler began
        ran("p", 1, 12, None, pid=3),
    ),
    rows=[
        Row("a", "succeeded"),
        Row("b", "succeeded", attempts=2),
        Row("c", "succeeded"),
        Row("d", "succeeded", attempts=2),
        Row("e", "succeeded", attempts=3),
        Row("p", "dead"),
    ],
    faults=[KILL],
    poison=["p"],
    transactional=["a", "e"],
    effects=Counter(["a", "e"]),
)


def with_lines(*parts: list[Line], without: str = "") -> History:
    """The good history with some more lines, without those of some tasks."""
    return replace(GOOD, lines=[*(line for line in GOOD.lines if line.task_id not in without), *joined(*parts)])


def with_row(row: Row) -> History:
    """The good history with another row of a task."""
    return replace(GOOD, rows=[*(one for one in GOOD.rows if one.id != row.id), row])


def test_a_good_history_passes() -> None:
    """Kills, failures and poison explain what happened."""
    assert check(GOOD).problems == []


FAULTY = {
    "a row is gone": (replace(GOOD, rows=GOOD.rows[1:]), "lost"),
    "a task ended as dead": (with_row(Row("a", "dead")), "lost"),
    "poison succeeded": (with_row(Row("p", "succeeded")), "lost"),
    "a task succeeded without its handler": (with_lines(without="a"), "lost"),
    "a handler ran for nobody's task": (with_lines(ran("x", 1, 0, 1)), "unexpected"),
    "a row is nobody's": (replace(GOOD, rows=[*GOOD.rows, Row("x", "succeeded")]), "unexpected"),
    "a task ran twice": (with_lines(ran("c", 2, 20, 21)), "unexplained"),
    "another process was killed": (replace(GOOD, faults=[replace(KILL, pid=9)]), "unexplained"),
    "the kill came after the second delivery": (with_lines(ran("a", 2, 1.2, 1.3)), "unexplained"),
    "the kill came long after the end": (replace(GOOD, faults=[KILL, Fault("kill", 60, 60, pid=2)]), None),
    "it was recorded long before the kill": (
        replace(with_lines(ran("c", 2, 70, 71)), faults=[KILL, Fault("kill", 60, 60, pid=2)]),
        "unexplained",
    ),
    "two at a time": (with_lines(ran("b", 1, 1, None), ran("b", 2, 1.5, 4, pid=2), without="b"), "overlaps"),
    "two at a time after an outage": (
        replace(with_lines(ran("a", 2, 0.9, 3, pid=2)), faults=[KILL, Fault("outage", 0.5, 0.8)]),
        "overlaps",
    ),
    "the number of an attempt falls": (with_lines(ran("d", 1, 12, 13)), "regressions"),
    "an attempt is not counted": (with_row(Row("d", "succeeded", attempts=1)), "regressions"),
    "the second of a key ran before the first was done": (with_lines(ran("c", 1, 3.5, 4), without="c"), "disorder"),
    "the second of a key ran, the first never": (with_lines(without="b"), "disorder"),
    "a lease is left": (with_row(Row("a", "leased")), "undrained"),
    "a task still waits": (with_row(Row("a", "scheduled")), "undrained"),
    "too early": (with_row(Row("a", "succeeded", eta=10, first_tried_at=9)), "early"),
    "an effect twice": (replace(GOOD, effects=Counter(["a", "a", "e"])), "effects"),
    "an effect is missing": (replace(GOOD, effects=Counter(["a"])), "effects"),
    "an effect of a task that has none": (replace(GOOD, effects=Counter(["a", "e", "c"])), "effects"),
}


@pytest.mark.parametrize(("history", "kind"), FAULTY.values(), ids=FAULTY)
def test_each_kind_of_fault_is_found(history: History, kind: str | None) -> None:
    """By its name."""
    problems = check(history).problems
    if kind is None:
        assert problems == []
    else:
        assert kind in {problem.partition(":")[0] for problem in problems}


def test_a_paused_holder_may_overlap() -> None:
    """The only one that may: it cannot know that its lease is over."""
    history = History(
        expected={"a": None},
        lines=joined(ran("a", 1, 0, 5), ran("a", 2, 3, 4, pid=2)),
        rows=[Row("a", "succeeded", attempts=2)],
        faults=[Fault("pause", 1, 4, pid=1)],
    )
    assert check(history).problems == []
    assert check(replace(history, faults=[Fault("pause", 1, 4, pid=2)])).overlaps


def test_what_a_stop_gave_back_keeps_its_number() -> None:
    """No attempt is burnt by stopping a dispatcher."""
    history = History(
        expected={"a": None},
        lines=joined(ran("a", 1, 0, None), ran("a", 1, 3, 4, pid=2)),
        rows=[Row("a", "succeeded")],
        faults=[Fault("stop", 1, 2, pid=1)],
    )
    assert check(history).problems == []
    assert check(replace(history, faults=[Fault("kill", 1, 2, pid=1)])).regressions


def test_the_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Words, ids, numbers and the process."""
    log.write(tmp_path / "log", "start", "a", 1)
    log.write(tmp_path / "log", "end", "a", 1)
    first, second = log.read(tmp_path / "log")
    assert (first.word, first.task_id, first.attempt, first.pid) == ("start", "a", 1, second.pid)
    assert first.at <= second.at
