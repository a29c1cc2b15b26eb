"""Commands on tasks: list, show, why, requeue, run-now, delete."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import click
import pytest
from cryptography.fernet import Fernet

from tests.apps import bench
from tests.cli.conftest import Console
from tests.databases import TestDatabase


def test_list_shows_what_fits(console: Console) -> None:
    """The newest first, in columns; how many is said beside them."""
    first, second = console.add(), console.add("bad")
    console.bench.tasks.drain()
    result = console.run("list")
    head, *rows = result.stdout.splitlines()
    assert head.split()[:5] == ["ID", "QUEUE", "URL", "STATE", "ATTEMPTS"]
    assert [row.split()[0] for row in rows] == [second.id, first.id]
    assert result.stderr == f"2 tasks. Details: flask taskqueue show {second.id}\n"
    found = console.run(
        "list",
        "--state",
        "dead",
        "--status",
        "4xx",
        "--since",
        "1h",
        "--search",
        "ADDRESS",
        "--queue",
        "mail",
    ).stdout
    assert [row.split()[0] for row in found.splitlines()[1:]] == [second.id]
    assert re.search(r"\d s ago|now|\d+ ms ago", found)
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", console.run("list", "--utc").stdout)


def test_list_says_when_there_are_more(console: Console) -> None:
    """Than it shows, whatever it is printed as."""
    tasks = [console.add() for _ in range(3)]
    newest = tasks[-1].id
    result = console.run("list", "--limit", "1")
    assert [row.split()[0] for row in result.stdout.splitlines()[1:]] == [newest]
    assert result.stderr.startswith("There are more; these are the newest 1 (--limit).\n")
    assert len(json.loads(console.run("list", "--limit", "2", "--json").stdout)) == 2
    assert "There are more" not in console.run("list", "--limit", "3").stderr


def test_list_as_json_has_stable_keys(console: Console) -> None:
    """Each field of the task; as a stream one line a task."""
    task = console.bench.run(console.add(name="one", countdown=0, serial_key="ana"))
    (document,) = console.json("list")
    assert (document["id"], document["name"], document["state"], document["serial_key"]) == (
        task.id,
        "one",
        "succeeded",
        "ana",
    )
    assert document["created_at"].endswith("Z")
    assert set(document) >= {
        "queue",
        "url",
        "method",
        "eta",
        "due_at",
        "attempts",
        "last_status",
        "last_reason",
        "last_error",
        "progress",
    }
    lines = console.run("list", "--jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [document]


def test_an_empty_list_is_no_error(console: Console) -> None:
    """It says so on stderr, and as JSON it is an empty list."""
    result = console.run("list", "--state", "dead")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No tasks match.\n")
    assert console.json("list", "--state", "dead") == []


def test_a_queue_that_there_is_not_is_told(console: Console) -> None:
    """Where nothing matches, with those that there are."""
    told = "No tasks match. There is no queue 'mial'; there are default, mail, slow.\n"
    assert console.run("list", "--queue", "mial").stderr == told
    assert console.run("requeue", "--all", "--queue", "mial").stderr == told
    assert console.run("list", "--queue", "mail").stderr == "No tasks match.\n"


def test_list_says_when_it_has_not_looked_at_every_task(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a large table; with --deep it looks at all."""
    first = console.add("bad")
    console.bench.tasks.drain()
    console.add()
    monkeypatch.setattr("flask_taskqueue.store.tasks.search.SEARCHED", 1)
    result = console.run("list", "--status", "4xx")
    assert (
        result.stderr == "Only the newest 100,000 tasks were searched; --deep searches all.\nNo "
        "tasks match.\n"
    )
    assert [one["id"] for one in console.json("list", "--status", "4xx", "--deep")] == [first.id]


@pytest.mark.parametrize(
    "words",
    [
        ["--status", "6xx"],
        ["--since", "soon"],
        ["--state", "failed"],
        ["--limit", "0"],
        ["--limit", "9" * 20],
        ["--attempts-at-least", "9" * 20],
    ],
)
def test_what_a_filter_cannot_mean_is_a_usage_error(console: Console, words: list[str]) -> None:
    """Exit code 2, as click has it."""
    assert console.run("list", *words).exit_code == 2


def test_the_beginning_of_an_id_is_enough(console: Console) -> None:
    """In either case; if several begin so, they are named; if none does the exit code is 3."""
    first, second = console.add(), console.add()
    assert first.id in console.run("show", first.id.lower()[:25]).stdout
    ambiguous = console.run("show", first.id[:3])
    assert ambiguous.exit_code == 2
    assert f"{first.id}, {second.id}" in ambiguous.stderr
    for unknown in ("ZZZZ", "%", "Ünknown"):
        assert console.run("show", unknown).exit_code == 3


