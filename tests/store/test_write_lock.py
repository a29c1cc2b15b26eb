"""SQLite's lock file: never a reason to refuse, and free again whatever interrupts a wait for
it.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flask_taskqueue import TransientError
from flask_taskqueue.store.database import write_lock
from flask_taskqueue.store.database.write_lock import WriteLock
from tests.apps import bench
from tests.databases import TestDatabase
from tests.waiting import wait_until

ANOTHER = 65_534
TOLD = "the lock file by which processes take turns"


def database_of(url: str) -> Path:
    """The file of a database."""
    return Path(url.removeprefix("sqlite:///"))


def lock_of(url: str) -> Path:
    """The file beside a database."""
    return database_of(url).with_name(database_of(url).name + ".lock")


def add(url: str, **config: Any) -> list[str]:
    """Add two tasks; what `doctor` has found of the lock meanwhile."""
    with bench(url, **config) as one:
        one.tasks.worker("/w")(lambda: None)
        for _ in range(2):
            one.tasks.add("/w")
        return [str(finding) for finding in one.store.database.write_lock.findings()]


@contextmanager
def as_another(*paths: Path) -> Iterator[None]:
    """Within this the process is another user's, to whom these belong."""
    if os.getuid() != 0:
        pytest.skip("takes two users, so root")
    for path in paths:
        os.chown(path, ANOTHER, ANOTHER)
    os.setegid(ANOTHER)
    os.seteuid(ANOTHER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_path(tmp_path: Path) -> None:
    """Everybody may come to where the database is."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666])
def test_it_has_the_mode_of_the_database(sqlite_database: TestDatabase, mode: int) -> None:
    """Whatever the umask says."""
    database_of(sqlite_database.url).chmod(mode)
    assert add(sqlite_database.url) == []
    assert lock_of(sqlite_database.url).stat().st_mode & 0o777 == mode


def test_what_root_makes_belongs_to_the_owner_of_the_database(
    sqlite_database: TestDatabase, tmp_path: Path, open_path: None
) -> None:
    """So that after a command by root the service goes on, and takes turns."""
    database = database_of(sqlite_database.url)
    with as_another(database, tmp_path):
        pass
    database.chmod(0o600)
    add(sqlite_database.url)
    found = lock_of(sqlite_database.url).stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (ANOTHER, ANOTHER, 0o600)
    with as_another():
        assert add(sqlite_database.url) == []


@pytest.mark.parametrize("kind", ["of another user", "a folder", "a link", "a pipe"])
def test_without_it_the_queue_goes_on_and_says_so_once(
    sqlite_database: TestDatabase,
    tmp_path: Path,
    open_path: None,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the log, and as a finding as long as it is so."""
    lock, target = lock_of(sqlite_database.url), tmp_path / "target"
    if kind == "a folder":
        lock.mkdir()
    elif kind == "a link":
        lock.symlink_to(target)
    elif kind == "a pipe":
        os.mkfifo(lock)
    else:
        lock.touch(mode=0o600)
    with (
        as_another(database_of(sqlite_database.url), tmp_path)
        if kind == "of another user"
        else open(os.devnull),
        caplog.at_level("WARNING"),
    ):
        findings = add(sqlite_database.url)
    lines = [record.getMessage() for record in caplog.records if TOLD in record.getMessage()]
    usable = kind in ("a folder", "a pipe")  # they can be locked like any other
    assert len(lines) == (not usable)
    assert [TOLD in finding for finding in findings] == ([] if usable else [True])
    assert not target.exists()


def test_in_a_folder_that_may_not_be_written_to_the_queue_goes_on(
    sqlite_database: TestDatabase, tmp_path: Path, open_path: None
) -> None:
    """SQLite's own files are there; the lock is not, and cannot be made."""
    with bench(sqlite_database.url) as holder, holder.db.engine.connect() as kept:
        kept.exec_driver_sql("SELECT 1 FROM counter").all()
        lock_of(sqlite_database.url).unlink(missing_ok=True)
        files = [
            path
            for path in tmp_path.iterdir()
            if path.name.startswith(database_of(sqlite_database.url).name)
        ]
        for path in files:
            path.chmod(0o666)
        tmp_path.chmod(0o555)
        try:
            with as_another(*files):
                assert TOLD in add(sqlite_database.url)[0]
        finally:
            tmp_path.chmod(0o755)
        assert not lock_of(sqlite_database.url).exists()


def test_a_wait_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `TransientError`, and the next who comes when it is free gets it."""
    monkeypatch.setattr(write_lock, "LIMIT", 0.1)
    lock, errors = WriteLock(lambda: str(tmp_path)), []

    def wait() -> None:
        try:
            with lock:
                errors.append(None)
        except TransientError as error:
            errors.append(str(error))

    with lock, lock:
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(30)
    assert "turn to write did not come within 0.1 s" in str(errors[0])
    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(30)
    assert errors[1] is None


SIGNALLED = """
    import signal, sys, threading
    from flask_taskqueue.store.database.write_lock import WriteLock

    lock = WriteLock(lambda: sys.argv[1])
    by_thread = sys.argv[2] == "thread"

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    signal.signal(signal.SIGUSR1, stop)

    def take(taken, leave):
        with lock:
            taken.set()
            leave.wait(60)

    for _ in range(10):
        sys.stdin.readline()
        taken, leave = threading.Event(), threading.Event()
        if by_thread:
            threading.Thread(target=take, args=(taken, leave), daemon=True).start()
            taken.wait(60)
        try:
            print("waits", flush=True)
            with lock:
                sys.exit("it came, though another has it")
        except (KeyboardInterrupt, Stop):
            leave.set()
        print("interrupted", flush=True)
        sys.stdin.readline()
        others = []
        def take_briefly():
            others.append(lock.acquire() and lock.release() is None)
        other = threading.Thread(target=take_briefly, daemon=True)
        other.start()
        other.join(60)
        print(others, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("holder", ["thread", "process"])
def test_a_wait_that_a_signal_interrupts_leaves_it_free(
    tmp_path: Path, name: str, holder: str
) -> None:
    """For the other threads of its process and for other processes, whichever of them it waited
    for.
    """
    script = tmp_path / "signalled.py"
    script.write_text(textwrap.dedent(SIGNALLED))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, script, tmp_path, holder], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with tmp_path.with_name(tmp_path.name + ".lock").open("w") as mine:
            for _ in range(10):
                if holder == "process":
                    assert _locks(mine)
                print(file=process.stdin, flush=True)
                assert process.stdout.readline() == "waits\n", process.communicate(timeout=30)
                time.sleep(random.random() / 50)  # wherever in its wait it is
                process.send_signal(getattr(signal, name))
                assert process.stdout.readline() == "interrupted\n", process.communicate(timeout=30)
                wait_until(lambda: _locks(mine), what="it is free for other processes")
                fcntl.flock(mine, fcntl.LOCK_UN)
                print(file=process.stdin, flush=True)
                assert process.stdout.readline() == "[True]\n", process.communicate(timeout=30)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def _locks(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


FORKS = """
    import os, signal, sys, time
    from flask_taskqueue.store.database.write_lock import WriteLock

    lock = WriteLock(lambda: sys.argv[1])
    lock.acquire()
    if os.fork():
        time.sleep(60)
    else:
        lock.reset()
        print(os.getpid(), flush=True)
        time.sleep(60)
"""


@pytest.mark.slow
def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    """It has the file from the parent, and lives on when the parent is killed."""
    database = tmp_path / "app.db"
    database.touch()
    command = [sys.executable, "-c", textwrap.dedent(FORKS), str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            lock = WriteLock(lambda: str(database))
            parent.kill()
            parent.wait()
            with lock:
                file = lock._file
                assert file is not None
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(child, signal.SIGKILL)
            lock.reset()
