"""A deadline that is raised where the interpreter swallows exceptions strikes again."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_taskqueue import DeadlineExceeded
from flask_taskqueue.core.delivery.verdict import Reply
from flask_taskqueue.process.interrupts import interrupt, shielded
from tests.engine.test_interrupts import DONE, Handler
from tests.waiting import wait_until

if sys.version_info >= (3, 12):
    pytest.skip("the thread judges itself where it is struck", allow_module_level=True)


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me = self


class Finalized:
    """An object that works when it goes; under a name by which nobody knows what it is."""

    def _last(self) -> None:
        busy()

    __del__ = _last


def busy(*_: object) -> None:
    """Take steps of Python, at any of which a deadline may be raised."""
    for _one in range(50):
        pass


def watched_weakly() -> None:
    """Drop an object that a weak reference watches."""
    one = Cycle()
    _reference = weakref.ref(one, busy)
    one.me = None  # type: ignore[assignment]
    del one


@pytest.fixture
def collected_often() -> Iterator[None]:
    """The collector runs at every allocation, and calls back each time."""
    before = gc.get_threshold()
    gc.callbacks.append(busy)
    gc.set_threshold(1, 10, 1000)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(busy)


def strike(step: Callable[[], object]) -> None:
    """Have a handler that only takes this step struck, as the drain does it."""
    steps = 0

    def call() -> Reply:
        nonlocal steps
        while True:
            step()
            steps += 1

    handler = Handler(call)
    handler.start()
    wait_until(lambda: steps > 2, what="it is at work")

    def over() -> bool:
        interrupt(handler.delivery)
        return handler.delivery.over

    wait_until(over, what="it is struck", timeout=60)
    assert handler.end().kind == "timeout"


@pytest.mark.slow
@pytest.mark.usefixtures("collected_often")
def test_in_a_callback_of_the_collector() -> None:
    """Which is where this handler spends its time."""
    for _ in range(20):
        strike(Cycle)


@pytest.mark.slow
@pytest.mark.parametrize("step", [Finalized, watched_weakly])
def test_when_an_object_goes(step: Callable[[], object]) -> None:
    """In what it does then, or what a weak reference does."""
    for _ in range(20):
        strike(step)


def test_whoever_got_it_is_not_struck_again() -> None:
    """However often the drain looks while the handler cleans up."""
    caught = threading.Event()
    leave = threading.Event()

    def call() -> Reply:
        try:
            while True:
                busy()
        except DeadlineExceeded:
            caught.set()
            while not leave.is_set():
                Finalized()
        return DONE

    handler = Handler(call)
    handler.start()

    def struck() -> bool:
        interrupt(handler.delivery)
        return caught.is_set()

    wait_until(struck, what="it is struck")
    for _ in range(50):
        assert not interrupt(handler.delivery)
    leave.set()
    assert handler.end() == DONE


def test_what_was_swallowed_is_raised_before_a_shield_and_not_within() -> None:
    """As if it had been raised on the way."""
    begun, swallowed = threading.Event(), threading.Event()
    within: list[bool] = []

    def call() -> Reply:
        begun.set()
        while not swallowed.is_set():
            Finalized()
            if handler.delivery.strike is not None and not handler.delivery.strike._sent:  # type: ignore[union-attr]
                swallowed.set()
        with shielded():
            within.append(True)
        return DONE

    handler = Handler(call)
    handler.start()
    wait_until(begun.is_set, what="it is at work")
    wait_until(lambda: interrupt(handler.delivery), what="it is interrupted", timeout=60)
    assert handler.end().kind == "timeout"
    assert not within


def test_other_exceptions_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the hook that was there before, and to one that comes later."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: told.append(one.exc_type))
    strike(busy)

    class Broken:
        def __del__(self) -> None:
            raise LookupError

    Broken()
    assert told == [LookupError]
