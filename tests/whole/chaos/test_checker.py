"""The checker: a good history passes, and each kind of fault in a history is found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from . import log, operations
from .checker import check
from .history import Attempt, Batch, Fault, Fire, History, Leftovers, Row
from .log import Line
from .operations import DEADLOCK, Operation, Step, Wish
from .plan import make_plan
from .wishes import LATER


def ran(
    task_id: str,
    attempt: int,
    since: float,
    until: float | None,
    *,
    pid: int = 1,
    ending: str = "end",
) -> list[Line]:
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
    return replace(
        GOOD, lines=[*(line for line in GOOD.lines if line.task_id not in without), *joined(*parts)]
    )


def with_row(row: Row) -> History:
    """The good history with another row of a task."""
    return replace(GOOD, rows=[*(item for item in GOOD.rows if item.id != row.id), row])


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
    "the kill came long after the end": (
        replace(GOOD, faults=[KILL, Fault("kill", 60, 60, pid=2)]),
        None,
    ),
    "it was recorded long before the kill": (
        replace(with_lines(ran("c", 2, 70, 71)), faults=[KILL, Fault("kill", 60, 60, pid=2)]),
        "unexplained",
    ),
    "two at a time": (
        with_lines(ran("b", 1, 1, None), ran("b", 2, 1.5, 4, pid=2), without="b"),
        "overlaps",
    ),
    "two at a time after an outage": (
        replace(with_lines(ran("a", 2, 0.9, 3, pid=2)), faults=[KILL, Fault("outage", 0.5, 0.8)]),
        "overlaps",
    ),
    "the number of an attempt falls": (with_lines(ran("d", 1, 12, 13)), "regressions"),
    "an attempt is not counted": (with_row(Row("d", "succeeded", attempts=1)), "regressions"),
    "the second of a key ran before the first was done": (
        with_lines(ran("c", 1, 3.5, 4), without="c"),
        "disorder",
    ),
    "the second of a key ran, the first never": (with_lines(without="b"), "disorder"),
    "a lease is left": (with_row(Row("a", "leased")), "undrained"),
    "a task still waits": (with_row(Row("a", "scheduled")), "undrained"),
    "too early": (with_row(Row("a", "succeeded", eta=10, first_tried_at=9)), "early"),
    "an effect twice": (replace(GOOD, effects=Counter(["a", "a", "e"])), "effects"),
    "an effect is missing": (replace(GOOD, effects=Counter(["a"])), "effects"),
    "an effect of a task that has none": (
        replace(GOOD, effects=Counter(["a", "e", "c"])),
        "effects",
    ),
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


ASKED = 1_000_000
"""Microseconds since 1970 at which the operations of the random history begin."""


def asks(
    number: int,
    do: str,
    *,
    wishes: Sequence[Wish] = (),
    at: float = 0.0,
    took: float = 0.1,
    **told: Any,
) -> Operation:
    """A step that was begun ``at`` so many seconds, and what became of it: what is told beside
    that belongs to the step.
    """
    own = {
        name: told.pop(name) for name in ("told", "answer", "error", "committed") if name in told
    }
    step = Step(number=number, client=0, do=do, wishes=tuple(wishes), **told)
    begun = ASKED + int(at * 1e6)
    return Operation(
        step=step, since=at, until=at + took, asked_at=begun, answered_at=begun + took * 1e6, **own
    )


def wish(label: str, does: str = "well", **options: Any) -> Wish:
    """A task that is wished for."""
    then = options.pop("then", ())
    return Wish(label=label, does=does, options={"queue": "default", **options}, then=then)


def there(
    label: str,
    state: str = "succeeded",
    *,
    at: float = 0.0,
    end: float | None = 1.0,
    **columns: Any,
) -> Row:
    """The row of a task of this label, which is its id too, added and ended so many seconds
    after the beginning.
    """
    created = ASKED + int(at * 1e6)
    ended = None if end is None else ASKED + int(end * 1e6)
    columns.setdefault("due_at", created if state == "scheduled" else None)
    return Row(
        label,
        state,
        created_at=created,
        eta=created,
        first_tried_at=created,
        finished_at=ended,
        label=label,
        **columns,
    )


def tried(task_id: str, at: float, number: int = 1) -> Attempt:
    """A lease that was taken so many seconds after the beginning."""
    return Attempt(task_id, number, ASKED + int(at * 1e6), "success")


def told(*labels: str, how: str = "added") -> dict[str, tuple[str, str]]:
    """What an add returned."""
    return {label: (label, how) for label in labels}


FOLLOWED = wish("a", then=(wish("a-then"),))
RANDOM = History(
    expected={},
    operations=[
        asks(0, "add", wishes=[FOLLOWED], told=told("a")),
        asks(
            1,
            "add",
            wishes=[wish("rolled")],
            transaction="rollback",
            committed=False,
            told=told("rolled"),
        ),
        asks(
            2,
            "batch",
            wishes=[wish("b1"), wish("b2", "permanent")],
            on_finish=wish("finished"),
            on_dead=wish("died"),
        ),
        asks(
            3,
            "add_list",
            wishes=[wish("s1", serial_key="s"), wish("s2", serial_key="s")],
            told=told("s1", "s2"),
        ),
        asks(4, "add", wishes=[wish("u1", unique_key="u")], told=told("u1")),
        asks(5, "add", wishes=[wish("u2", unique_key="u")], at=0.5, told={"u2": ("u1", "skipped")}),
        asks(6, "add", wishes=[wish("gone")], told=told("gone")),
        asks(7, "delete", targets=("gone",), at=0.2, answer=[True]),
        asks(8, "add", wishes=[wish("later", countdown=LATER)], told=told("later")),
        asks(9, "pause", queue="shelf", at=1.0),
        asks(10, "add", wishes=[wish("n1", name="n")], told=told("n1")),
        asks(11, "add", wishes=[wish("n2", name="n")], at=0.2, error="TombstonedTaskError"),
        asks(12, "rewind", schedule="steady", answer=0),
    ],
    lines=joined(
        *(
            ran(one, 1, 2 + number, 2.5 + number)
            for number, one in enumerate(["a", "b1", "s1", "s2", "u1", "n1", "tick"])
        )
    )
    + joined(
        *(
            ran(one, 1, 20 + number, 20.5 + number)
            for number, one in enumerate(["a-then", "finished", "died"])
        )
    )
    + ran("b2", 1, 30, 31, ending="fail"),
    rows=[
        *(there(one) for one in ("a", "a-then", "finished", "died", "n1")),
        *(there(one, batch_id="batch") for one in ("b1",)),
        there("b2", "dead", batch_id="batch"),
        there("s1", lock_key="s:s", end=5),
        there("s2", lock_key="s:s", end=6),
        there("u1", given_key="u"),
        there("gone", "cancelled", end=0.25),
        there("later", "scheduled", end=None),
        replace(there("tick", schedule="steady"), eta=0, label=None),
    ],
    left=Leftovers(
        attempts=[tried("s1", 4), tried("s2", 5.5)],
        batches=[Batch("batch", 2, 1, 1, 0, ASKED + 2)],
        fires=[Fire("steady", 0, "tick")],
        statistics={
            "default": {
                "scheduled": 1,
                "leased": 0,
                "succeeded": 10,
                "dead": 1,
                "cancelled": 1,
                "parked": 0,
            }
        },
    ),
)
RANDOM = replace(
    RANDOM, rows=[replace(row, name="n") if row.id == "n1" else row for row in RANDOM.rows]
)


def but(
    *rows: Row,
    without: Sequence[str] = (),
    operations: Sequence[Operation] = (),
    lines: Sequence[Line] = (),
    **left: Any,
) -> History:
    """The random history with other rows of the same ids, operations of the same numbers, more
    lines, and other leftovers.
    """
    ids, numbers = (
        {*without, *(row.id for row in rows)},
        {operation.step.number for operation in operations},
    )
    return replace(
        RANDOM,
        rows=[*(row for row in RANDOM.rows if row.id not in ids), *rows],
        operations=[
            *(operation for operation in RANDOM.operations if operation.step.number not in numbers),
            *operations,
        ],
        lines=[*RANDOM.lines, *lines],
        left=replace(RANDOM.left, **({"statistics": {}} | left)),
    )


def test_a_good_history_of_operations_passes() -> None:
    """Each kind of operation, and what became of it."""
    assert check(RANDOM).problems == []


WRONG = {
    "an acknowledged task is not there": (but(without=["u1", "a", "a-then"]), "lost"),
    "a task was cancelled by nobody": (but(there("n1", "cancelled", name="n")), "lost"),
    "a task was cancelled when nobody deleted it": (
        but(there("gone", "cancelled", end=0.9)),
        "lost",
    ),
    "a task was replaced by nobody": (
        but(there("u1", "cancelled", given_key="u", last_reason="replaced")),
        "lost",
    ),
    "a task expired that has no end": (
        but(there("a", "cancelled", last_reason="expired"), without=["a-then"]),
        "lost",
    ),
    "a task still waits that was run now": (
        but(operations=[asks(20, "run_now", targets=("later",), at=0.5, answer=["scheduled"])]),
        "lost",
    ),
    "a task died that should not": (but(there("n1", "dead", name="n")), "lost"),
    "a requeued task is still dead": (
        but(
            there("m", "dead"),
            operations=[
                asks(20, "add", wishes=[wish("m", "broken")], told=told("m")),
                asks(21, "requeue", targets=("m",), at=0.5, answer=["scheduled"]),
            ],
        ),
        "lost",
    ),
    "a rolled back task is there": (but(there("rolled")), "unexpected"),
    "a rolled back task ran": (but(lines=ran("rolled", 1, 2, 3)), "unexpected"),
    "a refused task is there": (but(there("n2")), "unexpected"),
    "a task was wished for by nobody": (but(there("x")), "unexpected"),
    "a task is there twice": (but(replace(there("a"), id="another")), "unexpected"),
    "a deleted task ended": (but(there("gone"), lines=ran("gone", 1, 2, 3)), "words"),
    "an error without a reason": (
        but(operations=[asks(20, "add", wishes=[wish("x")], error="IntegrityError")]),
        "words",
    ),
    "the database refused, and nothing was done to it": (
        but(operations=[asks(20, "purge", error="TransientError")]),
        "words",
    ),
    "a deadlock, and nothing to be in it with": (
        but(operations=[asks(20, "purge", error=DEADLOCK)]),
        "words",
    ),
    "a name was taken by nobody": (
        but(
            operations=[
                asks(11, "add", wishes=[wish("n2", name="free")], error="TaskAlreadyExistsError")
            ]
        ),
        "words",
    ),
    "a task was skipped for one that had ended": (
        but(
            operations=[
                asks(
                    5,
                    "add",
                    wishes=[wish("u2", unique_key="u")],
                    at=3,
                    told={"u2": ("u1", "skipped")},
                )
            ]
        ),
        "words",
    ),
    "a task was debounced into one that had begun": (
        but(
            operations=[
                asks(
                    5,
                    "add",
                    wishes=[wish("u2", unique_key="u")],
                    at=0.5,
                    told={"u2": ("u1", "debounced")},
                )
            ],
            attempts=[*RANDOM.left.attempts, tried("u1", 0.4)],
        ),
        "words",
    ),
    "a name was given twice": (
        but(
            there("n2", name="n"),
            operations=[asks(11, "add", wishes=[wish("n2", name="n")], told=told("n2"))],
            lines=ran("n2", 1, 5, 6),
        ),
        "keys",
    ),
    "two of one unique key": (
        but(
            there("u2", given_key="u", at=0.5),
            operations=[
                asks(5, "add", wishes=[wish("u2", unique_key="u")], at=0.5, told=told("u2"))
            ],
            lines=ran("u2", 1, 20, 21),
        ),
        "keys",
    ),
    "the second of a key was taken before the first had ended": (
        but(attempts=[tried("s1", 4), tried("s2", 4.5)]),
        "disorder",
    ),
    "two of a serial key at a time": (but(lines=ran("s2", 2, 4.2, 4.3)), "crowds"),
    "a paused queue goes on": (
        but(there("a", queue="shelf"), lines=ran("a", 2, 40, 41)),
        "unpaused",
    ),
    "what follows is missing": (but(without=["a-then"]), "follows"),
    "what follows a failure is there": (but(there("a", "cancelled")), "follows"),
    "a callback is missing": (but(without=["finished"]), "follows"),
    "a callback is there without a cause": (
        but(there("b2", batch_id="batch"), batches=[Batch("batch", 2, 2, 0, 0, 9)]),
        "follows",
    ),
    "a batch counts wrongly": (but(batches=[Batch("batch", 2, 2, 0, 0, 9)]), "follows"),
    "a batch is not finished": (but(batches=[Batch("batch", 2, 1, 1, 0, None)]), "follows"),
    "a batch has lost a task": (but(batches=[Batch("batch", 3, 1, 1, 0, 9)]), "follows"),
    "a fire time without its task": (but(without=["tick"]), "follows"),
    "a task of a schedule without a fire time": (
        but(replace(there("tock", schedule="steady"), label=None)),
        "follows",
    ),
    "one task of two fire times": (
        but(fires=[Fire("steady", 0, "tick"), Fire("steady", 0, "tick")]),
        "follows",
    ),
    "a fire time was left out": (
        but(
            *(
                replace(there(one, schedule="steady"), eta=at, label=None)
                for one, at in (("tick", 0), ("tock", 120_000_000))
            ),
            lines=ran("tock", 1, 50, 51),
            fires=[Fire("steady", 0, "tick"), Fire("steady", 120_000_000, "tock")],
        ),
        "follows",
    ),
    "two runs of a schedule that takes one at a time": (
        but(
            *(
                replace(there(one, schedule="single"), eta=at, label=None)
                for one, at in (("i", 0), ("ii", 60_000_000))
            ),
            fires=[
                Fire("steady", 0, "tick"),
                Fire("single", 0, "i"),
                Fire("single", 60_000_000, "ii"),
            ],
        ),
        "follows",
    ),
    "a lock is left": (but(locks=["c:x"]), "leftovers"),
    "a task waits for a key that nobody has": (
        but(there("later", "scheduled", end=None, lock_key="c:x", due_at=None)),
        "leftovers",
    ),
    "statistics are wrong": (but(statistics={"default": {"succeeded": 11}}), "leftovers"),
}


@pytest.mark.parametrize(("history", "kind"), WRONG.values(), ids=WRONG)
def test_each_kind_of_wrong_answer_is_found(history: History, kind: str) -> None:
    """By its name."""
    assert kind in {problem.partition(":")[0] for problem in check(history).problems}


def crowd(limit: int | None, *operations: Operation) -> History:
    """Three tasks of a queue, two of which run at a time; leases were taken when they began."""
    names = ("x", "y", "z")
    return History(
        expected={},
        operations=[
            asks(0, "add_list", wishes=[wish(name) for name in names], told=told(*names)),
            *operations,
        ],
        lines=joined(ran("x", 1, 1, 4), ran("y", 1, 2, 5, pid=2), ran("z", 1, 6, 7)),
        rows=[there(name, end=7) for name in names],
        limits={"default": limit},
        left=Leftovers(attempts=[tried("x", 1), tried("y", 2), tried("z", 6)]),
    )


def test_a_queue_holds_the_limit_that_it_had_when_a_task_was_taken() -> None:
    """That of the configuration until another was set; while it is set, either."""
    assert check(crowd(2)).problems == []
    assert check(crowd(1)).crowds
    for at, excused in ((1.0, True), (1.95, True), (3.0, False)):
        more = asks(1, "configure", at=at, limits={"max_concurrent": 2})
        assert (at, not check(crowd(1, more)).crowds) == (at, excused)
    assert check(crowd(None, asks(1, "configure", at=0.5, limits={"max_concurrent": 1}))).crowds


def test_what_has_expired_lets_the_next_of_its_key_go_before_it_is_ended() -> None:
    """Both are looked at together: one is taken, and the other ended."""
    expired = there(
        "s1", "cancelled", lock_key="s:s", end=5, expires_at=ASKED + 100, last_reason="expired"
    )
    history = but(expired, attempts=[tried("s2", 4.5)])
    history = replace(history, lines=[line for line in history.lines if line.task_id != "s1"])
    assert check(history).problems == []
    assert check(
        replace(
            history,
            rows=[
                replace(row, last_reason=None) if row.id == "s1" else row for row in history.rows
            ],
        )
    ).disorder


def test_a_concurrency_key_counts_a_deleted_task_until_it_has_ended_if_told_to() -> None:
    """Otherwise it has let go when it is deleted."""
    history = crowd(None, asks(1, "delete", targets=("x",), at=1.5, answer=[True]))
    rows = [
        replace(
            row, lock_key="c:k", lock_limit=1, **({"state": "cancelled"} if row.id == "x" else {})
        )
        for row in history.rows
    ]
    history = replace(
        history,
        rows=[
            replace(row, finished_at=ASKED + 1_550_000) if row.id == "x" else row for row in rows
        ],
    )
    assert check(history).problems == []
    assert check(history, deleted_hold=True).crowds


def test_what_had_just_been_taken_may_begin_after_a_pause() -> None:
    """Within the time that is allowed for it, and until somebody resumes."""
    pause = asks(1, "pause", at=5.0, took=0.5)
    assert check(crowd(None, pause)).problems == []
    assert check(crowd(None, pause), after_pause=0.0).unpaused
    assert not check(crowd(None, pause, asks(2, "resume", at=5.6)), after_pause=0.0).unpaused


def test_the_operations_are_read_as_they_were_written(tmp_path: Path) -> None:
    """What was asked, what was told, and how it ended; of a transaction whether it was
    committed.
    """
    steps = [
        Step(number=number, client=0, do="add", transaction="commit" if number else None)
        for number in range(3)
    ]
    operations.write(tmp_path / "log", "ask", steps[0])
    operations.write(tmp_path / "log", "told", steps[0], tasks={"a": ["1", "added"]}, answer=None)
    operations.write(tmp_path / "log", "ack", steps[0], stored=True)
    operations.write(tmp_path / "log", "ask", steps[1])
    first, second = operations.read(tmp_path / "log", steps, {"step-1"})
    assert operations.begun(tmp_path / "log") == 2
    assert (first.told, first.done, first.until < math.inf) == ({"a": ("1", "added")}, True, True)
    assert (second.done, second.until) == (True, math.inf)


def test_a_plan_is_made_from_its_seed_alone() -> None:
    """The same again for the same seed, and another for another."""
    first, again, other = (
        str(make_plan(seed, clients=2, steps=30, harms=["kill"])) for seed in (1, 1, 2)
    )
    assert first == again != other
