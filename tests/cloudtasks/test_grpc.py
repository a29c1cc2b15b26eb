"""The gRPC server: who is answered, where it listens, and clients that speak nothing else."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2, tasks_v2beta3
from google.cloud.tasks_v2.services.cloud_tasks.transports import (
    CloudTasksGrpcAsyncIOTransport,
    CloudTasksGrpcTransport,
)
from google.cloud.tasks_v2beta3.services.cloud_tasks import transports as beta

from flask_taskqueue import ConfigurationError
from flask_taskqueue.cloudtasks.grpc_server import listen
from tests.apps import Bench, bench
from tests.cloudtasks.doors import BASE, MAIL, QUEUE, SETTINGS, TOKEN
from tests.databases import TestDatabase


@pytest.fixture
def guarded(sqlite_database: TestDatabase) -> Iterator[tuple[Bench, str]]:
    """A server of an app with a token, and its address."""
    with bench(sqlite_database.url, **SETTINGS) as one:
        one.tasks.worker("/worker")(lambda: None)
        server, address = listen(one.runtime, "127.0.0.1:0")
        server.start()
        try:
            yield one, address
        finally:
            server.stop(10).wait()


def test_the_token_is_needed_if_there_is_one(guarded: tuple[Bench, str]) -> None:
    """As a bearer or an API key."""
    with grpc.insecure_channel(guarded[1]) as channel:
        client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        for metadata in ((), (("authorization", "Bearer wrong"),), (("x-goog-api-key", "x"),)):
            with pytest.raises(exceptions.PermissionDenied, match="TASKQUEUE_API_TOKEN"):
                client.get_queue(name=QUEUE, metadata=metadata)
        for header in (("authorization", f"Bearer {TOKEN}"), ("x-goog-api-key", TOKEN)):
            assert client.get_queue(name=QUEUE, metadata=(header,)).name == QUEUE


def test_the_asynchronous_client_is_answered(guarded: tuple[Bench, str]) -> None:
    """Its default is gRPC."""

    async def add() -> str:
        async with grpc.aio.insecure_channel(guarded[1]) as channel:
            client = tasks_v2.CloudTasksAsyncClient(
                transport=CloudTasksGrpcAsyncIOTransport(channel=channel)
            )
            created = await client.create_task(
                parent=QUEUE,
                task={"http_request": {"url": f"{BASE}/worker", "body": b"\x00\xff"}},
                metadata=(("x-goog-api-key", TOKEN),),
            )
            return str(created.name)

    name = asyncio.run(add())
    assert guarded[0].tasks.get(name.rpartition("/")[2]).url == "/worker"


def test_the_beta_is_answered(guarded: tuple[Bench, str]) -> None:
    """With its own messages."""
    with grpc.insecure_channel(guarded[1]) as channel:
        client = tasks_v2beta3.CloudTasksClient(
            transport=beta.CloudTasksGrpcTransport(channel=channel)
        )
        found = client.get_queue(
            request={"name": MAIL, "read_mask": "stats"},
            metadata=(("x-goog-api-key", TOKEN),),
        )
    assert found.type_ == tasks_v2beta3.Queue.Type.PUSH
    assert found.stats.effective_execution_rate == 20


def test_what_is_no_message_is_refused(guarded: tuple[Bench, str]) -> None:
    """And what is no method."""
    with grpc.insecure_channel(guarded[1]) as channel:
        for method, code in (
            ("/google.cloud.tasks.v2.CloudTasks/GetQueue", grpc.StatusCode.INVALID_ARGUMENT),
            ("/google.cloud.tasks.v2.CloudTasks/Steal", grpc.StatusCode.UNIMPLEMENTED),
        ):
            call = channel.unary_unary(method)
            with pytest.raises(grpc.RpcError) as raised:
                call(b"\xff\xff\xff", metadata=(("x-goog-api-key", TOKEN),))
            assert raised.value.code() is code


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("8123", "HOST:PORT"),
        ("127.0.0.1:", "HOST:PORT"),
        ("127.0.0.1:70000", "HOST:PORT"),
        ("unix:/tmp/x", "HOST:PORT"),
        ("0.0.0.0:0", "TASKQUEUE_API_TOKEN"),
        ("[::]:0", "TASKQUEUE_API_TOKEN"),
        ("example.com:0", "TASKQUEUE_API_TOKEN"),
    ],
)
def test_an_address_that_cannot_be_is_refused(on_sqlite: Bench, address: str, said: str) -> None:
    """Without a token only this machine is served."""
    with pytest.raises(ConfigurationError, match=said):
        listen(on_sqlite.runtime, address)


def test_an_address_that_is_taken_is_refused(on_sqlite: Bench) -> None:
    """Two servers at one address would each get some of the calls."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="nothing can listen"):
            listen(on_sqlite.runtime, f"127.0.0.1:{taken.getsockname()[1]}")


APP = """
from flask import Flask
from flask_taskqueue import TaskQueue

app = Flask(__name__)
app.config.update(SECRET_KEY="a secret for tests", TASKQUEUE_CREATE_TABLES=True)
tasks = TaskQueue(app)
app.post("/worker")(lambda: "")
"""


@pytest.mark.slow
def test_the_command_answers_until_it_is_stopped(tmp_path: Path) -> None:
    """It says where, and ends of SIGTERM by itself."""
    (tmp_path / "app.py").write_text(APP)
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "taskqueue", "cloudtasks", "--grpc", "127.0.0.1:0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Answering Cloud Tasks' clients at 127.0.0.1:")
        with grpc.insecure_channel(line.rpartition(" ")[2].strip().rstrip(".")) as channel:
            client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
            created = client.create_task(
                parent=QUEUE, task={"app_engine_http_request": {"relative_uri": "/worker"}}
            )
            assert [task.name for task in client.list_tasks(parent=QUEUE)] == [created.name]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
