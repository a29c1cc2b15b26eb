"""The pytest plugin: the fixture ``taskqueue``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from .tester import TaskQueueTester


@pytest.fixture
def taskqueue(app: Flask) -> Iterator[TaskQueueTester]:
    """The task queue of your fixture ``app``, empty at the begin of each test, whose tasks run
    when the test says so.
    """
    with TaskQueueTester(app) as tester:
        yield tester
