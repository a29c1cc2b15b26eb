"""A process that dies between handing a task over and recording it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from tests.apps import bench
from tests.cloud import Cloud
from tests.forwarding.conftest import add_workers


class Dying:
    """The official client, which takes its process with it once a task is created."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def create_task(self, **call: Any) -> None:
        """Create the task, and die."""
        self._client.create_task(**call)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    url, cloud_url = sys.argv[1:]
    cloud = Cloud(url=cloud_url)
    settings = cloud.settings() | {"TASKQUEUE_CLOUDTASKS_CLIENT": lambda: Dying(cloud.client())}
    with bench(url, **settings) as one:
        add_workers(one)
        one.tasks.drain()
