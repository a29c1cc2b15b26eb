"""What a task waits for: each cause on each database, made for real."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from flask_taskqueue import UnknownTaskError
from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.states import State
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import AttemptResult
from tests.circuits import open_circuit
from tests.databases import TestDatabase
from tests.diagnosis.conftest import Ward, opened

LONG_AGO = 12 * 86_400 * SECOND
"""So long that it is told in whole days, however slow the test is."""


def test_before_its_eta_a_task_is_not_due(ward: Ward) -> None:
    """Whatever else is wrong; what else is in its way comes after."""
    task = ward.add(countdown="12d")
    ward.pause(by="ana")
    found = ward.why(task)
    assert (found.code, found.until, found.also) == (
        "not_due",
        task.due_at,
        ("no_dispatcher", "paused"),
    )
    assert "(in 11 d)" in found.sentence or "(in 12 d)" in found.sentence


def test_a_failed_attempt_is_followed_by_another(ward: Ward) -> None:
    """The sentence says what failed, and when it is tried again."""
    task = ward.bench.run(ward.add("later", retry={"min_backoff_seconds": 100}))
    found = ward.why(task)
    assert (found.code, found.until) == ("retry", task.due_at)
    assert found.sentence.startswith("Attempt 1 failed: ValueError: not yet. It is tried again at ")


def test_without_a_dispatcher_nothing_runs(ward: Ward) -> None:
    """None was ever seen, or the last one long ago; a paused queue matters only after that."""
    task = ward.add()
    assert (
        ward.why(task).sentence
        == "No dispatcher is alive; none is known. Start one: flask taskqueue run"
    )
    ward.pause()
    ward.see()
    dispatcher = ward.store.database.tables.dispatcher
    ward.store.transact(
        lambda connection: connection.execute(
            dispatcher.update().values(seen_at=ward.now() - LONG_AGO)
        )
    )
    found = ward.why(task)
    assert (found.code, found.also) == ("no_dispatcher", ("paused",))
    assert "the last, web1:4711, was seen 12 d ago" in found.sentence


def test_every_cause_is_told(ward: Ward) -> None:
    """That which matters first before the others; also that no route answers."""
    task = ward.add()
    ward.pause(by="ana")
    ward.change(task, url="/gone?token=x")
    found = ward.why(task)
    assert (found.code, found.also) == ("no_dispatcher", ("paused", "no_route"))
    assert [sentence.split(" ")[0] for sentence in found.sentences] == ["No", "Queue", "No"]
    assert (
        found.sentences[2]
        == "No route of this release answers POST /gone. Deploy the release that has it, or "
        "delete the task."
    )
    ward.change(task, url="/work", method="PUT")
    assert "PUT /work" in ward.why(task).sentences[2]
    ward.change(task, url="https://other.example/gone")
    assert ward.why(task).also == ("paused",)


def test_a_dispatcher_of_other_queues_does_not_take_it(ward: Ward) -> None:
    """It was told so by ``--queues``."""
    ward.see(queues=["mail", "single"])
    found = ward.why(ward.add())
    assert found.code == "queue_not_taken"
    assert (
        "queue default: those that are alive were told to take only from mail, single"
        in found.sentence
    )
    assert ward.why(ward.add(queue="mail")).code == "turn"


def test_a_paused_queue_says_by_whom(ward: Ward) -> None:
    """And since when; an empty bucket matters only when it is resumed."""
    ward.see()
    first, task = ward.add(queue="mail"), ward.add(queue="mail")
    assert ward.claim("mail") == [first.id]
    ward.pause("mail", by="ana")
    found = ward.why(task)
    assert (found.code, found.also) == ("paused", ("rate",))
    assert found.sentence.startswith("Queue mail is paused by ana since 2")
    assert found.sentence.endswith("Resume it: flask taskqueue resume mail")


def test_an_empty_bucket_says_until_when(ward: Ward) -> None:
    """A rate of 0 never fills it."""
    ward.see()
    _, task = ward.add(queue="mail"), ward.add(queue="mail")
    ward.claim("mail")
    found = ward.why(task)
    assert found.code == "rate"
    assert found.until is not None
    assert timedelta(minutes=50) < found.until - datetime.now(UTC) < timedelta(minutes=61)
    assert "queue mail, 1/h, lets nothing start before" in found.sentence
    never = ward.why(ward.add(queue="stopped"))
    assert (never.code, never.until) == ("rate", None)
    assert "rate of queue stopped is 0" in never.sentence


def test_a_receiver_that_asked_for_less_is_named(ward: Ward) -> None:
    """What it said, since when, and when its task is looked at again: also before it was
    claimed and put off.
    """
    ward.see()
    first, task = ward.add(), ward.add()
    ward.claim()
    outcome = Outcome(State.SCHEDULED, "failure", 503, "busy", delay=60.0, retry_after=30.0)
    with ward.store.reading() as connection:
        record = ward.store.tasks.get(connection, first.id)
    ward.store.transact(
        lambda connection: ward.store.recording.record(
            connection, [AttemptResult(record, outcome, 0.1)]
        )
    )
    slowdown = ward.store.database.tables.slowdown
    far = ward.now() + 3600 * SECOND
    ward.store.transact(
        lambda connection: connection.execute(slowdown.update().values(empty_at=far, over_at=far))
    )
    for found in (ward.why(task), ward.claim() or ward.why(task)):
        assert found.code == "slowed"
        assert (
            "Its receiver, the app's own routes in queue default, asked for less (503, "
            "Retry-After 30 s) and is slowed since 2" in found.sentence
        )
        assert found.until is not None
        assert timedelta(minutes=50) < found.until - datetime.now(UTC) < timedelta(minutes=70)
    assert ward.why(first).also == ("slowed",)
    assert ward.why(ward.add(queue="single")).code == "turn"


def test_a_receiver_that_keeps_failing_is_named(ward: Ward) -> None:
    """With what failed, the next probe and the command that closes its circuit; a task that is not
    due yet says that first, and one for another host nothing of it.
    """
    ward.see()
    open_circuit(ward.store, "a.example:443")
    tasks = ward.bench.tasks
    task, later = (
        tasks.add("/work", {"what": "good"}, target="https://a.example", countdown=seconds)
        for seconds in (0, 3600)
    )
    found = ward.why(task)
    assert found.code == "circuit"
    assert "Its receiver, a.example:443, has failed 5 times in a row since 2" in found.sentence
    assert "most recently with: the connection failed. Its circuit is open" in found.sentence
    assert found.sentence.endswith("flask taskqueue close-circuit a.example:443")
    assert found.until is not None
    assert timedelta(minutes=5) < found.until - datetime.now(UTC) < timedelta(minutes=11)
    assert ward.why(later).code == "not_due"
    assert ward.why(tasks.add("/work", {"what": "good"}, target="https://b.example")).code == "turn"


def test_as_many_as_may_run_are_named(ward: Ward) -> None:
    """Those of the queue that run now."""
    ward.see()
    first, task = ward.add(queue="single"), ward.add(queue="single")
    assert ward.claim("single", 2) == [first.id]
    found = ward.why(task)
    assert (found.code, found.holders) == ("max_concurrent", (first.id,))
    assert f"at most 1 task at a time, and now {first.id}" in found.sentence


def test_the_holder_of_a_key_is_named(ward: Ward) -> None:
    """Of a serial key the one before in line, of a concurrency key those that run; parked or
    not yet.
    """
    ward.see()
    first, task = ward.add(serial_key="ana"), ward.add(serial_key="ana")
    waiting = ward.why(task)
    assert (waiting.code, waiting.holders) == ("key", (first.id,))
    assert (
        waiting.sentence
        == f"Its serial key 'ana' is held by task {first.id}, which comes first and is scheduled."
    )
    assert ward.claim(most=2) == [first.id]
    assert ward.why(task).sentence.endswith(f"task {first.id}, which runs.")
    one, two = ward.add(concurrency_key="printer"), ward.add(concurrency_key="printer")
    assert ward.why(two).code == "turn"
    assert ward.claim(most=2) == [one.id]
    found = ward.why(two)
    assert (found.code, found.holders) == ("key", (one.id,))
    assert "concurrency key 'printer' is held by task" in found.sentence


def test_a_task_waits_for_the_rate_of_its_key(database: TestDatabase) -> None:
    """The first in line until its token is there, the next for one more; other keys do not wait."""
    with opened(database, {"api": {"rate_per_key": "1/m", "bucket_size_per_key": 1}}) as ward:
        ward.see()
        first, second, third = (ward.add(queue="api", rate_key="ana") for _ in range(3))
        assert ward.why(second).code == "turn"
        assert ward.claim("api", 3) == [first.id]
        found, after = ward.why(second), ward.why(third)
        assert (found.code, after.code) == ("rate_per_key", "rate_per_key")
        assert found.sentence.startswith(
            "The rate of its key 'ana', 1/m in queue api, lets it start no earlier than "
        )
        assert after.sentence.endswith("; 1 task of this key before it.")
        due_at = ward.bench.tasks.get(second.id).due_at
        assert due_at is not None
        assert found.until is not None
        assert after.until is not None
        assert timedelta(0) <= found.until - due_at < timedelta(milliseconds=1)
        assert timedelta(seconds=50) < after.until - found.until < timedelta(seconds=70)
        assert ward.why(ward.add(queue="api", rate_key="bo")).code == "turn"
        ward.bench.tasks.queue("api").configure(rate_per_key="0")
        assert ward.claim("api", 3) == []
        assert "configure api --rate-per-key 10/m" in ward.why(second).sentence


def test_a_deleted_task_that_runs_is_named(ward: Ward) -> None:
    """As deleted, with where it runs on; and as the holder of its key, and of its queue's place."""
    ward.see()
    first = ward.add(serial_key="a")
    ward.claim()
    second = ward.add(serial_key="a")
    assert ward.claim() == []
    first.delete()
    assert "its handler still runs, in web1:4711" in ward.why(first).sentence
    found = ward.why(second)
    assert (found.code, found.holders) == ("key", (first.id,))
    assert "is cancelled, and whose handler still runs" in found.sentence
    ward.bench.tasks.queue("default").configure(max_concurrent=1)
    found = ward.why(ward.add())
    assert (found.code, found.holders) == ("max_concurrent", (first.id,))


