"""Places in a function where an exception from outside is like one raised there."""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import CodeType

from ..interruptible import protection

_GOES_ON_ELSEWHERE = (
    "RETURN_VALUE",
    "RETURN_CONST",
    "RERAISE",
    "RAISE_VARARGS",
    "JUMP_FORWARD",
    "JUMP_BACKWARD",
)


class Places:
    """The places of one function, as offsets in its bytecode."""

    def __init__(self, code: CodeType) -> None:
        instructions = list(dis.get_instructions(code))
        self.loop_heads: frozenset[int] = frozenset(_loop_heads(instructions))
        """The instructions with which a loop begins each of its rounds."""
        self.behind_calls: dict[int, int] = dict(_behind_calls(code, instructions))
        """The offsets where the function goes on after each of its calls.

        Calls are left out if a ``try`` or ``with`` ends there.
        """


def _loop_heads(instructions: list[dis.Instruction]) -> Iterator[int]:
    """Return where the backward jumps lead that close a loop.

    A jump closes a loop if its target leads to the jump again. The end of an ``except`` may jump
    back too, to what follows the ``try``. That may be the end of a ``with``, where an exception
    would keep it from being left.
    """
    back = [
        (instruction.offset, int(instruction.argval))
        for instruction in instructions
        if instruction.opname == "JUMP_BACKWARD"
    ]
    ways = _ways(instructions) if back else {}
    return (head for jump, head in back if jump in _reachable(head, ways))


def _behind_calls(code: CodeType, instructions: list[dis.Instruction]) -> Iterator[tuple[int, int]]:
    for instruction, following in pairwise(instructions):
        if instruction.opname.startswith("CALL") and protection(
            code, instruction.offset
        ) == protection(code, following.offset):
            yield instruction.offset, following.offset


def _ways(instructions: list[dis.Instruction]) -> dict[int, list[int]]:
    """Return where each instruction leads without an exception."""
    ways: dict[int, list[int]] = {instruction.offset: [] for instruction in instructions}
    for instruction, following in pairwise(instructions):
        if not instruction.opname.startswith(_GOES_ON_ELSEWHERE):
            ways[instruction.offset].append(following.offset)
    for instruction in instructions:
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            ways[instruction.offset].append(int(instruction.argval))
    return ways


def _reachable(start: int, ways: Mapping[int, list[int]]) -> set[int]:
    found: set[int] = set()
    ahead = [start]
    while ahead:
        place = ahead.pop()
        if place not in found:
            found.add(place)
            ahead += ways[place]
    return found
