"""Schedules through an application: declared in code and in cron.yaml, operated, run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, request

from flask_taskqueue import (
    ConfigurationError,
    InvalidScheduleError,
    InvalidTaskError,
    InvalidTaskRetryOptionsError,
    InvalidUrlError,
    Schedule,
    State,
    TaskQueue,
    TaskSpec,
    UnknownQueueError,
    UnknownScheduleError,
)
from flask_taskqueue.core.times import to_micros
from tests.apps import Bench, bench, runtime_of
from tests.databases import TestDatabase
from tests.waiting import wait_until


@pytest.fixture
def clock(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application with schedules of each kind, and what ran."""
    with bench(sqlite_database.url, TASKQUEUE_HEADERS=("taskqueue", "appengine")) as one:
        seen: list[Any] = []
        one.app.extensions["seen"] = seen
        tasks = one.tasks

        @tasks.cron("every 5 minutes", description="keeps it tidy")
        @tasks.worker("/tidy")
        def tidy() -> None:
            seen.append(
                (
                    request.path,
                    request.headers["X-TaskQueue-Schedule"],
                    request.headers["X-AppEngine-Cron"],
                )
            )

        @tasks.cron("0 3 * * *", timezone="Europe/Berlin", queue="default")
        def nightly() -> None:
            seen.append("nightly")

        @tasks.task
        def report(kind: str) -> None:
            seen.append(kind)

        tasks.schedule(
            "reports", report, "every monday 09:00", {"kind": "weekly"}, overlap="allow", priority=3
        )
        tasks.schedule("plain", "/tidy", "@hourly", method="POST")
        yield one


def later(one: Bench, **by: float) -> None:
    """Let time pass as far as schedules go, then run what is due."""
    cron = one.runtime.cron
    cron.declare()
    cron.tick(datetime.now(UTC) + timedelta(**by))
    one.tasks.queue("default").run_now()
    one.tasks.drain()


def test_each_kind_of_declaration_runs(clock: Bench) -> None:
    """A worker, a plain function, a task function with arguments, a URL; the headers say it is
    cron.
    """
    later(clock, days=8)
    assert sorted(map(str, clock.app.extensions["seen"])) == [
        "('/tidy', 'plain', 'true')",
        "('/tidy', 'tidy', 'true')",
        "nightly",
        "weekly",
    ]
    found = {task.schedule: task for task in clock.tasks.find(state=State.SUCCEEDED)}
    assert found["reports"].priority == 3
    assert found["tidy"].eta > datetime.now(UTC)


def test_what_is_known_of_a_schedule(clock: Bench) -> None:
    """Its text, its next five runs, its last."""
    entries = {schedule.name: schedule for schedule in clock.tasks.schedules()}
    assert sorted(entries) == ["nightly", "plain", "reports", "tidy"]
    nightly = clock.tasks.get_schedule("nightly")
    assert (nightly.text, nightly.timezone, nightly.is_declared, nightly.fired_at) == (
        "0 3 * * *",
        "Europe/Berlin",
        True,
        None,
    )
    assert list(nightly.next_runs()) == Schedule.parse("0 3 * * *", "Europe/Berlin").next_runs(
        datetime.now(UTC)
    )
    assert entries["tidy"].description == "keeps it tidy"
    later(clock, minutes=6)
    assert clock.tasks.get_schedule("tidy").last_task_id is not None
    with pytest.raises(UnknownScheduleError):
        clock.tasks.get_schedule("none")


def test_pause_resume_and_run_now(clock: Bench) -> None:
    """A paused one can still be run by hand."""
    tidy = clock.tasks.get_schedule("tidy")
    assert tidy.pause(by="ana")
    assert not tidy.pause()
    paused = clock.tasks.get_schedule("tidy")
    assert (paused.is_paused, paused.paused_by, list(paused.next_runs())) == (True, "ana", [])
    later(clock, minutes=6)
    assert not [
        extension for extension in clock.app.extensions["seen"] if extension[1] == "tidy"
    ]  # the hour of another may be full
    task = tidy.run_now()
    assert (task.schedule, clock.run(task).state) == ("tidy", State.SUCCEEDED)
    assert tidy.resume()
    assert not tidy.resume()


