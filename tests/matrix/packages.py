"""What the tests of the matrix share."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

from tests.apps import Bench
from tests.waiting import wait_until


def package(name: str) -> Any:
    """A module of another package. Where it is missing the tests of the calling module are skipped
    by name, or fail if the matrix is required.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if "matrix" in os.environ.get("TASKQUEUE_TEST_REQUIRE", "").split(","):
            raise
        pytest.skip(f"make matrix has it: {error}", allow_module_level=True)


def look_several_times(one: Bench) -> None:
    """Run an idle dispatcher of the application until it has looked at the database."""
    one.runtime.start()
    try:
        turns: set[Any] = set()
        scheduler = one.runtime.scheduler
        assert scheduler is not None

        def has_looked() -> bool:
            turns.add(scheduler.dispatcher.health.turned_at)
            return len(turns) > 4

        wait_until(has_looked, what="it has looked several times")
    finally:
        one.runtime.stop()
