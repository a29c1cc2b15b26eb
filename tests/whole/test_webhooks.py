"""Webhooks that reach several processes at once, some of which are killed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import requests
from flask import Flask
from standardwebhooks import Webhook

from flask_taskqueue import Task
from flask_taskqueue.core.security.webhooks import event_name
from tests.apps import closing
from tests.databases import TestDatabase
from tests.waiting import wait_until
from tests.whole.hook_app import SECRET, create_app
from tests.whole.processes import descendants, process
from tests.whole.test_serving import answers, free_port

BODY = '{"type": "order.placed", "data": {}}'


@dataclass
class Warehouse:
    """Two processes of gunicorn, and their application in this process."""

    app: Flask
    url: str
    pid: int
    statuses: list[int] = field(default_factory=list)

    def send(self, id: str) -> int:
        """The status that answers a webhook."""
        now = datetime.now(UTC)
        headers = {
            "webhook-id": id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(SECRET).sign(id, now, BODY),
            "Content-Type": "application/json",
        }
        reply = requests.post(f"{self.url}/hooks/shop", BODY, headers=headers, timeout=60)
        return reply.status_code

    def tasks(self) -> list[Task]:
        """All that was stored."""
        with self.app.app_context():
            return list(self.app.extensions["taskqueue.tests"].find(limit=10_000))

    def workers(self) -> list[psutil.Process]:
        """The processes that answer."""
        return descendants(self.pid)


@pytest.fixture
def warehouse(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Warehouse]:
    """On each database in turn."""
    monkeypatch.setenv("HOOK_DATABASE", database.url)
    app, port = create_app(), free_port()
    gunicorn = ["-m", "gunicorn", "-w", "2", "--threads", "4", "-b", f"127.0.0.1:{port}"]
    with (
        closing(app),
        process(
            [*gunicorn, "tests.whole.hook_app:create_app()"],
            {"HOOK_DATABASE": database.url},
            tmp_path / "output",
        ) as running,
    ):
        wait_until(lambda: answers(port), what="the server answers")
        yield Warehouse(app, f"http://127.0.0.1:{port}", running.pid)


def test_twenty_times_at_once_it_is_one_task(warehouse: Warehouse) -> None:
    """In two processes with threads: each sender is told that it is stored, and one task is."""
    ready = threading.Barrier(20)

    def work() -> None:
        ready.wait(60)
        warehouse.statuses.append(warehouse.send("msg_1"))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert warehouse.statuses == [202] * 20
    assert len(warehouse.tasks()) == 1


@contextmanager
def sending(warehouse: Warehouse) -> Iterator[set[str]]:
    """Webhooks that are sent all the time, each until it is answered with 2xx; their ids."""
    numbers, answered, over = itertools.count(), set[str](), threading.Event()

    def work() -> None:
        while not over.is_set():
            id = f"msg_{next(numbers)}"
            while id not in answered and not over.is_set():
                with suppress(requests.ConnectionError):
                    if warehouse.send(id) == 202:
                        answered.add(id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join(120)


def test_what_was_answered_outlives_the_processes(warehouse: Warehouse) -> None:
    """Workers are killed again and again while webhooks arrive: each id that was answered with 2xx
    has exactly one task in the end, which the same webhook finds.
    """
    with sending(warehouse) as answered:
        for kills in range(1, 4):
            most = 10 * kills
            wait_until(lambda most=most: len(answered) >= most, what="webhooks are answered")
            for worker in warehouse.workers():
                worker.kill()
        wait_until(lambda: len(answered) >= 50, what="webhooks are answered after that")
    names = {task.name for task in warehouse.tasks()}
    assert len(warehouse.tasks()) == len(names)
    assert {event_name("order", id) for id in answered} <= names
    assert {warehouse.send(id) for id in answered} == {202}
    assert {task.name for task in warehouse.tasks()} == names