def test_a_task_waits_behind_one_whose_process_died_twice(ward: Ward) -> None:
    """Until that one has been tried alone, and shown that it does not kill the next process
    too. After one crash nothing waits.
    """
    ward.see()
    suspect = ward.add()
    assert ward.claim() == [suspect.id]
    task = ward.add()
    ward.change(suspect, due_at=ward.now() - SECOND)
    assert ward.why(task).code == "turn"
    assert "takes the task over" in ward.why(suspect).sentence
    ward.change(suspect, crashes=1)
    found = ward.why(task)
    assert (found.code, found.holders) == ("suspect", (suspect.id,))
    assert "tries it alone" in ward.why(suspect).sentence
    ward.change(
        suspect,
        due_at=ward.now() + 30 * SECOND,
        crashes=2,
        last_reason="crash",
        started_at=ward.now() - SECOND,
    )
    found = ward.why(task)
    assert (found.code, found.holders) == ("suspect", (suspect.id,))
    assert "runs alone until" in found.sentence
    ward.see("two")
    assert ward.why(task).code == "turn"


def test_a_lease_that_ran_out_is_said_so(ward: Ward) -> None:
    """The dispatcher that died, and that the next one takes over; without one that matters
    first.
    """
    ward.see()
    task = ward.add()
    ward.claim()
    ward.change(task, due_at=ward.now() - LONG_AGO)
    found = ward.why(task)
    assert found.code == "lease_lost"
    assert "The lease of web1:4711 ran out 12 d ago" in found.sentence
    ward.pause()
    assert ward.why(task).code == "paused"


