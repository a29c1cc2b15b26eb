"""The results of attempts, ready to be recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...core.delivery.outcome import Outcome
from ...core.states import Record


class AttemptResult(NamedTuple):
    """The result of an attempt."""

    record: Record
    outcome: Outcome
    duration: float
    reply_headers: str | None = None
    reply_body: bytes | None = None
    traceback: str | None = None
    completed: bool = False
    """Whether the handler's own transaction has logged the attempt."""
    goes_on: bool = False
    """Whether its thread has not stopped at the deadline and may still run.

    Its places then stay taken.
    """
    reported: bool = False
    """Whether the caller of the handler has already reported its exception."""

    def __repr__(self) -> str:
        """Leave out what the task and its reply hold, because a repr ends up in logs."""
        return f"<AttemptResult {self.record!r} {self.outcome!r}>"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The recorded results, as they turned out, and the tasks whose lease was lost.

    ``lost`` are the ids of tasks whose lease somebody else had ended.
    """

    results: Sequence[AttemptResult]
    lost: Collection[str]


def alike(
    results: Collection[AttemptResult],
) -> tuple[list[Sequence[AttemptResult]], list[AttemptResult]]:
    """Split results of one claim into groups that one statement serves, and the others.

    The results of a group have the same outcome, and no reply or traceback to keep. No task is
    among them twice, because one claim takes it only once.
    """
    same: dict[tuple[Outcome, str | None], list[AttemptResult]] = defaultdict(list)
    others: list[AttemptResult] = []
    for result in results:
        kept = (
            result.reply_headers is not None
            or result.reply_body is not None
            or result.traceback is not None
        )
        (others if kept else same[result.outcome, result.record.lease_id]).append(result)
    return list(same.values()), others


def leased(
    results: Sequence[AttemptResult], bound: Callable[[Sequence[str]], Any]
) -> dict[str, Any]:
    """Bind the ids of similar results, and their lease."""
    return {
        "lease": results[0].record.lease_id,
        "among": bound([result.record.id for result in results]),
    }
