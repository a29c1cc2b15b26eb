"""``flask taskqueue add``."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click
from flask.cli import with_appcontext

from ..api.adding import add_task
from ..api.tasks import Tasks
from ..core.errors import WaitTimeoutError
from ..core.humanize import count, span
from ..core.states import State
from ..core.tasks.spec import TaskOptions, TaskSpec
from ..core.tasks.task import Task
from ..runtime import Runtime
from .options import FAILED, UNAVAILABLE, Duration, Failure, Instant, current_runtime, json_option
from .output import chatter, echo_json, task_document
from .tasks import status_text

_FOR_EVER = timedelta(seconds=-1)


@click.command("add")
@click.argument("url")
@click.option(
    "--param",
    "-p",
    "params",
    multiple=True,
    metavar="KEY=VALUE",
    help="A parameter of the form; may be repeated.",
)
@click.option("--json-body", metavar="JSON", help="A JSON document as body; - reads stdin.")
@click.option("--body", metavar="TEXT", help="A body as it is; - reads stdin.")
@click.option(
    "--header",
    "-H",
    "headers",
    multiple=True,
    metavar="NAME: VALUE",
    help="A header; may be repeated.",
)
@click.option("--method", help="[default: POST]")
@click.option("--queue", help="[default: that of the worker, or default]")
@click.option("--name", help="Unique in its queue.")
@click.option("--unique-key", help="Unique among the queue's tasks that have not ended.")
@click.option(
    "--in", "countdown", type=Duration(), help="Not before so long from now, such as 10m."
)
@click.option(
    "--eta", type=Instant(), help="Not before this instant, such as 2026-12-31T23:59:00Z."
)
@click.option(
    "--wait",
    type=Duration(),
    is_flag=False,
    flag_value=_FOR_EVER,
    help="Until it has ended, at most so long: exit code 0 if it succeeded, 1 if not, 75 if it "
    "has not ended, 69 without a dispatcher.",
)
@json_option
@with_appcontext
def add(url: str, wait: timedelta | None, as_json: bool, **given: Any) -> None:
    """Add a task for URL: a path of the application, an endpoint, or an absolute URL."""
    runtime = current_runtime()
    task = _store(runtime, url, given)
    if wait is None:
        _report(
            task,
            as_json,
            f"Added task {task.id} to queue {task.queue}."
            if task.was_enqueued
            else f"Task {task.id} stands for it.",
        )
        return
    chatter(f"{task.id} added …")
    ended, seconds = _wait(runtime, task, wait)
    text = (
        f"{ended.id} {ended.state} with {status_text(ended)} in {span(seconds)} "
        f"({count(ended.attempts, 'attempt')})"
    )
    _report(ended, as_json, text)
    if ended.state is not State.SUCCEEDED:
        raise click.exceptions.Exit(FAILED)


def _store(runtime: Runtime, url: str, given: dict[str, Any]) -> Task:
    options: Any = {
        name: given[name]
        for name in ("method", "queue", "name", "unique_key", "countdown", "eta")
        if given[name] is not None
    }
    params = _pairs(given["params"], "=", "--param")
    if given["json_body"] is not None:
        options["json"] = _document(_text(given["json_body"]))
    if given["body"] is not None:
        options["payload"] = _text(given["body"])
    if given["headers"]:
        options["headers"] = {
            name: value[0] for name, value in _pairs(given["headers"], ":", "--header").items()
        }
    checked: TaskOptions = options
    return add_task(runtime, TaskSpec(url, params or None, **checked), None)


def _wait(runtime: Runtime, task: Task, wait: timedelta) -> tuple[Task, float]:
    with runtime.store.reading() as connection:
        alive = any(one.is_alive for one in runtime.store.dispatchers.list(connection))
    if not alive and not Tasks.of(runtime).get(task.id).state.is_finished:
        raise Failure(
            f"no dispatcher is alive, so nothing runs task {task.id}: flask taskqueue run",
            UNAVAILABLE,
        )
    began = time.monotonic()
    limit = math.inf if wait is _FOR_EVER else wait.total_seconds()
    while True:
        try:
            return task.wait(min(limit, 3600)), time.monotonic() - began
        except WaitTimeoutError:
            if limit < math.inf:
                raise


def _report(task: Task, as_json: bool, text: str) -> None:
    if as_json:
        echo_json(task_document(task))
    else:
        click.echo(text)


def _pairs(texts: Sequence[str], mark: str, option: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        key, found_mark, value = text.partition(mark)
        if not found_mark or not key.strip():
            raise click.UsageError(f"{option} is {text!r}; it must be a name, {mark!r} and a value")
        found.setdefault(key.strip(), []).append(value if mark == "=" else value.strip())
    return found


def _text(given: str) -> str:
    return sys.stdin.read() if given == "-" else given


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--json-body is no JSON: {error}") from error
