"""What was asked for: the operations of clients, put together with the tasks that are there in
the end.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from .history import History, Row
from .operations import Operation, Wish
from .wishes import LATER

SLACK = 1000
"""Microseconds by which two looks at one clock may differ."""
_DEAD = ("permanent", "flop", "poison")
_DELETING = ("delete", "delete_many", "delete_matching", "purge")
_REQUEUING = ("requeue", "requeue_dead")
_HURRYING = ("run_now", "queue_run_now")
_BLAMED = 3
"""Deaths of its process after which a task is dead."""


class Asked:
    """The operations of a history, by what they touch."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.operations = history.operations
        self.rows: Mapping[str, Row] = {row.id: row for row in history.rows}
        self.labelled: dict[str, list[Row]] = defaultdict(list)
        for row in history.rows:
            self.labelled[row.label or ""].append(row)
        self.wishes: dict[str, Wish] = {
            wish.label: wish for operation in self.operations for wish in operation.step.everything
        }
        self.adding: dict[str, Operation] = {
            wish.label: operation for operation in self.operations for wish in operation.step.wishes
        }
        self._ids = {
            label: task_id
            for operation in self.operations
            for label, (task_id, _) in operation.told.items()
        }

    def expected(self) -> History:
        """The history, with what follows from the operations for each task."""
        if not self.operations:
            return self.history
        rows = self.history.rows
        return replace(
            self.history,
            expected={row.id: None for row in rows},
            ends={row.id: self._ends(row) for row in rows},
            hurried={row.id for row in rows if any(self._hits(row, _HURRYING))},
            requeued={row.id for row in rows if self.may_be_requeued(row)},
        )

    def ids(self, labels: Iterable[str]) -> list[str]:
        """The tasks that were returned as those of these labels."""
        return [self._ids[label] for label in labels if label in self._ids]

    def may_be_requeued(self, row: Row) -> bool:
        """Whether somebody may have requeued a task."""
        return any(self._hits(row, _REQUEUING))

    def wish(self, row: Row) -> Wish | None:
        """What a task was wished for as."""
        return self.wishes.get(row.label or "")

    def added(self, row: Row) -> Operation | None:
        """The operation that added a task, if it was not added because of another."""
        return self.adding.get(row.label or "")

    def _ends(self, row: Row) -> set[str]:
        wish = self.wish(row)
        ends = {"succeeded"} if wish is None else self._ends_of(row, wish)
        if row.queue in self.history.left.paused or (
            wish is not None and self._is_later(row, wish)
        ):
            ends.add("scheduled")
        if row.state == "cancelled" and self._is_cancelled_rightly(row):
            ends.add("cancelled")
        if row.last_reason == "crash" and row.crashes - row.pardons >= _BLAMED:
            ends.add("dead")
        return ends

    def _ends_of(self, row: Row, wish: Wish) -> set[str]:
        if wish.does in _DEAD:
            return {"dead"}
        if wish.does != "broken":
            return {"succeeded"}
        mended = [
            operation
            for operation in self.operations
            if operation.step.do == "requeue" and wish.label in operation.step.targets
        ]
        if not mended:
            return {"dead"}
        return (
            {"succeeded"}
            if any(one.done and one.answer for one in mended)
            else {"dead", "succeeded"}
        )

    def _is_later(self, row: Row, wish: Wish) -> bool:
        """Whether a task is to wait until after the end."""
        if wish.options.get("countdown") != LATER:
            return False
        added = self.added(row)
        there = math.inf if added is None else added.answered_at
        return not any(
            item.done and item.asked_at >= there and item.answer != []
            for item in self._hits(row, _HURRYING)
        )

    def _is_cancelled_rightly(self, row: Row) -> bool:
        at = row.finished_at or 0
        if row.last_reason == "expired":
            return row.expires_at is not None and at >= row.expires_at
        if row.last_reason == "replaced":
            return any(self.covers(record, at) for record in self._replacing(row))
        return any(self.covers(item, at) for item in self._hits(row, _DELETING))

    def _replacing(self, row: Row) -> Iterator[Operation]:
        for operation in self.operations:
            for wish in operation.step.wishes:
                key = (
                    wish.options.get("queue"),
                    wish.options.get("unique_key"),
                    wish.options.get("on_conflict"),
                )
                if operation.done is not False and key == (row.queue, row.given_key, "replace"):
                    yield operation

    def covers(self, one: Operation, at: float) -> bool:
        """Whether an instant was within an operation."""
        return one.asked_at - SLACK <= at <= one.answered_at + SLACK

    def _hits(self, row: Row, kinds: tuple[str, ...]) -> Iterator[Operation]:
        """The operations of these kinds that may have changed a task."""
        for operation in self.operations:
            if (
                operation.step.do in kinds
                and operation.done is not False
                and operation.answered_at >= row.created_at
                and self._aims(operation, row)
            ):
                yield operation

    def _aims(self, one: Operation, row: Row) -> bool:
        step = one.step
        if step.do in ("delete", "run_now", "requeue"):
            return row.id in self.ids(step.targets)
        if step.queue != row.queue:
            return False
        return step.do != "delete_many" or row.id in self.ids(step.targets)
