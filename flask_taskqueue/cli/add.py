"""``flask taskqueue add``."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import click
from flask.cli import with_appcontext

from ..api.adding import add_task
from ..api.tasks import Tasks
from ..core.errors import WaitTimeoutError
from ..core.states import State
from ..core.tasks.spec import TaskOptions, TaskSpec
from ..core.tasks.task import Task
from ..core.times import duration, plural
from ..runtime import Runtime
from .audit import logged
from .options import (
    FAILED,
    UNAVAILABLE,
    CommandFailure,
    Duration,
    Instant,
    current_runtime,
    json_option,
)
from .output import chatter, echo, echo_json, task_document
from .tasks import status_text

_FOREVER = timedelta(seconds=-1)


_REQUEST = (
    click.option(
        "--param",
        "-p",
        "params",
        multiple=True,
        metavar="KEY=VALUE",
        help="A form parameter; may be repeated.",
    ),
    click.option("--json-body", metavar="JSON", help="A JSON body; - reads stdin."),
    click.option("--body", metavar="TEXT", help="A plain body; - reads stdin."),
    click.option(
        "--header",
        "-H",
        "headers",
        multiple=True,
        metavar="NAME: VALUE",
        help="A header; may be repeated.",
    ),
    click.option("--method", help="[default: POST]"),
    click.option("--queue", help="[default: the worker's queue, or default]"),
)


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that describe a task's request and queue; see `spec_of`."""
    for option in reversed(_REQUEST):
        command = option(command)
    return command


@click.command("add")
@click.argument("url")
@request_options
@click.option("--name", help="Unique in its queue.")
@click.option("--unique-key", help="Unique among the tasks of the queue that have not ended.")
@click.option("--rate-key", help="The rate per key of its queue applies to this key by itself.")
@click.option("--in", "countdown", type=Duration(), help="Run it after this delay, such as 10m.")
@click.option("--eta", type=Instant(), help="Run it at this time, such as 2026-12-31T23:59:00Z.")
@click.option(
    "--wait",
    type=Duration(),
    is_flag=False,
    flag_value=_FOREVER,
    help="Wait until the task has ended, up to this long if given. Exit code 0 if it succeeded, "
    "1 if not, 75 if it has not ended yet, 69 if no dispatcher is alive.",
)
@json_option
@with_appcontext
def add(url: str, wait: timedelta | None, as_json: bool, **options: Any) -> None:
    """Add a task that calls URL: a path or endpoint of the app, or an absolute URL."""
    runtime = current_runtime()
    with logged(runtime, "add", lambda added: added[0].id):
        task = add_task(runtime, spec_of(url, options), None)
    if wait is None:
        _report(
            task,
            as_json,
            f"Added task {task.id} to queue {task.queue}."
            if task.was_enqueued
            else f"Not added: task {task.id} already has this unique key.",
        )
        return
    chatter(f"Added task {task.id}, waiting …")
    ended, seconds = _wait(runtime, task, wait)
    text = (
        f"{ended.id} {ended.state} with {status_text(ended)} in {duration(seconds)} "
        f"({plural(ended.attempts, 'attempt')})"
    )
    _report(ended, as_json, text)
    if ended.state is not State.SUCCEEDED:
        raise click.exceptions.Exit(FAILED)


def spec_of(url: str, given: dict[str, Any]) -> TaskSpec:
    """Return the task that the options of a command describe."""
    options: Any = {
        name: given[name]
        for name in ("method", "queue", "name", "unique_key", "rate_key", "countdown", "eta")
        if given.get(name) is not None
    }
    params = _pairs(given["params"], "=", "--param")
    if given["json_body"] is not None:
        options["json"] = _document(_text(given["json_body"]))
    if given["body"] is not None:
        options["payload"] = _text(given["body"])
    if given["headers"]:
        options["headers"] = {
            name: values[0] for name, values in _pairs(given["headers"], ":", "--header").items()
        }
    checked: TaskOptions = options
    return TaskSpec(url, params or None, **checked)


def _wait(runtime: Runtime, task: Task, wait: timedelta) -> tuple[Task, float]:
    alive = runtime.store.read(runtime.store.dispatchers.is_any_alive)
    if not alive and not Tasks.of(runtime).get(task.id).state.is_finished:
        raise CommandFailure(
            f"no dispatcher is alive to run task {task.id}; start one: flask taskqueue run",
            UNAVAILABLE,
        )
    began = time.monotonic()
    limit = math.inf if wait is _FOREVER else wait.total_seconds()
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
        echo(text)


def _pairs(texts: Sequence[str], mark: str, option: str) -> dict[str, list[str]]:
    pairs: dict[str, list[str]] = {}
    for text in texts:
        key, found_mark, value = text.partition(mark)
        if not found_mark or not key.strip():
            raise click.UsageError(f"{option} is {text!r}; it must be a name, {mark!r} and a value")
        pairs.setdefault(key.strip(), []).append(value if mark == "=" else value.strip())
    return pairs


def _text(argument: str) -> str:
    return sys.stdin.read() if argument == "-" else argument


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--json-body is not valid JSON: {error}") from error
