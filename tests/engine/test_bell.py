"""The bell: dispatchers on one host hear of tasks that other processes add."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_taskqueue.engine.bell import Bell
from tests.waiting import wait_until


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with a short name, for sockets have little room for it."""
    with tempfile.TemporaryDirectory(prefix="b") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield Path(place)


def sockets(folder: Path) -> list[Path]:
    """The sockets there are."""
    return [path for path in folder.rglob("*") if path.is_socket()]


def test_each_dispatcher_of_a_database_hears_a_ring(folder: Path) -> None:
    """Those of another database do not, nor does who rings."""
    heard: list[str] = []
    bells = {name: Bell(name[0]) for name in ("a1", "a2", "b1")}
    for name, bell in bells.items():
        assert bell.listen(lambda name=name: heard.append(name))
    Bell("a").ring()
    wait_until(lambda: sorted(heard) == ["a1", "a2"], what="both have heard")
    bells["a1"].ring()
    wait_until(lambda: sorted(heard) == ["a1", "a2", "a2"], what="the other has heard")
    for bell in bells.values():
        bell.close()
    wait_until(lambda: not list(folder.rglob("*/*")), what="nothing is left")


def test_a_dispatcher_that_was_killed_is_forgotten(folder: Path) -> None:
    """Its socket is removed by whoever rings next."""
    bell = Bell("a")
    bell.listen(lambda: None)
    place = sockets(folder)[0].parent
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(place / "dead"))
    dead.close()
    Bell("a").ring()
    assert [path.name for path in sockets(folder)] != []
    assert not (place / "dead").exists()
    bell.close()


def test_a_ring_that_nobody_hears_does_nothing(folder: Path) -> None:
    """Nor do thousands that nobody reads."""
    Bell("nobody").ring()
    bell = Bell("a")
    bell.listen(lambda: None)
    place = sockets(folder)[0].parent
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deaf.bind(str(place / "deaf"))
    for _ in range(5000):
        bell.ring()
    deaf.close()
    bell.close()


def test_a_folder_that_others_can_write_to_is_not_used(folder: Path) -> None:
    """Somebody else may have made it."""
    (folder / f"flask-taskqueue-{os.getuid()}").mkdir(mode=0o777)
    os.chmod(folder / f"flask-taskqueue-{os.getuid()}", 0o777)
    assert not Bell("a").listen(lambda: None)


def test_a_folder_with_too_long_a_name_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poll has to do."""
    long = folder / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert not Bell("a").listen(lambda: None)
