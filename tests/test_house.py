"""How large the rooms of the package may be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import flask_taskqueue

MODULES = sorted(Path(flask_taskqueue.__file__).parent.rglob("*.py"))


def test_no_module_is_too_long_to_be_read_at_once() -> None:
    """It has at most 300 lines."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path.name: length for path, length in lengths.items() if length > 300} == {}


def test_no_room_holds_too_much_to_be_surveyed() -> None:
    """It has at most 22 modules."""
    held = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {room.name: number for room, number in held.items() if number > 22} == {}
