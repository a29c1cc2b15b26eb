"""Traces: what a task carries, and spans with OpenTelemetry's SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from flask import request
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from flask_taskqueue.testing import TaskQueueTester
from tests.apps import Bench, bench
from tests.databases import TestDatabase

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CARRIED = {
    "traceparent": PARENT,
    "tracestate": "a=b",
    "baggage": "user=1",
    "sentry-trace": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that end from now on."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


def by_name(spans: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    """What was exported, by name."""
    found: dict[str, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def stored(one: Bench, task_id: str) -> dict[str, str]:
    """The headers that a task was stored with."""
    store = one.store
    with store.reading() as connection:
        return dict(json.loads(store.tasks.get(connection, task_id).headers or "{}"))


def test_the_context_of_a_request_is_carried_to_every_attempt(on_sqlite: Bench) -> None:
    """Without OpenTelemetry; and on to what handlers add."""
    seen: list[dict[str, str]] = []

    @on_sqlite.tasks.worker("/w")
    def handler(again: bool = True) -> Any:
        seen.append({name: request.headers[name] for name in CARRIED if name in request.headers})
        if again and len(seen) == 2:
            handler.add(again=False)
        return ("no", 503) if len(seen) == 1 else None

    @on_sqlite.app.post("/order")
    def order() -> str:
        return handler.add().id

    with TaskQueueTester(on_sqlite.app) as taskqueue:
        on_sqlite.app.test_client().post("/order", headers=CARRIED)
        taskqueue.advance(60, run=True)
        assert seen == [CARRIED] * 3
        handler.add()
        taskqueue.run_all()
        assert seen[3] == {}


@pytest.mark.parametrize("value", ["x" * 9000, "a\x7fb", "é\n"])
def test_a_context_that_cannot_be_sent_is_left_out(on_sqlite: Bench, value: str) -> None:
    """It does not keep a task from being added, however large that is."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    largest = {"key": "x" * (102_400 - 80)}
    with on_sqlite.app.test_request_context(
        environ_overrides={"HTTP_TRACEPARENT": PARENT, "HTTP_BAGGAGE": value}
    ):
        task = on_sqlite.tasks.add("/w", largest)
    assert "baggage" not in stored(on_sqlite, task.id)


def test_headers_of_the_user_win(on_sqlite: Bench) -> None:
    """Whatever their case; and none are added where that is not wanted."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    mine = {"Traceparent": PARENT.replace("0af", "1af")}
    with on_sqlite.app.test_request_context(headers=CARRIED):
        assert stored(on_sqlite, on_sqlite.tasks.add("/w", headers=mine).id) == mine
    with bench(str(on_sqlite.db.engine.url), TASKQUEUE_TRACE_PROPAGATION=False) as other:
        other.tasks.worker("/w")(lambda: None)
        with other.app.test_request_context(headers=CARRIED):
            assert stored(other, other.tasks.add("/w").id) == {}


def test_other_hosts_get_no_baggage(sqlite_database: TestDatabase) -> None:
    """Only the trace itself."""
    with (
        bench(sqlite_database.url, TASKQUEUE_ALLOWED_HOSTS=["api.example"]) as one,
        one.app.test_request_context(headers=CARRIED),
    ):
        task = one.tasks.add("https://api.example/hook")
        assert stored(one, task.id) == {"traceparent": PARENT, "tracestate": "a=b"}


def test_the_first_attempt_is_in_the_trace_and_later_ones_are_linked(
    on_sqlite: Bench, spans: InMemorySpanExporter
) -> None:
    """With a producer span, and consumer spans whose context the handler's request carries."""
    seen: list[str] = []

    @on_sqlite.tasks.worker("/w")
    def handler() -> Any:
        seen.append(request.headers["traceparent"])
        return ("no", 503) if len(seen) == 1 else None

    with TaskQueueTester(on_sqlite.app) as taskqueue:
        token = context.attach(baggage.set_baggage("user", "1"))
        with trace.get_tracer("test").start_as_current_span("view"):
            task = handler.add()
        context.detach(token)
        assert stored(on_sqlite, task.id)["baggage"] == "user=1"
        taskqueue.run(task)
        taskqueue.run(task)
    (view,), (send,), (first, second) = (
        by_name(spans)[name] for name in ("view", "send default", "process default")
    )
    assert send.parent is not None
    assert first.parent is not None
    assert (send.parent.span_id, send.kind) == (view.context.span_id, SpanKind.PRODUCER)
    assert (first.parent.span_id, first.context.trace_id, first.kind) == (
        send.context.span_id,
        view.context.trace_id,
        SpanKind.CONSUMER,
    )
    assert (first.status.status_code, first.attributes["error.type"], first.links) == (
        StatusCode.ERROR,
        "503",
        (),
    )  # type: ignore[index]
    assert second.parent is None
    assert second.context.trace_id != view.context.trace_id
    assert [link.context.span_id for link in second.links] == [send.context.span_id]
    assert dict(second.attributes or {}) == {
        "messaging.system": "flask_taskqueue",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": task.id,
        "messaging.message.body.size": 0,
        "http.request.resend_count": 1,
        "http.response.status_code": 204,
    }
    assert [header.split("-")[2] for header in seen] == [
        f"{span.context.span_id:016x}" for span in (first, second)
    ]


def test_lists_carry_the_context_of_the_caller(
    on_sqlite: Bench, spans: InMemorySpanExporter
) -> None:
    """Without a span for each; schedules and those that are added outside of a trace carry none."""
    on_sqlite.tasks.worker("/w")(lambda: None)
    on_sqlite.tasks.schedule("often", "/w", "every 1 minutes")
    with TaskQueueTester(on_sqlite.app) as taskqueue:
        with trace.get_tracer("test").start_as_current_span("view") as view:
            on_sqlite.tasks.queue("default").add(["/w", "/w"])
            on_sqlite.tasks.add_many(["/w"])
            on_sqlite.tasks.schedules()
        parent = f"{view.get_span_context().span_id:016x}"
        assert [
            stored(on_sqlite, task.id)["traceparent"].split("-")[2] for task in taskqueue.tasks()
        ] == [parent] * 3
        assert set(by_name(spans)) == {"view"}
        taskqueue.advance(61)
        assert stored(on_sqlite, taskqueue.tasks()[-1].id) == {}


@pytest.mark.slow
def test_without_opentelemetry_nothing_is_missing() -> None:
    """It is an extra."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None; sys.modules['prometheus_client'] = None\n"
        "from flask_taskqueue.process import tracing as telemetry\n"
        "assert not telemetry.is_traced() and telemetry.current_context() == {}\n"
        "with telemetry.sending(wanted=True) as describe: describe(None)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
