"""Play the scenarios with App Engine's own SDK, whose queue is behind the API of Cloud Tasks.

    sdk/bin/python tests/appengine/bridge.py URL TOKEN

It prints the answers as JSON. test_bridge.py runs it, where TEST_APPENGINE_SDK is the Python of an
environment as record.py describes it. Tasks of pull queues are not bridged.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import urllib.request
from typing import Any

from scenarios import PLAYS, answer

os.environ.update(
    APPENGINE_USE_CLOUDTASK_PUSH_QUEUE="true",
    GOOGLE_CLOUD_PROJECT="p",
    LOCATION_ID="us-central1",
    GAE_SERVICE="default",
    GAE_VERSION="v1",
)
from google.appengine.api import taskqueue
from google.appengine.api.taskqueue import cloudtask
from google.appengine.ext import testbed
from google.cloud import tasks_v2, tasks_v2beta3
from google.oauth2.credentials import Credentials


def played(play: Any, url: str) -> Any:
    """What a scenario comes to with empty queues."""
    with urllib.request.urlopen(urllib.request.Request(f"{url}/empty", method="POST")):
        pass
    bed = testbed.Testbed()
    bed.activate()
    try:
        bed.init_app_identity_stub()
        bed.init_taskqueue_stub()
        return answer(lambda: play(taskqueue))
    finally:
        bed.deactivate()


def main(url: str, token: str, names: list[str]) -> None:
    """Play these scenarios and print what they come to."""
    logging.disable(logging.CRITICAL)
    for version, module in (("v2", tasks_v2), ("v2beta3", tasks_v2beta3)):
        cloudtask._CLIENTS[(version, os.getpid())] = module.CloudTasksClient(
            credentials=Credentials(token),
            transport="rest",
            client_options={"api_endpoint": url},
        )
    sys.stdout.write(json.dumps({name: played(PLAYS[name], url) for name in names}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
