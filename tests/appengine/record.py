"""Record what App Engine's own SDK answers to the scenarios.

    python -m venv sdk && sdk/bin/pip install appengine-python-standard==3.1.0 'urllib3<2'
    sdk/bin/python tests/appengine/record.py

The answers are those of its development server's task queue; they are written to
vectors/taskqueue.json, so that the tests need no SDK.
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from google.appengine.api import taskqueue
from google.appengine.ext import testbed
from scenarios import answer, scenarios

QUEUES = """\
queue:
- {name: mail, rate: 5/s}
- {name: pull, mode: pull}
- {name: pull-thrice, mode: pull, retry_parameters: {task_retry_limit: 2}}
"""
VECTORS = Path(__file__).parent / "vectors" / "taskqueue.json"


def played(play: Any, folder: str) -> Any:
    """What a scenario comes to with queues of its own."""
    bed = testbed.Testbed()
    bed.activate()
    try:
        bed.init_datastore_v3_stub()
        bed.init_taskqueue_stub(root_path=folder)
        return answer(lambda: play(taskqueue))
    finally:
        bed.deactivate()


def main() -> None:
    """Play everything and write it down."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "queue.yaml").write_text(QUEUES)
        found = {name: played(play, folder) for name, play in scenarios().items()}
    VECTORS.parent.mkdir(exist_ok=True)
    VECTORS.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
