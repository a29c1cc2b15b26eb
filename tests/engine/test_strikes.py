"""Strikes: wherever a thread judges that it may be interrupted, it is so as if what it did
there had failed.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType

import pytest

from flask_taskqueue.core.errors import DeadlineExceeded

if sys.version_info < (3, 12):
    pytest.skip("the thread is struck from outside", allow_module_level=True)

from flask_taskqueue.process.strikes import AnyStrike, watched
from flask_taskqueue.process.strikes.places import Places


class Held:
    """What must be let go, and work that begins when it is told to."""

    def __init__(self, work: Callable[[Held], None]) -> None:
        self.times = 0
        self.struck = False
        self._begun, self._go_on = queue.SimpleQueue[None](), queue.SimpleQueue[None]()
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()
        self._begun.get(timeout=30)
        self.strike = AnyStrike(self._thread.ident or 0, watch.__code__)

    def _run(self, work: Callable[[Held], None]) -> None:
        try:
            watch(work, self)
        except DeadlineExceeded:
            self.struck = True

    def begin(self) -> None:
        """Wait to be told."""
        self._begun.put(None)
        self._go_on.get(timeout=30)

    def end(self) -> None:
        """Have the work done."""
        self._go_on.put(None)
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.strike.withdraw()

    def __enter__(self) -> None:
        self.times += 1

    def __exit__(self, *_: object) -> None:
        self.times -= 1


def for_loop(held: Held) -> None:
    """Rounds that end in two ways, of which one has no table entry."""
    held.begin()
    with held:
        for one in (1, "a", 2):
            if isinstance(one, int):
                one.bit_count()


def while_loop(held: Held) -> None:
    """Rounds without any call."""
    held.begin()
    rounds = 3
    with held:
        while True:
            if rounds % 2:
                rounds -= 1
            else:
                rounds -= 1
            if rounds < 0:
                break


def handled(held: Held) -> None:
    """An ``except`` that leads back to the end of the ``with``."""
    held.begin()
    for one in (1, "a", 2):
        with held:
            try:
                one + 1  # type: ignore[operator]
            except TypeError as error:
                _ = error


def calls(held: Held) -> None:
    """Calls of every kind."""
    held.begin()
    numbers = [2, 1]
    with held:
        sorted(numbers, key=lambda one: max(*numbers, one))
        dict(**{"a": [str(number) for number in numbers]})
    with held:
        return numbers.clear()


def finally_(held: Held) -> None:
    """The statement that ``with`` stands for."""
    held.begin()
    held.__enter__()
    try:
        len([1])
        len([2])
    finally:
        held.__exit__()


def watch(work: Callable[[Held], None], held: Held) -> None:
    """Within this the deadline strikes."""
    work(held)


def strike_at(place: int, work: Callable[[Held], None], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Have work struck at one of the places where it may be; whether there are as many."""
    judge, seen = watched.may_be_interrupted, 0

    def at_that_place(frame: FrameType, outermost: CodeType, called: str = "") -> bool:
        nonlocal seen
        seen += judge(frame, outermost, called)
        return seen == place

    with monkeypatch.context() as patch:
        patch.setattr(watched, "may_be_interrupted", at_that_place)
        held = Held(work)
        assert held.strike.aim()
        held.end()
    assert held.times == 0
    return held.struck


@pytest.mark.parametrize("work", [for_loop, while_loop, handled, calls, finally_])
def test_what_is_held_is_let_go_wherever_the_deadline_strikes(
    work: Callable[[Held], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each place in turn."""
    places = 0
    while strike_at(places + 1, work, monkeypatch):
        places += 1
    assert places >= 3


def test_the_end_of_an_except_is_no_loop() -> None:
    """Only the ``for`` is."""
    assert len(Places(handled.__code__).loop_heads) == 1
    assert len(Places(while_loop.__code__).loop_heads) == 1
    assert not Places(finally_.__code__).loop_heads


def test_nothing_is_watched_when_the_strike_is_withdrawn() -> None:
    """Unless another strike needs it."""
    first, second = Held(calls), Held(calls)
    assert first.strike.aim()
    assert second.strike.aim()
    tool = watched._tool()
    assert tool is not None
    first.end()
    assert sys.monitoring.get_local_events(tool, calls.__code__)
    second.end()
    assert not sys.monitoring.get_local_events(tool, calls.__code__)
    assert first.struck
    assert second.struck
    assert not watched._watched
    assert not watched._due


def test_a_thread_that_nobody_can_watch_is_not_struck(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are six tools that watch."""
    monkeypatch.setattr(watched, "_tool", lambda: None)
    held = Held(calls)
    assert not held.strike.aim()
    held.end()
    assert not held.struck
