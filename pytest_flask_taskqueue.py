"""The pytest plugin of Flask-TaskQueue: the fixture ``taskqueue``.

It lies outside of the package, because pytest loads it in every run: the package is imported only
by tests that use the fixture, so others stay fast and coverage sees the imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from flask_taskqueue.testing import TaskQueueTester


@pytest.fixture
def taskqueue(app: Flask) -> Iterator[TaskQueueTester]:
    """Give a test the task queue of your fixture ``app``, empty, whose tasks run on request."""
    from flask_taskqueue.testing import TaskQueueTester

    with TaskQueueTester(app) as tester:
        yield tester