def test_a_lease_that_was_renewed_beside_its_task_lasts(ward: Ward) -> None:
    """As long as the renewal says."""
    ward.see()
    task = ward.add()
    ward.claim()
    with ward.store.reading() as connection:
        record = ward.store.tasks.get(connection, task.id)
    renewals, lease = ward.store.leases.renewals, (record.id, str(record.lease_id))
    ward.store.transact(lambda connection: renewals.note(connection, [lease], 60))
    ward.change(task, due_at=ward.now() - 5 * SECOND)
    found = ward.why(task)
    assert (found.code, found.until) == ("running", ward.bench.tasks.get(task.id).due_at)
    assert found.until is not None
    assert found.until > datetime.now(UTC)


def test_a_running_task_names_its_process(ward: Ward) -> None:
    """And until when its lease lasts."""
    ward.see()
    task = ward.add()
    ward.claim()
    found = ward.why(task)
    assert (found.code, found.until) == ("running", ward.bench.tasks.get(task.id).due_at)
    assert "in web1:4711" in found.sentence
    assert "web1:4711, which reported " in found.sentence


def test_a_process_that_does_not_report_is_not_said_to_run_anything(ward: Ward) -> None:
    """As after a kill, before the lease ends: since when it is silent, and when the task is
    attempted again.
    """
    ward.see()
    task = ward.add()
    ward.claim()
    dispatcher = ward.store.database.tables.dispatcher
    ward.store.transact(
        lambda connection: connection.execute(
            dispatcher.update().values(seen_at=ward.now() - LONG_AGO)
        )
    )
    found = ward.why(task)
    assert (found.code, found.until) == ("silent", ward.bench.tasks.get(task.id).due_at)
    assert "Attempt 1 ran in web1:4711, which has not reported since 2" in found.sentence
    assert "(12 d ago)" in found.sentence
    assert found.sentence.endswith("and the task is attempted again.")


