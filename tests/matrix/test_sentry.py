"""Sentry with all that it switches on by itself. What is reported how often: test_reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flask_taskqueue import State
from tests.apps import bench, served
from tests.databases import TestDatabase
from tests.matrix.packages import look_several_times, package
from tests.waiting import wait_until

sentry_sdk = package("sentry_sdk")
transport = package("sentry_sdk.transport")


class Project(transport.Transport):  # type: ignore[misc]
    """What Sentry's SDK would send to its server."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Any] = []
        self.transactions: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        """An error, a transaction or something else."""
        if (error := envelope.get_event()) is not None:
            self.errors.append(error)
        if (transaction := envelope.get_transaction_event()) is not None:
            self.transactions.append(transaction)


@pytest.fixture
def project() -> Iterator[Project]:
    """Sentry as its documentation sets it up, with traces."""
    one = Project()
    sentry_sdk.init("https://key@sentry.invalid/1", transport=one, traces_sample_rate=1.0)
    yield one
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@pytest.mark.parametrize("how", ["wsgi", "http"])
def test_an_error_is_one_issue_with_the_request_of_the_task(
    sqlite_database: TestDatabase, project: Project, how: str
) -> None:
    """Not with the request that added the task and had the dispatcher started."""
    with (
        bench(sqlite_database.url, PROPAGATE_EXCEPTIONS=False) as one,
        served(one.app) as url,
    ):

        @one.tasks.worker("/w", retry={"task_retry_limit": 0})
        def handler(number: int) -> None:
            raise RuntimeError("boom")

        @one.app.post("/add")
        def add() -> str:
            one.runtime.start(transport=how, base_url=url)
            return handler.add(7).id

        task_id = one.app.test_client().post("/add", base_url="http://page.example").text
        try:
            assert one.tasks.get(task_id).wait(60).state is State.DEAD
            wait_until(lambda: len(project.transactions) == 2, what="both requests are reported")
        finally:
            one.runtime.stop()
    (error,) = project.errors
    assert error["exception"]["values"][-1]["value"] == "boom"
    assert error["request"]["url"].endswith("/w")
    assert "page.example" not in error["request"]["url"]
    assert error["transaction"] == "taskqueue.handler"
    assert {transaction["transaction"] for transaction in project.transactions} == {
        "add",
        "taskqueue.handler",
    }


def test_an_idle_dispatcher_makes_no_transactions(database: TestDatabase, project: Project) -> None:
    """However often it looks at the database."""
    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.05) as one:
        look_several_times(one)
    assert project.transactions == project.errors == []