def test_a_running_dispatcher_fires_on_time(clock: Bench) -> None:
    """Its timer is set for the next fire time."""
    runtime = clock.runtime
    runtime.cron.declare()
    soon = to_micros(datetime.now(UTC) + timedelta(seconds=0.3))
    schedule = runtime.store.database.tables.schedule
    runtime.store.transact(
        lambda connection: connection.execute(sa.update(schedule).values(next_at=soon))
    )
    runtime.start()
    try:
        wait_until(
            lambda: len(clock.app.extensions["seen"]) == 4, what="each schedule has run", timeout=4
        )
    finally:
        runtime.stop()
    for task in clock.tasks.find():
        assert task.first_tried_at is not None
        assert task.eta <= task.first_tried_at <= task.eta + timedelta(seconds=2)


def test_the_commands(clock: Bench) -> None:
    """list, run, pause, resume."""

    def invoke(*arguments: str) -> str:
        result = clock.app.test_cli_runner().invoke(args=["taskqueue", "cron", *arguments])
        assert result.exit_code == 0, result.output
        return str(result.output)

    assert invoke("pause", "tidy") == "Paused tidy.\n"
    assert "already" in invoke("pause", "tidy")
    table = invoke("list").splitlines()
    assert table[0].split() == ["NAME", "SCHEDULE", "TIME", "ZONE", "NEXT", "LAST"]
    assert "paused by" in table[-1]
    assert invoke("resume", "tidy") == "Resumed tidy.\n"
    assert "was not paused" in invoke("resume", "tidy")
    documents = {load["name"]: load for load in json.loads(invoke("list", "--json"))}
    assert len(documents["reports"]["next_runs"]) == 5
    assert invoke("run", "tidy").startswith("Added task ")
    failed = clock.app.test_cli_runner().invoke(args=["taskqueue", "cron", "run", "none"])
    assert (failed.exit_code, failed.output) == (3, "Error: there is no schedule 'none'\n")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schedule": "every 5 parsecs"}, "parsecs"),
        ({"schedule": "* * * *"}, "has five"),
        ({"schedule": "@daily", "timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"schedule": "@daily", "misfire": "sometimes"}, "misfire is 'sometimes'"),
        ({"schedule": "@daily", "overlap": "no"}, "overlap is 'no'"),
        ({"schedule": "@daily", "name": "x" * 101}, "1 to 100"),
        ({"schedule": "@daily", "eta": datetime.now(UTC)}, "'eta'"),
    ],
)
def test_a_malformed_schedule_is_refused_at_the_call(given: dict[str, Any], words: str) -> None:
    """With what is wrong."""
    with pytest.raises(InvalidScheduleError, match=words):
        TaskQueue().schedule(**{"name": "one", "url": "/x", **given})


def test_a_scheduled_function_takes_no_arguments() -> None:
    """There is nobody to give them; `schedule` has params."""

    def needy(kind: str) -> None: ...

    with pytest.raises(TypeError, match="kind"):
        TaskQueue().cron("@daily")(needy)


def test_two_schedules_of_one_name_are_refused() -> None:
    """The same one again is not: factories declare theirs each time."""
    tasks = TaskQueue()
    for _ in range(2):
        tasks.schedule("one", "/x", "@daily")
    with pytest.raises(InvalidScheduleError, match="two schedules named 'one'"):
        tasks.schedule("one", "/x", "@hourly")


