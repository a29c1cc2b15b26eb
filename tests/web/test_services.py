"""TASKQUEUE_SERVICES: names for the places that tasks are sent to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request

from flask_taskqueue import ConfigurationError, InvalidUrlError, TaskQueue, TaskSpec
from tests.apps import Bench, bench, closing, served
from tests.databases import TestDatabase


@pytest.fixture
def worker() -> Iterator[tuple[str, list[str]]]:
    """Another app behind a real server: its URL, and what it was asked for."""
    app, asked = Flask("worker"), list[str]()

    @app.route("/<path:path>", methods=["GET", "POST"])
    def answer(path: str) -> str:
        asked.append(f"{request.method} /{path}")
        return "done"

    with served(app) as url:
        yield url, asked


@pytest.fixture
def shop(sqlite_database: TestDatabase, worker: tuple[str, list[str]]) -> Iterator[Bench]:
    """An application that knows of it as the service worker."""
    services = {"worker": worker[0], "v2.worker": f"{worker[0]}/v2", "here": None}
    queues = {"far": {"target": worker[0]}}
    with bench(sqlite_database.url, TASKQUEUE_SERVICES=services, TASKQUEUE_QUEUES=queues) as found:
        yield found


@pytest.mark.slow
def test_a_target_is_the_name_of_a_service(shop: Bench, worker: tuple[str, list[str]]) -> None:
    """Its host needs no further permission, and the path is appended to its base URL."""
    one = shop.tasks.add("/work", target="worker")
    two = shop.tasks.add("/work", target="v2.worker")
    shop.tasks.drain()
    assert sorted(worker[1]) == ["POST /v2/work", "POST /work"]
    assert [shop.tasks.get(task.id).state for task in (one, two)] == ["succeeded"] * 2


@pytest.mark.parametrize("name", ["default", "here"])
def test_a_service_that_is_this_app_is_called_as_without_a_target(
    shop: Bench, worker: tuple[str, list[str]], name: str
) -> None:
    """In process and as a worker, also in a queue whose target is another host."""
    ran: list[str] = []

    @shop.tasks.worker("/work")
    def work(key: str) -> None:
        ran.append(key)

    shop.tasks.add("/work", {"key": "a"}, target=name, queue="far")
    shop.tasks.add(work, {"key": "b"}, target=name)
    shop.tasks.drain()
    assert (sorted(ran), worker[1]) == (["a", "b"], [])


def test_a_service_that_is_not_configured_is_refused(shop: Bench) -> None:
    """The error names the setting and what it has; nothing is stored."""
    with pytest.raises(InvalidUrlError, match=r"'wroker' is neither .* nor in TASKQUEUE_SERVICES"):
        shop.tasks.add("/work", target="wroker")
    with pytest.raises(InvalidUrlError, match="TASKQUEUE_SERVICES"):
        shop.tasks.add("/work", target="far", then=TaskSpec("/work", target=""))
    assert shop.tasks.find() == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["worker"], "TASKQUEUE_SERVICES is ['worker']; it must be a mapping"),
        ({"a_b": None}, "TASKQUEUE_SERVICES is {'a_b': None}; it must be a mapping from App"),
        ({"a:b": None}, "it must be a mapping from App"),
        ({1: None}, "it must be a mapping from App"),
        ({"worker": "worker.example.com"}, "TASKQUEUE_SERVICES['worker'] is 'worker.example.com'"),
        ({"worker": "https://a:b@c.example"}, "TASKQUEUE_SERVICES['worker'] is 'https://c.exam"),
    ],
)
def test_services_that_cannot_be_used_are_refused(value: Any, message: str) -> None:
    """When the app is set up, naming the key."""
    app = Flask(__name__)
    app.config.update(TESTING=True, TASKQUEUE_SERVICES=value)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        TaskQueue(app)


def test_services_elsewhere_contradict_internal_targets() -> None:
    """As allowed hosts do."""
    app = Flask(__name__)
    app.config.update(
        TESTING=True,
        TASKQUEUE_TARGETS="internal",
        TASKQUEUE_SERVICES={"worker": "https://worker.example.com"},
    )
    with pytest.raises(ConfigurationError, match=r"there are .*TASKQUEUE_SERVICES"):
        TaskQueue(app)


def test_app_engines_files_name_services(tmp_path: Path, worker: tuple[str, list[str]]) -> None:
    """The target of a queue and that of a job are looked up in the setting."""
    (tmp_path / "queue.yaml").write_text("queue: [{name: far, rate: 5/s, target: worker}]")
    (tmp_path / "cron.yaml").write_text(
        "cron: [{url: /tick, schedule: every 24 hours, target: worker}]"
    )
    app = Flask(__name__, root_path=str(tmp_path), instance_path=str(tmp_path))
    app.config.update(
        TESTING=True,
        SECRET_KEY="a secret for tests",
        TASKQUEUE_SERVICES={"worker": worker[0]},
        TASKQUEUE_QUEUE_YAML="queue.yaml",
        TASKQUEUE_CRON_YAML="cron.yaml",
    )
    tasks = TaskQueue(app)
    with app.app_context(), closing(app):
        tasks.add("/work", queue="far")
        tasks.get_schedule("/tick").run_now()
        tasks.drain()
    assert sorted(worker[1]) == ["GET /tick", "POST /work"]
