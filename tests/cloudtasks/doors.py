"""The ways by which Google's own client reaches the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.oauth2.credentials import Credentials

from flask_taskqueue.cloudtasks.grpc_server import listen
from tests.apps import Bench, bench, served

TOKEN = "a-token-for-the-tests"
BASE = "https://guests.example.com/app"
PARENT = "projects/guests/locations/here"
QUEUE = f"{PARENT}/queues/default"
MAIL = f"{PARENT}/queues/mail"
SETTINGS = {
    "TASKQUEUE_API": True,
    "TASKQUEUE_API_TOKEN": TOKEN,
    "TASKQUEUE_BASE_URL": BASE,
    "TASKQUEUE_ALLOWED_HOSTS": ["api.example.com"],
    "TASKQUEUE_QUEUES": {"mail": {"rate": "20/s", "max_concurrent": 3}, "empty": {}},
}


@dataclass
class Door:
    """An app, and a client of Cloud Tasks that uses its queue."""

    name: str
    bench: Bench
    client: Any

    def add(self, path: str = "/worker", *, queue: str = QUEUE, **task: Any) -> Any:
        """Add a task for a path of the app by the client."""
        return self.client.create_task(
            parent=queue, task={"http_request": {"url": BASE + path}, **task}
        )


def _rest(one: Bench) -> AbstractContextManager[Any]:
    return rest_client(one)


@contextmanager
def rest_client(one: Bench, token: str = TOKEN) -> Iterator[Any]:
    """A client that speaks to a real server over HTTP."""
    with served(one.app) as url:
        yield tasks_v2.CloudTasksClient(
            credentials=Credentials(token),
            transport="rest",
            client_options={"api_endpoint": f"{url}/taskqueue/api"},
        )


@contextmanager
def _channel(one: Bench) -> Iterator[Any]:
    channel = one.tasks.cloud_tasks_channel()
    yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


@contextmanager
def _grpc(one: Bench) -> Iterator[Any]:
    server, address = listen(one.runtime, "127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(address) as channel:
            yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
    finally:
        server.stop(10).wait()


DOORS: dict[str, Callable[[Bench], AbstractContextManager[Any]]] = {
    "rest": _rest,
    "channel": _channel,
    "grpc": _grpc,
}


@contextmanager
def door(name: str, url: str, **settings: Any) -> Iterator[Door]:
    """A client by one of the doors, of an app whose token it has, if it needs one."""
    given = {**SETTINGS, **({} if name == "rest" else {"TASKQUEUE_API_TOKEN": None}), **settings}
    with bench(url, **given) as one, DOORS[name](one) as client:
        yield Door(name, one, client)
