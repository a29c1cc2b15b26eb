"""The size and the paths of the package: its modules, its imports, the files that a task enters."""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import flask_taskqueue
from flask_taskqueue import TaskSpec, attempt_finished

from .apps import application, db_tasks

PACKAGE = Path(flask_taskqueue.__file__).parent
_WARM_UP = 30


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(prog="benchmarks figures", description=__doc__)
    parser.add_argument("--files", action="store_true", help="name the files that are entered")
    names = parser.parse_args().files
    sizes = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")
    }
    largest = max(sizes, key=sizes.__getitem__)
    print(f"modules                          {len(sizes)}")
    print(f"median lines                     {statistics.median(sizes.values()):g}")
    print(f"largest                          {sizes[largest]} ({largest.relative_to(PACKAGE)})")
    pairs = {
        (module, part)
        for module, imported in _imports(sizes)
        if (part := _part(imported)) != _part(module)
    }
    print(f"imports, part to part            {len({(_part(module), to) for module, to in pairs})}")
    print(f"imports, module to part          {len(pairs)}")
    with application(None):
        db_tasks.drain()
        for _ in range(_WARM_UP):
            _add()
        db_tasks.drain()
        _add()
        acts: tuple[tuple[str, Callable[[dict[str, None]], object]], ...] = (
            ("one add()", lambda _: _add()),
            ("one drained task", _drain),
            ("without the start", _drain_going_on),
        )
        for what, act in acts:
            with _entered() as entered:
                act(entered)
            print(f"files entered, {what:<17} {len(entered)}")
            if names:
                print(*(f"    {name}" for name in entered), sep="\n")
            db_tasks.drain()
            _add()


def _add() -> None:
    db_tasks.add("/worker", {"key": "a"})


def _drain(_: dict[str, None]) -> None:
    db_tasks.drain()


def _drain_going_on(entered: dict[str, None]) -> None:
    """Drain a task and the one that follows it; forget what was entered before the second one."""
    db_tasks.drain()
    db_tasks.add("/worker", {"key": "a"}, then=TaskSpec("/worker", {"key": "a"}))

    def first_is_over(*_: object, **__: object) -> None:
        entered.clear()
        attempt_finished.disconnect(first_is_over)

    attempt_finished.connect(first_is_over)
    db_tasks.drain()


@contextmanager
def _entered() -> Iterator[dict[str, None]]:
    """Note the package's files in which a function is called meanwhile, in any thread."""
    entered: dict[str, None] = {}
    inside = f"{PACKAGE}/"

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(inside):
            entered[name.removeprefix(inside)] = None

    _profile(note)
    try:
        yield entered
    finally:
        _profile(None)


def _profile(note: Callable[[FrameType, str, object], None] | None) -> None:
    threading.setprofile(note)
    sys.setprofile(note)


def _imports(paths: dict[Path, int]) -> Iterator[tuple[str, str]]:
    """Each module with each module, or package, of ours that it imports something from."""
    for path in paths:
        module = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
        folder = path.relative_to(PACKAGE).parent
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = folder.parents[node.level - 2] if node.level > 1 else folder
            if node.module:
                yield module, (base / node.module.replace(".", "/")).as_posix()
            else:
                yield from ((module, (base / name.name).as_posix()) for name in node.names)


def _part(module: str) -> str:
    """The top-level part of a module: its folder or, directly in the package, itself."""
    return module.partition("/")[0]
