"""Processes that are killed between adding and committing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flask_taskqueue.appengine import taskqueue
from tests.apps import bench
from tests.databases import TestDatabase
from tests.waiting import wait_until


@pytest.mark.slow
def test_what_a_killed_process_has_not_committed_never_was(database: TestDatabase) -> None:
    """Its deferred call, its task, its lease and its deletion, with its change of a row."""
    with bench(database.url, TASKQUEUE_QUEUES={"pull": {"mode": "pull"}}) as shop:
        done = subprocess.run(
            [sys.executable, "-m", "tests.appengine.deferring_app", database.url],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n"), done.stderr
        assert shop.count() == 0
        assert [task.name for task in shop.tasks.find()] == ["kept"]
        found: list[taskqueue.Task] = []
        wait_until(  # the server lets the row go when it has seen that the process is gone
            lambda: found.extend(taskqueue.Queue("pull").lease_tasks(3600, 1)) or found,
            what="the task can be leased",
        )
        assert [(task.name, task.retry_count) for task in found] == [("kept", 1)]