def test_busy_dispatchers_are_counted(ward: Ward) -> None:
    """With what is in front of the task."""
    ward.see(concurrency=2)
    for _ in range(2):
        ward.add()
    ward.claim(most=2)
    _, task = ward.add(), ward.add()
    found = ward.why(task)
    assert found.code == "busy"
    assert (
        "web1:4711, is busy with 2 tasks, as many as may run; 1 task of queue default before it"
        in found.sentence
    )


def test_otherwise_it_is_next(ward: Ward) -> None:
    """Nothing is in its way."""
    ward.see()
    found = ward.why(ward.add())
    assert (found.code, found.also, found.holders) == ("turn", (), ())


def test_what_has_ended_says_how(ward: Ward) -> None:
    """Succeeded, dead with the reason, deleted, expired, replaced."""
    assert ward.why(ward.bench.run(ward.add())).sentence.endswith("with status 200, at attempt 1.")
    dead = ward.bench.run(ward.add("bad"))
    found = ward.why(dead)
    assert found.code == "dead"
    assert (
        "after 1 attempt (permanent): the address does not exist. When that is mended: "
        f"flask taskqueue requeue {dead.id}" in found.sentence
    )
    deleted = ward.add(countdown=60)
    deleted.delete()
    assert ward.why(deleted).code == "cancelled"
    late = ward.add(expires=60)
    ward.change(late, expires_at=1)
    assert ward.why(ward.bench.run(late)).code == "expired"
    first = ward.add(unique_key="k", countdown=60)
    ward.add(unique_key="k", on_conflict="replace")
    assert ward.why(first).code == "replaced"


def test_nobody_knows_why_of_no_task(ward: Ward) -> None:
    """An id that there is not is an error."""
    with pytest.raises(UnknownTaskError, match="nobody"):
        ward.bench.tasks.why("nobody")


def test_the_command_prints_the_sentence(ward: Ward) -> None:
    """Or the whole as JSON."""
    runner = ward.bench.app.test_cli_runner()
    task = ward.add(countdown=3600)
    found = ward.why(task)
    first, second = runner.invoke(args=["taskqueue", "why", task.id]).output.splitlines()
    assert first.startswith("It is not due until 2")
    assert second.startswith("No dispatcher is alive")
    document = json.loads(runner.invoke(args=["taskqueue", "why", task.id, "--json"]).output)
    assert found.until is not None
    assert document == {
        "id": task.id,
        "code": "not_due",
        "sentence": document["sentence"],
        "until": found.until.isoformat().replace("+00:00", "Z"),
        "holders": [],
        "also": ["no_dispatcher"],
        "others": [
            {
                "code": "no_dispatcher",
                "sentence": "No dispatcher is alive; none is known. Start one: flask taskqueue run",
                "until": None,
                "holders": [],
                "others": [],
            }
        ],
    }
