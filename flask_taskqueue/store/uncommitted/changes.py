"""The levels of a tracked transaction, and the changes of the queue's that are part of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class JoinedChange:
    """A change of the queue's that is part of the transaction.

    ``names`` are the tasks that are lost if it is not committed. After the commit, ``committed`` is
    called at once, when the session cannot be used, and each function of ``then`` when it can.
    """

    names: Sequence[str]
    committed: Callable[[], object]
    then: Sequence[Callable[[], object]]


@dataclass(slots=True)
class Level:
    """A savepoint, or the transaction itself."""

    counted: int
    name: str = ""
    written: bool = False
    unknown: bool = False
    noted: Any = None
    joined: list[JoinedChange] = field(default_factory=list)
