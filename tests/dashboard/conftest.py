"""Applications with a dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from flask_taskqueue import PermanentFailure
from tests.apps import Bench, bench
from tests.databases import TestDatabase

Open = Callable[..., Bench]


@pytest.fixture
def opened(database: TestDatabase) -> Iterator[Open]:
    """Applications on each database, with these settings; by default whoever asks may do
    everything.
    """
    with ExitStack() as stack:
        yield lambda **config: stack.enter_context(application(database, **config))


@pytest.fixture
def on_file(sqlite_database: TestDatabase) -> Iterator[Open]:
    """The same on a SQLite file only."""
    with ExitStack() as stack:
        yield lambda **config: stack.enter_context(application(sqlite_database, **config))


class application:
    """An application with a dashboard and some workers, in its context."""

    def __init__(self, database: TestDatabase, **config: Any) -> None:
        given = {
            "TASKQUEUE_DASHBOARD_ACCESS": lambda: True,
            "TASKQUEUE_QUEUES": {"mail": {"rate": "20/m"}},
        }
        merged = {key: value for key, value in {**given, **config}.items() if value is not None}
        self._bench = bench(database.url, TASKQUEUE_DASHBOARD=True, **merged)

    def __enter__(self) -> Bench:
        one = self._bench.__enter__()

        @one.tasks.worker("/fine")
        def fine() -> None:
            pass

        @one.tasks.worker("/broken")
        def broken() -> None:
            raise ValueError("no picture 'IMG_1.heic'")

        @one.tasks.worker("/hopeless")
        def hopeless(why: str = "for no reason") -> None:
            raise PermanentFailure(why)

        return one

    def __exit__(self, *error: Any) -> None:
        self._bench.__exit__(*error)