def test_show_tells_everything(console: Console) -> None:
    """The request, the state, why; with its attempts if they are asked for."""
    task = console.bench.run(
        console.add("bad", name="welcome", headers={"X-Kind": "mail"}, unique_key="ana")
    )
    lines = dict(
        line.split(maxsplit=1)
        for line in console.run("show", task.id).stdout.splitlines()
        if "  " in line
    )
    assert lines["task"] == task.id
    assert lines["request"] == "POST /work"
    assert lines["state"] == "dead"
    assert lines["body"] == "what=bad"
    assert "gave up" in lines["why"]
    attempts = console.run("show", task.id, "--attempts").stdout
    assert re.search(
        r"^ +1 +\d{4}-.*422 +permanent +\w+ +the address does not exist$", attempts, re.MULTILINE
    )
    document = console.json("show", task.id, "--attempts")
    assert document["request"]["body"] == "what=bad"
    assert document["request"]["headers"]["X-Kind"] == "mail"
    assert [(one["number"], one["status"], one["reason"]) for one in document["tried"]] == [
        (1, 422, "permanent")
    ]
    assert "tried" not in console.json("show", task.id)


def test_show_tells_what_is_not_encrypted_if_the_key_is_lost(
    sqlite_database: TestDatabase,
) -> None:
    """State, attempts and error, and why the rest cannot be shown; half a document is refused."""
    for _ in range(2):
        keys = [Fernet.generate_key().decode()]
        with bench(sqlite_database.url, TASKQUEUE_ENCRYPTION_KEYS=keys) as one:
            console = Console(one)
            if not (found := one.tasks.find()):

                @one.tasks.worker("/bad")
                def bad() -> None:
                    raise ValueError("no paper")

                one.tasks.add("/bad", {"what": "a secret"})
                one.tasks.drain()
                continue
            shown = console.run("show", found[0].id, "--attempts")
            assert shown.exit_code == 0
            assert "ValueError: no paper" in shown.stdout
            assert shown.stdout.count("cannot be shown: it is encrypted by key") == 2
            for form in ("--json", "--curl"):
                assert console.run("show", found[0].id, form).exit_code == 1


def test_show_as_curl_is_one_command(console: Console) -> None:
    """That a shell reads as it was meant."""
    task = console.bench.tasks.add(
        "/work", payload=b"it's \xc3\xa9", headers={"Content-Type": "text/plain", "X-Quote": "a'b"}
    )
    result = console.run("show", task.id, "--curl")
    words = shlex.split(result.stdout)
    assert words[:4] == ["curl", "-X", "POST", "http://127.0.0.1:5000/work"]
    assert "X-Quote: a'b" in words
    assert words[-1] == "it's é"
    assert "403" in result.stderr


def test_requeue_schedules_a_dead_task_again(console: Console) -> None:
    """Named by its id; one that is not dead is told, and the exit code is 1."""
    dead, waiting = console.bench.run(console.add("bad")), console.add(countdown=60)
    result = console.run("requeue", dead.id)
    assert (result.exit_code, result.stdout) == (0, "Requeued 1 task.\n")
    assert console.state(dead) == "scheduled"
    result = console.run("requeue", waiting.id)
    assert (result.exit_code, result.stdout) == (1, "Requeued 0 tasks.\n")
    assert "only a dead task can be" in result.stderr


def test_retry_still_requeues_and_says_that_it_is_deprecated(console: Console) -> None:
    """Under its former name, with the same options; stdout is that of requeue, help hides it."""
    first, second = [console.bench.run(console.add("bad")) for _ in range(2)]
    result = console.run("retry", first.id)
    assert (result.exit_code, result.stdout) == (0, "Requeued 1 task.\n")
    assert result.stderr == (
        "Deprecated: flask taskqueue retry is now flask taskqueue requeue; "
        "the next release drops the old name.\n"
    )
    document = console.json("retry", "--state", "dead", "--all", "--yes")
    assert document == {"action": "requeue", "dry_run": False, "matched": 1, "changed": 1}
    assert console.state(first) == console.state(second) == "scheduled"
    assert console.run("retry", first.id).exit_code == 1
    shown = console.run("--help").stdout
    assert "requeue" in shown
    assert "retry" not in shown


def test_everything_that_matches_is_asked_for_first(console: Console) -> None:
    """With the count; no changes nothing, and ends with 1."""
    for _ in range(3):
        console.bench.run(console.add("bad"))
    console.bench.run(console.add("bad", queue="slow"))
    asked = console.run("requeue", "--state", "dead", "--queue", "mail", "--all", answer="n\n")
    assert "This will requeue 3 tasks. Continue? [y/N]" in asked.stderr
    assert asked.exit_code == 1
    assert console.json("requeue", "--all", "--dry-run") == {
        "action": "requeue",
        "dry_run": True,
        "matched": 4,
        "changed": 0,
    }
    assert console.run("requeue", "--all", "--dry-run").stdout == "Would requeue 4 tasks.\n"
    assert (
        console.run("requeue", "--queue", "mail", "--all", answer="y\n").stdout
        == "Requeued 3 tasks.\n"
    )
    assert console.run("requeue", "--all", "--yes").stdout == "Requeued 1 task.\n"
    nothing = console.run("requeue", "--all", "--yes")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "No tasks match.\n")


