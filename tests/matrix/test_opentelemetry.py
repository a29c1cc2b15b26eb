"""OpenTelemetry with its instrumentation of everything that the queue uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from flask_taskqueue import State
from tests.apps import bench, served
from tests.databases import TestDatabase
from tests.matrix.packages import look_several_times, package

trace = package("opentelemetry.trace")
sdk = package("opentelemetry.sdk.trace")
export = package("opentelemetry.sdk.trace.export")
in_memory = package("opentelemetry.sdk.trace.export.in_memory_span_exporter")
flask = package("opentelemetry.instrumentation.flask")

INSTRUMENTORS = [
    getattr(package(f"opentelemetry.instrumentation.{module}"), f"{name}Instrumentor")
    for module, name in {
        "psycopg": "Psycopg",
        "pymysql": "PyMySQL",
        "requests": "Requests",
        "sqlalchemy": "SQLAlchemy",
        "sqlite3": "SQLite3",
        "threading": "Threading",
    }.items()
]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The spans that end from now on, of apps that are made from now on."""
    exporter, provider = in_memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    with ExitStack() as instrumented:
        for instrumentor in INSTRUMENTORS:
            instrumentor().instrument(tracer_provider=provider, skip_dep_check=True)
            instrumented.callback(instrumentor().uninstrument)
        yield exporter


def test_an_idle_dispatcher_makes_no_traces(database: TestDatabase, spans: Any) -> None:
    """However often it looks at the database, and whoever else asks how it is."""
    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.05) as one:
        spans.clear()
        look_several_times(one)
        assert not [span.name for span in spans.get_finished_spans()]


@pytest.mark.parametrize("transport", ["wsgi", "http"])
def test_a_request_and_its_task_are_one_trace(
    database: TestDatabase, spans: Any, transport: str
) -> None:
    """From the page by way of the statement that stores the task to what the handler asks of the
    database; what the dispatcher asks is in no trace.
    """
    with bench(database.url) as one, served(one.app) as url:
        flask.FlaskInstrumentor().instrument_app(one.app)

        @one.tasks.worker("/w")
        def handler() -> None:
            one.db.session.get(one.Counter, 1)

        @one.app.post("/add")
        def add() -> str:
            return handler.add().id

        one.runtime.start(transport=transport, base_url=url)
        spans.clear()
        try:
            task_id = one.app.test_client().post("/add").text
            assert one.tasks.get(task_id).wait(60).state is State.SUCCEEDED
        finally:
            one.runtime.stop()
            flask.FlaskInstrumentor().uninstrument_app(one.app)
        found = spans.get_finished_spans()
    names = {span.name for span in found}
    assert {"POST /add", "send default", "process default", "POST /w"} <= names
    assert any("counter" in (span.attributes or {}).get("db.statement", "") for span in found)
    assert len({span.context.trace_id for span in found}) == 1