def test_a_schedule_whose_task_cannot_be_made_is_left_out(
    clock: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and the others work."""
    clock.tasks.schedule("lost", "/nowhere", "@daily")
    clock.tasks.schedules()
    assert "lost" not in {schedule.name for schedule in clock.tasks.schedules()}
    assert [record.getMessage() for record in caplog.records if "lost" in record.getMessage()] == [
        "schedule lost is left out: no route of the application answers POST /nowhere"
    ]


def test_a_schedule_whose_task_cannot_be_made_yet_fires_once_it_can(clock: Bench) -> None:
    """Its queue is one that is added while the app runs; nobody has to start anything again."""
    clock.tasks.worker("/after", endpoint="after")(lambda: None)
    after = TaskSpec("/after", queue="later")
    clock.tasks.schedule("early", TaskSpec("/tidy", then=after), "@hourly")
    clock.tasks.schedules()
    later(clock, hours=2)
    assert "early" not in {schedule.name for schedule in clock.tasks.schedules()}
    clock.tasks.add_queue("later")
    later(clock, hours=4)
    later(clock, hours=6)
    assert [task.queue for task in clock.tasks.find(url="/after")] == ["later"]


def test_a_schedule_takes_a_task_that_was_made_before(clock: Bench) -> None:
    """As tasks.add() does: with its own arguments and options, so there are none beside it."""
    seen = clock.app.extensions["seen"]

    @clock.tasks.task
    def note(what: str) -> None:
        seen.append(what)

    made = note.options(priority=2).spec("noted")
    clock.tasks.schedule("made", made, "@yearly")
    task = clock.tasks.get_schedule("made").run_now()
    assert (clock.run(task).state, task.priority, seen) == (State.SUCCEEDED, 2, ["noted"])
    with pytest.raises(TypeError, match="the spec holds the params and the options"):
        clock.tasks.schedule("other", made, "@yearly", priority=3)


@pytest.mark.parametrize("url", [7, b"/tidy", print, ["/tidy"]])
def test_what_no_task_goes_to_is_refused_where_it_is_declared(clock: Bench, url: Any) -> None:
    """With the name of the schedule."""
    with pytest.raises(InvalidUrlError, match="schedule 'odd' is for"):
        clock.tasks.schedule("odd", url, "@daily")


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 99},
        {"method": "FETCH"},
        {"deadline": -1},
        {"retry": {"task_retry_limit": "x"}},
        {"concurrency_limit": 0},
        {"serial_key": "a", "concurrency_key": "b"},
        {"headers": {"a b": "c"}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_option_that_no_task_can_have_is_refused_where_it_is_declared(
    clock: Bench, options: dict[str, Any]
) -> None:
    """Not by a dispatcher, later on."""
    refused = InvalidTaskError, InvalidTaskRetryOptionsError
    with pytest.raises(refused):
        clock.tasks.schedule("odd", "/tidy", "@daily", **options)
    with pytest.raises(refused):
        clock.tasks.cron("@daily", **options)(clock.tasks.task(name="odd")(lambda: None))


def test_run_now_adds_the_task_that_the_code_declares(
    clock: Bench, sqlite_database: TestDatabase
) -> None:
    """Even while another release has stored its own."""
    later(clock, minutes=1)
    with bench(sqlite_database.url) as other:
        other.app.add_url_rule("/other", "other", lambda: "", methods=["POST"])
        other.tasks.schedule("plain", "/other", "@yearly")
        other.runtime.cron.tick()
        assert other.tasks.get_schedule("plain").text == "@yearly"
    with clock.app.app_context():
        plain = clock.tasks.get_schedule("plain")
        assert (plain.text, plain.run_now().url) == ("@yearly", "/tidy")


CRON_YAML = """\
cron:
- description: daily summary
  url: /tasks/summary?kind=day
  schedule: every 24 hours
- url: /tasks/summary?kind=day
  schedule: 1st monday of month 09:00
  timezone: Europe/Berlin
  retry_parameters:
    job_retry_limit: 2
"""
QUEUE_YAML = """\
queue:
- name: mail
  rate: 20/m
  max_concurrent_requests: 2
"""


def application(root: Path, **config: Any) -> tuple[Flask, TaskQueue]:
    """An application whose folder holds the files."""
    app = Flask("files", root_path=str(root), instance_path=str(root / "instance"))
    app.config.update(TESTING=True, SECRET_KEY="a secret for tests", **config)
    return app, TaskQueue(app)


def test_cron_yaml_and_queue_yaml_are_read(tmp_path: Path) -> None:
    """A GET of each URL, by an ordinary view, with the cron header."""
    (tmp_path / "cron.yaml").write_text(CRON_YAML)
    (tmp_path / "queue.yaml").write_text(QUEUE_YAML)
    app, tasks = application(
        tmp_path, TASKQUEUE_CRON_YAML="cron.yaml", TASKQUEUE_QUEUE_YAML="queue.yaml"
    )
    seen: list[str] = []

    @app.get("/tasks/summary")
    def summary() -> str:
        seen.append(request.headers["X-TaskQueue-Schedule"] + request.args["kind"])
        return "done"

    first, second = tasks.schedules()
    assert (first.name, first.text, first.description) == (
        "/tasks/summary?kind=day",
        "every 24 hours",
        "daily summary",
    )
    assert (second.name, second.timezone) == ("/tasks/summary?kind=day#2", "Europe/Berlin")
    task = first.run_now()
    tasks.drain()
    assert (tasks.get(task.id).state, seen) == (State.SUCCEEDED, ["/tasks/summary?kind=dayday"])
    mail = tasks.queue("mail").statistics()
    assert (mail.rate, mail.bucket_size, mail.max_concurrent) == (pytest.approx(1 / 3), 5, 2)
    runtime_of(app).store.database.close()


@pytest.mark.parametrize(
    ("files", "config", "words"),
    [
        (
            {},
            {"TASKQUEUE_CRON_YAML": "cron.yaml"},
            "TASKQUEUE_CRON_YAML: cron.yaml cannot be read from .*No such file",
        ),
        (
            {"cron.yaml": CRON_YAML.replace("24 hours", "24 horses")},
            {"TASKQUEUE_CRON_YAML": "cron.yaml"},
            "cron.yaml, line 2: .*horses",
        ),
        (
            {"cron.yaml": CRON_YAML.replace("retry_limit", "retries")},
            {"TASKQUEUE_CRON_YAML": "cron.yaml"},
            "cron.yaml, line 9.*job_retries",
        ),
        (
            {"queue.yaml": QUEUE_YAML.replace("20/m", "20/w")},
            {"TASKQUEUE_QUEUE_YAML": "queue.yaml"},
            "queue.yaml, line 3, rate: .*20/w",
        ),
        (
            {"queue.yaml": QUEUE_YAML},
            {"TASKQUEUE_QUEUE_YAML": "queue.yaml", "TASKQUEUE_QUEUES": {"mail": {}}},
            "leave it in one of them",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_at_the_start(
    tmp_path: Path, files: dict[str, str], config: dict[str, Any], words: str
) -> None:
    """By file, line and key; nothing is half set up."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        application(tmp_path, **config)


def test_schedules_are_added_while_the_app_runs(clock: Bench) -> None:
    """Functions and URLs, with their arguments; changed, and deleted, with what they added left."""
    tasks, seen = clock.tasks, clock.app.extensions["seen"]
    tasks.add_schedule("hot", "/tidy", "every 10 seconds")

    @tasks.task
    def note(what: str) -> None:
        seen.append(what)

    tasks.add_schedule("noted", note, "0 5 * * *", {"what": "early"}, timezone="Europe/Berlin")
    hot = tasks.get_schedule("hot")
    assert (hot.is_declared, hot.added_at is None, hot.timezone) == (False, False, "UTC")
    later(clock, days=2)
    assert "early" in seen
    noted = tasks.get_schedule("noted")
    noted.change("0 6 * * *", task=note.spec("late"), description="no notes")
    noted.change(description="")
    assert not tasks.get_schedule("noted").description
    noted.change(description="notes")
    changed = tasks.get_schedule("noted")
    assert (changed.text, changed.timezone, changed.description) == (
        "0 6 * * *",
        "Europe/Berlin",
        "notes",
    )
    changed.run_now()
    tasks.drain()
    assert seen[-1] == "late"
    changed.delete()
    with pytest.raises(UnknownScheduleError):
        tasks.get_schedule("noted")
    with pytest.raises(UnknownScheduleError):
        changed.change("@daily")
    assert len([task for task in tasks.find() if task.schedule == "noted"]) == 2


def test_what_cannot_be_added_is_refused(clock: Bench) -> None:
    """Names that code declares, bad texts, tasks that cannot be; nothing is stored."""
    tasks, before = clock.tasks, len(clock.tasks.schedules())
    for arguments, options, words in (
        (("tidy", "/tidy", "@daily"), {}, "schedule 'tidy' is declared in the code"),
        (("hot", "/tidy", "at times"), {}, "at times"),
        (("hot", "/tidy", "@daily"), {"timezone": "Mars"}, "Mars"),
        (("hot", "/tidy", "@daily"), {"misfire": "never"}, "never"),
        (("", "/tidy", "@daily"), {}, "schedule name"),
    ):
        with pytest.raises(InvalidScheduleError, match=words):
            tasks.add_schedule(*arguments, **options)
    with pytest.raises(InvalidUrlError):
        tasks.add_schedule("hot", "/nowhere", "@daily")
    with pytest.raises(UnknownQueueError):
        tasks.add_schedule("hot", "/tidy", "@daily", queue="none")
    for change in (lambda one: one.change("@daily"), lambda one: one.delete()):
        with pytest.raises(InvalidScheduleError, match="is declared in the code"):
            change(tasks.get_schedule("tidy"))
    assert len(tasks.schedules()) == before


def test_an_added_schedule_joins_the_session(clock: Bench) -> None:
    """Rolled back, it never was."""
    clock.db.session.add(clock.Counter(id=7, count=0))
    clock.tasks.add_schedule("hot", "/tidy", "@daily")
    clock.db.session.rollback()
    with pytest.raises(UnknownScheduleError):
        clock.tasks.get_schedule("hot")