@pytest.mark.parametrize("words", [["delete", "--all"], ["purge", "mail"]])
def test_what_is_added_while_it_asks_is_left_alone(
    console: Console, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """It changes no more than it has counted."""
    tasks = [console.add(countdown=60)]

    def answer(*_: Any, **__: Any) -> bool:
        tasks.append(console.add(countdown=60))
        return True

    monkeypatch.setattr("click.confirm", answer)
    assert console.run(*words).exit_code == 0
    assert [console.state(task) for task in tasks] == ["cancelled", "scheduled"]


def test_a_dry_run_counts_what_would_be_changed(console: Console) -> None:
    """Of the tasks that are named, only those in a state that the command changes."""
    dead = console.bench.run(console.add("bad"))
    waiting = console.add(countdown=60)
    ids = (dead.id, waiting.id)
    for command in ("requeue", "run-now", "delete"):
        assert console.json(command, *ids, "--dry-run")["matched"] == 1, command
    assert console.run("requeue", waiting.id, "--dry-run").stderr == "No tasks match.\n"
    assert [console.state(task) for task in (dead, waiting)] == ["dead", "scheduled"]


def test_more_than_fit_into_one_transaction_are_changed(console: Console) -> None:
    """In several, with the whole number told."""
    console.bench.tasks.add_many(("/work", {"what": str(number)}) for number in range(1100))
    assert (
        console.run("delete", "--url", "/work", "--all", "--yes").stdout == "Deleted 1,100 tasks.\n"
    )
    assert console.json("list", "--state", "scheduled") == []


def test_run_now_makes_tasks_due(console: Console) -> None:
    """One by its id, or each that is scheduled for later."""
    first, second = console.add(countdown=3600), console.add(countdown=3600)
    assert console.run("run-now", first.id).stdout == "1 task will run now.\n"
    assert console.run("run-now", "--all", "--yes").stdout == "1 task will run now.\n"
    console.bench.tasks.drain()
    assert console.state(first) == console.state(second) == "succeeded"


def test_delete_cancels_tasks(console: Console) -> None:
    """One that has ended already is told."""
    task = console.add(countdown=3600)
    assert console.run("delete", task.id).stdout == "Deleted 1 task.\n"
    assert console.state(task) == "cancelled"
    again = console.run("delete", task.id)
    assert (again.exit_code, again.stderr) == (1, f"task {task.id} had already ended.\n")


@pytest.mark.parametrize(
    "words", [[], ["--queue", "mail"], ["01", "--all"], ["01", "--queue", "mail"]]
)
def test_it_must_be_clear_which_tasks_are_meant(console: Console, words: list[str]) -> None:
    """Ids, or filters with --all: never everything by mistake."""
    task = console.add(countdown=60)
    result = console.run("delete", *[task.id if word == "01" else word for word in words])
    assert result.exit_code == 2
    assert console.state(task) == "scheduled"


def test_an_unreachable_database_has_its_exit_code(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """69, for those who start things in order."""
    from flask_taskqueue import TransientError

    def refuse(*_: object) -> None:
        raise TransientError("the database cannot be reached: OperationalError")

    monkeypatch.setattr("flask_taskqueue.store.tasks.search.Search.look", refuse)
    result = console.run("list")
    assert (result.exit_code, result.stderr) == (
        69,
        "Error: the database cannot be reached: OperationalError\n",
    )


def test_ctrl_c_has_its_exit_code(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """130, while it works and while it asks."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def asked(*_: object, **__: object) -> None:
        try:
            interrupt()
        except KeyboardInterrupt:
            raise click.Abort from None  # as click does

    console.add()
    monkeypatch.setattr("flask_taskqueue.cli.changes.confirm", asked)
    assert console.run("delete", "--all").exit_code == 130
    monkeypatch.setattr("flask_taskqueue.store.tasks.search.Search.look", interrupt)
    assert console.run("list").exit_code == 130


def test_colour_is_for_terminals(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """And NO_COLOR turns it off there too."""
    console.bench.run(console.add("bad"))
    runner = console.bench.app.test_cli_runner()
    assert "\x1b[31m" in runner.invoke(args=["taskqueue", "list"], color=True).stdout
    assert "\x1b" not in console.run("list").stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in runner.invoke(args=["taskqueue", "list"], color=True).stdout
