"""Deadlines in a handler's thread, and what they must leave whole."""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import request

from flask_taskqueue import DeadlineExceeded, State
from flask_taskqueue.core.delivery.delivery import Delivery
from flask_taskqueue.core.delivery.verdict import Reply
from flask_taskqueue.process.interrupts import interrupt, shielded, within_deadline
from flask_taskqueue.store.database.write_lock import WriteLock
from tests.apps import Bench
from tests.misbehaving import RECORD
from tests.waiting import wait_until

DONE = Reply(status=200, headers={}, body=b"")


class Handler:
    """A delivery that a thread of its own attempts."""

    def __init__(self, call: Callable[[], Reply]) -> None:
        self.delivery = Delivery(record=RECORD, started=0.0, expires=1.0)
        self.reply: Reply | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.reply = within_deadline(self.delivery, self._call)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> Reply:
        """What came of it."""
        self._thread.join(30)
        assert self.reply is not None
        return self.reply


def spin(until: threading.Event) -> None:
    """Take steps of Python."""
    while not until.is_set():
        pass


def test_no_deadline_strikes_within_a_shield() -> None:
    """It is put off until the shield is lifted, and then it is raised."""
    inside, leave, never = threading.Event(), threading.Event(), threading.Event()
    whole: list[bool] = []

    def call() -> Reply:
        with shielded():
            inside.set()
            spin(leave)
            whole.append(True)
        spin(never)
        return DONE

    handler = Handler(call)
    handler.start()
    assert inside.wait(30)
    assert interrupt(handler.delivery)
    leave.set()
    assert handler.end().kind == "timeout"
    assert whole == [True]


def test_a_handler_is_interrupted_once() -> None:
    """What it does to clean up is undisturbed."""
    begun, cleaned = threading.Event(), threading.Event()

    def call() -> Reply:
        begun.set()
        try:
            spin(threading.Event())
        except DeadlineExceeded:
            with shielded():
                cleaned.set()
            raise
        return DONE

    handler = Handler(call)
    handler.start()
    assert begun.wait(30)
    assert interrupt(handler.delivery)
    assert handler.end().kind == "timeout"
    assert cleaned.is_set()
    assert not interrupt(handler.delivery)


def test_a_call_that_blocks_outside_python_is_the_last() -> None:
    """The deadline is raised as soon as it has returned, although nothing is repeated behind it."""
    begun, answers = threading.Event(), queue.SimpleQueue[int]()
    went_on: list[int] = []

    def call() -> Reply:
        begun.set()
        answer = answers.get()
        went_on.append(answer)
        return DONE

    handler = Handler(call)
    handler.start()
    assert begun.wait(30)
    wait_until(
        lambda: sys._current_frames()[handler.delivery.thread_id or 0].f_code is call.__code__,
        what="it waits",
    )
    wait_until(lambda: interrupt(handler.delivery), what="it is interrupted")
    answers.put(1)
    assert handler.end().kind == "timeout"
    assert not went_on


def test_whenever_a_deadline_strikes_the_lock_is_let_go(tmp_path: Path) -> None:
    """Three hundred handlers that take turns to write, each struck at some moment."""
    lock = WriteLock(lambda: str(tmp_path))
    chance = random.Random(7)

    def turns(shield: shielded) -> None:
        assert lock.acquire()
        try:
            shield.lifted(lambda: sum(range(50)))
        finally:
            lock.release()

    def call() -> Reply:
        while True:
            with shielded() as shield:
                turns(shield)

    for _ in range(300):
        handler = Handler(call)
        handler.start()
        time.sleep(chance.random() / 500)
        wait_until(lambda one=handler.delivery: interrupt(one), what="it has begun")  # type: ignore[misc]
        assert handler.end().kind == "timeout"
        assert lock.acquire(until=time.monotonic() + 30)
        lock.release()


def test_a_wait_for_the_lock_has_an_end(tmp_path: Path) -> None:
    """Who waits in vain goes without, and leaves nothing behind."""
    lock = WriteLock(lambda: str(tmp_path))
    lock.acquire()
    came: list[bool] = []
    waiting = threading.Thread(
        target=lambda: came.append(lock.acquire(until=time.monotonic() + 0.05))
    )
    waiting.start()
    waiting.join(30)
    assert came == [False]
    lock.release()
    assert lock.acquire(until=time.monotonic())
    lock.release()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # it may strike where the traceback's source is read
def test_a_handler_whose_turn_to_write_does_not_come_hinders_nobody(on_sqlite: Bench) -> None:
    """Its deadline ends the wait, the attempt has failed and says why, and everybody else goes
    on.
    """
    running, gone = threading.Event(), threading.Event()

    @on_sqlite.app.before_request
    def let_the_long_one_begin() -> None:
        if request.path == "/short":
            running.wait(60)

    @on_sqlite.app.teardown_request
    def tell(_error: BaseException | None) -> None:
        if request.path == "/short":
            gone.set()

    @on_sqlite.tasks.worker("/long", transactional=True)
    def long() -> None:
        running.set()
        gone.wait(60)

    @on_sqlite.tasks.worker("/short", transactional=True, deadline=5, retry={"task_retry_limit": 0})
    def short() -> None: ...

    runtime = on_sqlite.runtime
    held, waits = on_sqlite.tasks.add("/long"), on_sqlite.tasks.add("/short")
    runtime.start()
    try:
        assert gone.wait(60)
        ended = waits.wait(timeout=60)
        assert held.wait(timeout=60).state is State.SUCCEEDED
    finally:
        gone.set()
        runtime.stop(5)
    assert ended.state is State.DEAD
    assert "deadline" in str(ended.last_error)
    on_sqlite.tasks.add("/short")
