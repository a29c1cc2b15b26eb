"""A deadline that strikes while a handler logs, waits or takes a connection leaves nothing
behind that others would wait for.
"""

from __future__ import annotations

import dis
import importlib
import io
import logging
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.verdict import Reply
from flask_taskqueue.process.interruptible import _protected
from flask_taskqueue.process.interrupts import interrupt
from tests.engine.test_interrupts import Handler
from tests.waiting import wait_until

STRIKES = 60
chance = random.Random(5)


def strike(step: Callable[[], object]) -> None:
    """Have a handler take this step again and again, and its deadline strike at some moment."""
    steps = 0

    def call() -> Reply:
        nonlocal steps
        while True:
            step()
            steps += 1

    handler = Handler(call)
    handler.start()
    wait_until(lambda: steps, what="it is at work", timeout=60)
    time.sleep(chance.random() / 200)
    wait_until(lambda: interrupt(handler.delivery), what="it is interrupted", timeout=60)
    assert handler.end().kind == "timeout"


@contextmanager
def done_elsewhere(step: Callable[[], object]) -> Iterator[None]:
    """After this another thread can take the step too; one that was there before, so that no
    lock takes it for the one that has ended.
    """
    leave = threading.Event()

    def work() -> None:
        leave.wait()
        step()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    leave.set()
    thread.join(30)
    assert not thread.is_alive()


class Slow(logging.Handler):
    """Takes its time, and sleeps meanwhile."""

    def emit(self, record: logging.LogRecord) -> None:
        time.sleep(0.0002)


def logger_of(handler: logging.Handler) -> logging.Logger:
    """A logger of this test's own."""
    logger = logging.Logger("places")
    logger.addHandler(handler)
    return logger


def of_logging(handler: logging.Handler) -> Callable[[], object]:
    """Log, and ask whether anything would be logged, which has a lock of its own."""
    logger = logger_of(handler)
    other = logging.getLogger("places.other")

    def log() -> None:
        logger.info("a line with %s", "arguments")
        other.manager._clear_cache()
        other.isEnabledFor(logging.DEBUG)

    return log


@contextmanager
def crowded(step: Callable[[], object]) -> Iterator[None]:
    """Within this another thread takes the step too, so that whoever takes it often waits for
    its lock.
    """
    leave = threading.Event()

    def work() -> None:
        while not leave.is_set():
            step()
            time.sleep(
                0.0001
            )  # a lock is not handed over in turn: the other thread has to come to it

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        leave.set()
        thread.join(30)
        assert not thread.is_alive()


def of_queue() -> Callable[[], object]:
    """Put and get."""
    one: queue.Queue[int] = queue.Queue(maxsize=4)

    def exchange() -> None:
        one.put(1, timeout=30)
        one.get(timeout=30)

    return exchange


def of_condition() -> Callable[[], object]:
    """Wait a moment, and notify."""
    condition = threading.Condition()

    def wait() -> None:
        with condition:
            condition.wait(0.0001)
            condition.notify()

    return wait


def of_semaphore() -> Callable[[], object]:
    """Take the only permit."""
    semaphore = threading.BoundedSemaphore(1)

    def take() -> None:
        with semaphore:
            sum(range(20))

    return take


def of_import(folder: Path) -> Callable[[], object]:
    """Import a module anew."""
    (folder / "imported_anew.py").write_text("value = 1\n")
    sys.path.insert(0, str(folder))

    def load() -> None:
        sys.modules.pop("imported_anew", None)
        importlib.import_module("imported_anew")

    return load


def of_print(stream: io.TextIOWrapper) -> Callable[[], object]:
    """Print to a stream of all threads."""
    return lambda: print("a line", file=stream, flush=True)


def of_pool(folder: Path, stack: ExitStack) -> Callable[[], object]:
    """Take the only connection of a pool and give it back."""
    engine = sa.create_engine(
        f"sqlite:///{folder / 'one.db'}",
        pool_size=1,
        max_overflow=0,
        pool_timeout=30,
        poolclass=sa.QueuePool,
    )
    stack.callback(engine.dispose)

    def connect() -> None:
        with engine.connect():
            pass

    return connect


class Manager:
    """A context manager of the application's that takes a lock in several steps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        sum(range(20))

    def __exit__(self, *_: object) -> None:
        sum(range(20))
        self._lock.release()


def of_manager() -> Callable[[], object]:
    """Compute under a lock."""
    manager = Manager()

    def use() -> None:
        with manager:
            sum(range(20))

    return use


def of_lines(folder: Path) -> Callable[[], object]:
    """Read the lines of a file under a lock: the interpreter is let go where none of its calls
    are.
    """
    manager = Manager()
    (folder / "lines").write_text("a line\n" * 3)

    def read() -> None:
        with (folder / "lines").open() as lines, manager:
            for _ in lines:
                pass

    return read


@contextmanager
def step_of(name: str, folder: Path) -> Any:
    """What a handler does."""
    file = logging.FileHandler(folder / "log", delay=True)
    with (
        (folder / "out").open("w", buffering=1) as stream,
        ThreadPoolExecutor(2) as executor,
        closing(file),
        ExitStack() as stack,
    ):
        steps: dict[str, Callable[[], Callable[[], object]]] = {
            "a stream": lambda: of_logging(logging.StreamHandler(io.StringIO())),
            "a file": lambda: of_logging(file),
            "a slow handler": lambda: of_logging(Slow()),
            "print": lambda: of_print(stream),
            "queue": of_queue,
            "condition": of_condition,
            "semaphore": of_semaphore,
            "executor": lambda: lambda: executor.submit(int).result(30),
            "pool": lambda: of_pool(folder, stack),
            "import": lambda: of_import(folder),
            "manager": of_manager,
            "lines": lambda: of_lines(folder),
        }
        yield steps[name]()


NAMES = (
    "a stream",
    "a file",
    "a slow handler",
    "print",
    "queue",
    "condition",
    "semaphore",
    "executor",
    "pool",
    "import",
    "manager",
    "lines",
)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.timeout(300)  # an interrupt is tried again until the handler is where it may be
@pytest.mark.parametrize("name", NAMES)
def test_whenever_a_deadline_strikes_others_go_on(tmp_path: Path, name: str) -> None:
    """Each of many handlers is struck at some moment, and afterwards every thread can do what
    it did.
    """
    with step_of(name, tmp_path) as step:
        for _ in range(STRIKES):
            with done_elsewhere(step):
                strike(step)


@pytest.mark.parametrize("name", ["a file", "a slow handler"])
def test_a_deadline_that_strikes_while_another_thread_logs(tmp_path: Path, name: str) -> None:
    """The handler waits for the lock; it is interrupted when it has let go of it."""
    with step_of(name, tmp_path) as step, crowded(step):
        for _ in range(10):
            strike(step)


def test_the_exception_table_is_read_as_python_reads_it() -> None:
    """Of every function of `logging` and `threading`."""
    codes = [
        value.__code__
        for module in (logging, threading)
        for value in vars(module).values()
        if hasattr(value, "__code__")
    ]
    codes += [
        method.__code__
        for module in (logging, threading)
        for kind in vars(module).values()
        if isinstance(kind, type)
        for method in vars(kind).values()
        if hasattr(method, "__code__")
    ]
    assert len(codes) > 100
    for code in codes:
        theirs = [
            (entry.start, entry.end, entry.target) for entry in dis._parse_exception_table(code)
        ]  # type: ignore[attr-defined]
        assert list(_protected(code.co_exceptiontable)) == theirs
