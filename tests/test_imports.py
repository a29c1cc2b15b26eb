"""What is not imported until it is used."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from flask import Flask
from flask_taskqueue import TaskQueue

app = Flask("small", instance_path=sys.argv[1])
app.config.update(SECRET_KEY="a secret for tests", TASKQUEUE_CREATE_TABLES=True)
tasks = TaskQueue(app)

@tasks.worker("/worker")
def handler():
    pass

with app.app_context():
    handler.add()
    assert tasks.drain() == 1
found = {
    name
    for name in sys.modules
    for one in ("requests", "urllib3", "google", "grpc", "flask_taskqueue.appengine",
                "flask_taskqueue.cloudtasks.service", "flask_taskqueue.core.rpc")
    if name == one or name.startswith(f"{one}.")
}
assert not found, sorted(found)
"""


def test_what_few_apps_use_is_not_imported_by_all(tmp_path: object) -> None:
    """The clients of other services, even where tasks run, and the doors for other queues."""
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, timeout=60)
