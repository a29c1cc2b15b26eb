"""flask taskqueue add."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from flask_taskqueue import State
from tests.cli.conftest import Console


@contextmanager
def dispatching(console: Console) -> Iterator[None]:
    """A dispatcher of this process, while the block runs."""
    runtime = console.bench.runtime
    runtime.start()
    try:
        yield
    finally:
        runtime.stop()


def test_add_stores_a_task(console: Console) -> None:
    """With parameters, headers and options; its document as JSON."""
    words = [
        "-p",
        "what=good",
        "-p",
        "n=1",
        "-p",
        "n=2",
        "-H",
        "X-Kind: mail",
        "--name",
        "one",
        "--in",
        "1h",
        "--queue",
        "slow",
    ]
    document = console.json("add", "/work", *words)
    assert (document["name"], document["queue"], document["state"]) == ("one", "slow", "scheduled")
    shown = console.json("show", document["id"])
    assert shown["request"]["body"] == "what=good&n=1&n=2"
    assert shown["request"]["headers"]["X-Kind"] == "mail"
    (task,) = console.bench.tasks.find(name="one")
    assert 3590 < (task.eta - task.created_at).total_seconds() < 3610


def test_add_takes_bodies(console: Console) -> None:
    """A JSON document, a text, or what comes on stdin."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    result = console.run(
        "add", "/work", "--json-body", "-", "--eta", soon, answer='{"what": "good"}'
    )
    assert result.stdout.startswith("Added task ")
    assert json.loads(console.json("show", result.stdout.split()[2])["request"]["body"]) == {
        "what": "good"
    }
    other = console.run("add", "/work", "--body", "a text", "--method", "POST").stdout.split()[2]
    assert console.json("show", other)["request"]["body"] == "a text"


def test_a_second_task_of_a_key_is_told(console: Console) -> None:
    """The first stays, and the message names it."""
    first = console.run("add", "/work", "--unique-key", "ana", "--in", "60").stdout.split()[2]
    assert (
        console.run("add", "/work", "--unique-key", "ana").stdout
        == f"Not added: task {first} already has this unique key.\n"
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["/work", "-p", "what"], 2),
        (["/work", "-H", "X-Kind"], 2),
        (["/work", "--json-body", "{"], 2),
        (["/work", "--json-body", "[" * 100_000], 2),
        (["/work", "--in", "soon"], 2),
        (["/work", "--eta", "2031-01-01T00:00:00"], 2),
        (["/work", "--queue", "none"], 3),
        (["/nowhere"], 1),
    ],
)
def test_mistakes_are_told_and_nothing_is_stored(
    console: Console, words: list[str], code: int
) -> None:
    """With their exit codes."""
    assert console.run("add", *words).exit_code == code
    assert console.bench.tasks.find() == []


def test_add_can_wait_for_the_end(console: Console) -> None:
    """Exit code 0 when it succeeded, 1 when it is dead, with what came back."""
    with dispatching(console):
        good = console.run("add", "/work", "-p", "what=good", "--wait", "20")
        assert good.exit_code == 0
        assert " succeeded with 200 in " in good.stdout
        bad = console.run("add", "/work", "-p", "what=bad", "--wait")
        assert bad.exit_code == 1
        assert " dead with 422 in " in bad.stdout


def test_waiting_ends_when_its_time_is_over(console: Console) -> None:
    """Exit code 75; the task goes on."""
    with dispatching(console):
        result = console.run("add", "/work", "-p", "what=good", "--in", "1h", "--wait", "0.05")
    assert result.exit_code == 75
    assert [task.state for task in console.bench.tasks.find()] == [State.SCHEDULED]


def test_without_a_dispatcher_nothing_is_waited_for(console: Console) -> None:
    """Exit code 69, at once; the task stays."""
    result = console.run("add", "/work", "-p", "what=good", "--wait")
    assert result.exit_code == 69
    assert "no dispatcher is alive" in result.stderr
    assert len(console.bench.tasks.find()) == 1
