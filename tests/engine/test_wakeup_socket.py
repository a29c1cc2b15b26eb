"""The bell: dispatchers on one host hear of tasks that other processes add."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flask_taskqueue.engine.wakeups import WakeupSocket
from tests.waiting import wait_until

Made = Callable[[Path, Path], None]


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
    bells = {name: WakeupSocket(name[0]) for name in ("a1", "a2", "b1")}
    for name, bell in bells.items():
        assert bell.listen(lambda name=name: heard.append(name))
    WakeupSocket("a").ring()
    wait_until(lambda: sorted(heard) == ["a1", "a2"], what="both have heard")
    bells["a1"].ring()
    wait_until(lambda: sorted(heard) == ["a1", "a2", "a2"], what="the other has heard")
    for bell in bells.values():
        bell.close()
    wait_until(lambda: not list(folder.rglob("*/*")), what="nothing is left")


def test_a_dispatcher_that_was_killed_is_forgotten(folder: Path) -> None:
    """Its socket is removed by whoever rings next."""
    bell = WakeupSocket("a")
    bell.listen(lambda: None)
    place = sockets(folder)[0].parent
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(place / "dead"))
    dead.close()
    WakeupSocket("a").ring()
    assert [path.name for path in sockets(folder)] != []
    assert not (place / "dead").exists()
    bell.close()


def test_a_ring_that_nobody_hears_does_nothing(folder: Path) -> None:
    """Nor do thousands that nobody reads."""
    WakeupSocket("nobody").ring()
    bell = WakeupSocket("a")
    bell.listen(lambda: None)
    place = sockets(folder)[0].parent
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deaf.bind(str(place / "deaf"))
    for _ in range(5000):
        bell.ring()
    deaf.close()
    bell.close()


def test_a_ring_removes_nothing_but_sockets(folder: Path) -> None:
    """Whatever else is in the folder, or is named by links there."""
    bell = WakeupSocket("a")
    bell.listen(lambda: None)
    place = sockets(folder)[0].parent
    dead = folder / "dead"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(dead))
    (folder / "photos").mkdir()
    for path in (place / "file", folder / "photos/1"):
        path.write_text("precious")
    (place / "to a file").symlink_to(folder / "photos/1")
    (place / "to a socket").symlink_to(dead)
    (place / "folder").mkdir()
    before = sorted(folder.rglob("*"))
    WakeupSocket("a").ring()
    assert sorted(folder.rglob("*")) == before
    for name in ("file", "to a file", "to a socket"):
        (place / name).unlink()
    (place / "folder").rmdir()
    bell.close()
    assert not place.exists()


def _open_to_all(place: Path, _elsewhere: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def _readable_by_others(place: Path, _elsewhere: Path) -> None:
    place.mkdir(mode=0o755)


def _of_another_user(place: Path, _elsewhere: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder to another user")
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 12345)


def _a_link(place: Path, elsewhere: Path) -> None:
    place.symlink_to(elsewhere)


def _a_file(place: Path, _elsewhere: Path) -> None:
    place.write_text("")


@pytest.mark.parametrize(
    "made", [_open_to_all, _readable_by_others, _of_another_user, _a_link, _a_file]
)
def test_a_folder_that_somebody_else_may_have_made_is_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture, made: Made
) -> None:
    """Nothing listens or rings there, and nothing is removed; a warning says once what to do."""
    private = folder / "private"
    private.mkdir(mode=0o700)
    place = folder / f"flask-taskqueue-{os.getuid()}"
    made(place, private)
    bell = WakeupSocket("a")
    if place.is_dir():
        _dead_socket_in(place / bell._folder.name)
    before = sorted(folder.rglob("*"))
    bell.ring()
    assert not bell.listen(lambda: None)
    bell.ring()
    bell.close()
    assert sorted(folder.rglob("*")) == before
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(f"{place} is not a private folder of this user ({os.getuid()})")
    assert "set TMPDIR" in said


@pytest.mark.parametrize("made", [_open_to_all, _a_link, _a_file])
def test_nor_is_one_below_it(folder: Path, made: Made) -> None:
    """The folder of a database is held to the same."""
    private = folder / "private"
    private.mkdir(mode=0o700)
    bell = WakeupSocket("a")
    bell._parent.mkdir(mode=0o700)
    made(bell._folder, private)
    if bell._folder.is_dir():
        _dead_socket_in(bell._folder)
    before = sorted(folder.rglob("*"))
    bell.ring()
    assert not bell.listen(lambda: None)
    assert sorted(folder.rglob("*")) == before


def _dead_socket_in(place: Path) -> None:
    """What a ring would remove from a folder of its own."""
    place.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(place / "dead"))


def test_a_folder_with_too_long_a_name_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll has to do."""
    long = folder / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert not WakeupSocket("a").listen(lambda: None)
