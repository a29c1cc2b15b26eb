"""What the page Developing for Cloud Tasks says, word by word, with real processes."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from tests.pages import ROOT
from tests.receivers import receiver
from tests.waiting import wait_until
from tests.whole.processes import process

PAGE = (ROOT / "docs/developing-cloudtasks.md").read_text(encoding="utf-8")
EMULATOR = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
COMMANDS = re.findall(r"^\$ flask (--app emulator .*)$", PAGE, re.MULTILINE)


@pytest.mark.slow
def test_the_emulator_delivers_to_another_app(tmp_path: Path) -> None:
    """By the page's own file and commands, at a port that is free."""
    (tmp_path / "emulator.py").write_text(EMULATOR)
    run, serve = (command.split() for command in COMMANDS)
    serve[-1] = "127.0.0.1:0"
    said = tmp_path / "serve.txt"
    with (
        receiver() as app,
        process(["-m", "flask", *serve], {"PYTHONUNBUFFERED": "1"}, said),
        process(["-m", "flask", *run], {}, tmp_path / "run.txt"),
    ):
        wait_until(lambda: "Answering" in said.read_text(), what="the server says where it is")
        address = re.findall(r"clients at (\S+)\.", said.read_text())[0]
        with grpc.insecure_channel(address) as channel:
            client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
            queue = client.queue_path("my-project", "us-central1", "mail")
            client.create_task(
                parent=queue,
                task={
                    "name": f"{queue}/tasks/one",
                    "http_request": {
                        "url": f"{app.url}/send?to=ana",
                        "headers": {"X-Own": "1"},
                        "body": bytes(range(256)),
                    },
                },
            )
            wait_until(lambda: app.got, what="the task is delivered")
            headers, body = app.latest
            assert body == bytes(range(256))
            assert headers["x-cloudtasks-queuename"] == "mail"
            assert headers["x-cloudtasks-taskname"] == "one"
            assert headers["x-own"] == "1"
            assert "content-type" not in headers
            wait_until(lambda: not [*client.list_tasks(parent=queue)], what="the task has ended")
    assert (tmp_path / "instance").is_dir()
