"""Queues through an application: operations, lists, batches, keys, results, commands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flask_taskqueue import (
    BadTaskStateError,
    BadTransactionStateError,
    ConfigurationError,
    DuplicateTaskNameError,
    InvalidKeyError,
    InvalidTaskError,
    PermanentFailure,
    State,
    TaskAlreadyExistsError,
    TaskQueue,
    TaskSpec,
    TooManyTasksError,
    UnknownBatchError,
    UnknownQueueError,
    current_task,
)
from flask_taskqueue.core.tasks.request import MAX_NAME
from tests.apps import Bench, bench
from tests.databases import TestDatabase

QUEUES: dict[str, Any] = {
    "mail": {"rate": "20/m", "bucket_size": 3, "priority": 4, "tombstone_ttl": "1h"},
    "slow": {"max_concurrent": 1, "rate_per_key": "30/m", "bucket_size_per_key": 2},
}


@pytest.fixture
def shop(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application with queues and a worker that notes what it is given."""
    with bench(sqlite_database.url, TASKQUEUE_QUEUES=QUEUES) as one:
        seen: list[str] = []
        one.app.extensions["seen"] = seen

        @one.tasks.worker("/note")
        def note(what: str = "nothing") -> str:
            seen.append(what)
            if what == "bad":
                raise PermanentFailure("bad")
            return json.dumps({"noted": what})

        @one.tasks.worker("/after")
        def after() -> None:
            batch_id = current_task.batch_id
            assert batch_id is not None
            batch = one.tasks.get_batch(batch_id)
            seen.append(f"{batch.succeeded} of {batch.total}, {batch.dead} dead")

        yield one


def seen(shop: Bench) -> list[str]:
    """What the workers noted."""
    noted: list[str] = shop.app.extensions["seen"]
    return noted


def note(what: str, **options: Any) -> TaskSpec:
    """A task."""
    return TaskSpec("/note", {"what": what}, **options)


def test_a_queue_is_found_by_name(shop: Bench) -> None:
    """One that is not configured is named with those that are."""
    assert [queue.name for queue in shop.tasks.queues()] == ["default", "mail", "slow"]
    with pytest.raises(UnknownQueueError, match="default, mail, slow"):
        shop.tasks.queue("male")


def test_a_task_takes_what_its_queue_says(shop: Bench) -> None:
    """Its priority, its limits, and adding through the queue."""
    task = shop.tasks.queue("mail").add("/note", {"what": "a"})
    assert (task.queue, task.priority, task.was_enqueued) == ("mail", 4, True)
    for _ in range(5):
        shop.tasks.add("/note", queue="mail")
    assert shop.tasks.drain() == 3
    assert shop.tasks.queue("mail").statistics().scheduled == 3


def test_pause_resume_purge_and_statistics(shop: Bench) -> None:
    """What an operator does."""
    queue = shop.tasks.queue("slow")
    for number in range(4):
        queue.add("/note", {"what": number})
    assert queue.pause(by="ana")
    assert shop.tasks.drain() == 0
    now = queue.statistics()
    assert (now.is_paused, now.paused_by, now.tasks, now.max_concurrent) == (True, "ana", 4, 1)
    assert queue.resume()
    assert shop.tasks.drain() == 4
    done = queue.statistics()
    assert (done.succeeded, done.executed_last_minute, done.oldest_eta) == (4, 4, None)
    queue.add("/note", countdown=60)
    assert queue.purge() == 1
    assert queue.statistics().cancelled == 1


def test_many_are_changed_by_filter(shop: Bench) -> None:
    """Run now, requeue, delete; the queue's own tasks only."""
    queue = shop.tasks.queue("slow")
    for _ in range(3):
        queue.add("/note", {"what": "bad"}, countdown=60)
    queue.add("/after", countdown=60)
    elsewhere = shop.tasks.add("/note", countdown=60)
    assert queue.run_now(url="/note") == 3
    assert shop.tasks.drain() == 3
    assert queue.requeue_dead(url="/other") == 0
    assert queue.requeue_dead() == 3
    assert queue.delete_matching(url="/note") == 3
    assert queue.delete(elsewhere) == 0
    (last,) = queue.find(state="scheduled")
    assert queue.delete([last, "nobody"]) == 1
    assert shop.tasks.get(elsewhere.id).state is State.SCHEDULED


def test_limits_change_while_the_queue_works(shop: Bench) -> None:
    """And what cannot be used is refused."""
    queue = shop.tasks.queue("mail")
    queue.configure(rate="600/s", bucket_size=50)
    for _ in range(10):
        queue.add("/note")
    assert shop.tasks.drain() == 10
    queue.configure(rate=None)
    assert queue.statistics().rate is None
    for wrong, words in [
        ({"rate": "fast"}, "20/m"),
        ({"bucket_size": 0}, "from 1"),
        ({"retry": {}}, "at run time"),
        ({"bucket_size": None}, "whole"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            queue.configure(**wrong)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mail": {"rate": 5}}, r"TASKQUEUE_QUEUES\['mail'\]\['rate'\] is 5"),
        ({"mail": {"bucket_size": "5"}}, "whole number from 1"),
        ({"mail": {"max_concurrent": 0}}, "whole number from 1"),
        ({"mail": {"max_concurent": 1}}, "did you mean max_concurrent"),
        ({"mail": {"priority": 10}}, "from -9 to 9"),
        ({"mail": {"tombstone_ttl": "soon"}}, "'90s'"),
        ({"snail_mail": {}}, "letters, digits and hyphens"),
    ],
)
def test_a_malformed_queue_is_refused_at_the_start(
    tmp_path: Any, settings: Any, words: str
) -> None:
    """Naming the key, the value and what it must be."""
    from flask import Flask

    app = Flask("t", instance_path=str(tmp_path))
    app.config.update(TASKQUEUE_QUEUES=settings)
    with pytest.raises(ConfigurationError, match=words):
        TaskQueue(app)


class TestLists:
    """Several tasks at once."""

    def test_a_list_is_added_whole(self, shop: Bench) -> None:
        """In one transaction, in whatever form; the taken name comes back as who has it."""
        first = shop.tasks.add("/note", queue="slow", name="n")
        queue = shop.tasks.queue("slow")
        added = queue.add(
            [note("a"), ("/note", {"what": "b"}), {"url": "/note", "name": "n"}, "/note"]
        )
        assert [task.was_enqueued for task in added] == [True, True, False, True]
        assert added[2].id == first.id
        assert shop.tasks.drain() == 4
        assert sorted(seen(shop)) == ["a", "b", "nothing", "nothing"]

    def test_a_malformed_one_stops_all(self, shop: Bench) -> None:
        """It is named by its place."""
        with pytest.raises(InvalidTaskError, match="task 1: priority"):
            shop.tasks.queue("slow").add([note("a"), note("b", priority=99)])
        with pytest.raises(DuplicateTaskNameError, match="two tasks named 'x'"):
            shop.tasks.queue("slow").add([note("a", name="x"), note("b", name="x")])
        with pytest.raises(TypeError, match="did you mean countdown"):
            note("a", contdown=3)
        with pytest.raises(TooManyTasksError, match="1001 tasks"):
            shop.tasks.queue("slow").add([note("a")] * 1001)
        with pytest.raises(TypeError, match="give each of its own"):
            shop.tasks.queue("slow").add([note("a")], {"what": "b"})  # type: ignore[call-overload]
        assert shop.tasks.find() == []

    def test_any_number_from_a_generator(self, shop: Bench) -> None:
        """In several transactions; names that are taken are counted."""
        added = shop.tasks.add_many(("/note", {"what": number}) for number in range(1203))
        assert added == (1203, 0)
        again = shop.tasks.add_many(note("x", name=f"n{number % 5}") for number in range(10))
        assert again == (5, 5)
        assert shop.tasks.queue("default").statistics().scheduled == 1208

    def test_many_join_the_session(self, shop: Bench) -> None:
        """Up to a thousand; more are refused before any is stored."""
        shop.db.session.add(shop.Counter(id=7, count=0))
        assert shop.tasks.add_many([note("a"), note("b")]).added == 2
        shop.db.session.rollback()
        assert shop.tasks.find() == []
        shop.db.session.add(shop.Counter(id=7, count=0))
        with pytest.raises(TooManyTasksError):
            shop.tasks.add_many(note("a") for _ in range(1001))
        shop.db.session.rollback()


class TestKeys:
    """Keys at the call."""

    def test_unique_keys_say_what_happened(self, shop: Bench) -> None:
        """On the task that comes back."""
        results = [
            shop.tasks.add(
                "/note", {"what": number}, unique_key="k", countdown=60, on_conflict=wish
            )  # type: ignore[arg-type]
            for number, wish in enumerate(["skip", "skip", "debounce", "replace"])
        ]
        assert [result.disposition for result in results] == [
            "added",
            "skipped",
            "debounced",
            "replaced",
        ]
        assert len({result.id for result in results[:3]}) == 1
        with pytest.raises(TaskAlreadyExistsError):
            shop.tasks.add("/note", unique_key="k", on_conflict="raise")
        assert len(shop.tasks.find(state="scheduled")) == 1

    def test_a_parked_task_says_so(self, shop: Bench) -> None:
        """It is scheduled, has no due_at, and knows its key."""
        store = shop.store
        first, second = (shop.tasks.add("/note", serial_key="order-7") for _ in range(2))
        (lane,) = (lane for lane in self.lanes(store) if lane.queue == "default")
        store.transact(
            lambda connection: store.claims.claim(
                connection, lane, 5, lease_id="l", held_by="h", lease=30
            )
        )
        parked = shop.tasks.get(second.id)
        assert (parked.state, parked.due_at, parked.serial_key, parked.concurrency_key) == (
            State.SCHEDULED,
            None,
            "order-7",
            None,
        )
        assert shop.tasks.queue("default").statistics().waiting_for_key == 1
        first.delete()
        assert (
            shop.run(second).state is State.SCHEDULED
        )  # while the handler of the first may still run
        store.transact(lambda connection: store.holds.end(connection, [(first.id, "l")]))
        assert shop.run(second).state is State.SUCCEEDED

    def test_a_rate_key_goes_wherever_an_option_goes(self, shop: Bench) -> None:
        """Alone, in lists and batches, at a declaration, after a success and by a schedule."""

        @shop.tasks.worker("/call", queue="slow", rate_key="all")
        def call() -> None: ...

        spec = TaskSpec("/note", queue="slow", rate_key="ana")
        shop.tasks.batch([spec, call.options(rate_key="bo").spec()])
        shop.tasks.queue("slow").add([spec])
        shop.tasks.add("/note", then=spec)
        call.add()
        shop.tasks.schedule("hourly", "/note", "@hourly", queue="slow", rate_key="cy")
        shop.tasks.drain()
        shop.tasks.get_schedule("hourly").run_now()
        found = sorted(str(task.rate_key) for task in shop.tasks.find() if task.queue == "slow")
        assert found == ["all", "ana", "ana", "ana", "bo", "cy"]

    def test_the_rate_per_key_is_changed_while_it_runs(self, shop: Bench) -> None:
        """It is told like the other limits; a bucket always has a size."""
        queue = shop.tasks.queue("slow")
        told = queue.statistics()
        assert (told.rate_per_key, told.bucket_size_per_key) == (0.5, 2)
        queue.configure(rate_per_key="0", bucket_size_per_key=1)
        task = queue.add("/note", rate_key="ana")
        assert shop.run(task).state is State.SCHEDULED
        with pytest.raises(BadTaskStateError, match="waits for the rate of its key"):
            task.run_now()
        queue.configure(rate_per_key=None)
        assert shop.run(task).state is State.SUCCEEDED
        assert queue.statistics().rate_per_key is None
        with pytest.raises(ConfigurationError, match="bucket_size_per_key is None"):
            queue.configure(bucket_size_per_key=None)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="rate_per_key is 'often'"):
            queue.configure(rate_per_key="often")

    def lanes(self, store: Any) -> Any:
        """What is due."""
        with store.reading() as connection:
            return store.claims.lanes(connection).due()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"serial_key": ""}, "serial_key is ''"),
            ({"concurrency_key": "x" * 201}, "1 to 200"),
            ({"unique_key": "ü"}, "printable ASCII"),
            ({"serial_key": "a", "concurrency_key": "b"}, "exclude each other"),
            ({"concurrency_key": "a", "concurrency_limit": 0}, "concurrency_limit is 0"),
            ({"rate_key": "a", "queue": "default"}, "queue default has no rate for it: add one to"),
            ({"rate_key": "x" * 100, "queue": "slow"}, "has 100 characters; .* at most 99"),
            ({"rate_key": 42, "queue": "slow"}, "rate_key is 42"),
            ({"rate_key": "a", "serial_key": "b", "queue": "slow"}, "serial_key and rate_key excl"),
        ],
    )
    def test_malformed_keys_are_refused(self, shop: Bench, options: Any, words: str) -> None:
        """Each with a sentence."""
        with pytest.raises(InvalidKeyError, match=words):
            shop.tasks.add("/note", **options)

    def test_on_conflict_needs_a_key(self, shop: Bench) -> None:
        """And one of four words."""
        with pytest.raises(InvalidTaskError, match="needs a unique_key"):
            shop.tasks.add("/note", on_conflict="skip")
        with pytest.raises(InvalidTaskError, match="'debounce'"):
            shop.tasks.add("/note", unique_key="a", on_conflict="ignore")  # type: ignore[arg-type]


class TestFollowing:
    """then, batches, expiry, results, progress."""

    def test_then_runs_after_success(self, shop: Bench) -> None:
        """A chain, with options of its own; nothing after a failure."""
        shop.tasks.add("/note", {"what": "a"}, then=note("b", then=[note("c"), note("d")]))
        shop.tasks.add("/note", {"what": "bad"}, then=note("never"))
        shop.tasks.drain()
        assert sorted(seen(shop)) == ["a", "b", "bad", "c", "d"]
        with pytest.raises(InvalidTaskError, match="then, task 0: priority"):
            shop.tasks.add("/note", then=note("b", priority=99))

    def test_a_batch_calls_back_once(self, shop: Bench) -> None:
        """With its counts; the empty batch at once."""
        batch = shop.tasks.batch(
            [note("a"), note("b"), note("bad")], on_finish=TaskSpec("/after"), on_dead=note("dead")
        )
        assert (batch.total, batch.pending, batch.is_finished) == (3, 3, False)
        shop.tasks.drain()
        assert sorted(seen(shop)) == ["2 of 3, 1 dead", "a", "b", "bad", "dead"]
        done = shop.tasks.get_batch(batch.id)
        assert (done.is_finished, done.pending, len(shop.tasks.find(batch=done))) == (True, 0, 3)
        empty = shop.tasks.batch([], on_finish=note("empty"))
        assert empty.is_finished
        shop.tasks.drain()
        assert seen(shop)[-1] == "empty"
        with pytest.raises(UnknownBatchError):
            shop.tasks.get_batch("nobody")

    def test_a_batch_joins_the_session(self, shop: Bench) -> None:
        """Rolled back, it never was."""
        shop.db.session.add(shop.Counter(id=7, count=0))
        batch = shop.tasks.batch([note("a")])
        shop.db.session.rollback()
        with pytest.raises(UnknownBatchError):
            shop.tasks.get_batch(batch.id)

    def test_expires(self, shop: Bench) -> None:
        """What has not begun in time is cancelled; a malformed one is refused."""
        late = shop.tasks.add("/note", expires=datetime.now(UTC) - timedelta(seconds=1))
        good = shop.tasks.add("/note", expires="10m")
        assert shop.run(late).state is State.CANCELLED
        assert shop.tasks.get(good.id).state is State.SUCCEEDED
        for wrong in (0, -5, "soon", datetime(2030, 1, 1)):  # noqa: DTZ001
            with pytest.raises(InvalidTaskError):
                shop.tasks.add("/note", expires=wrong)

    def test_results_are_kept_if_asked_for(self, shop: Bench) -> None:
        """Status, headers and body."""
        kept, forgotten = shop.tasks.add("/note", keep_result=True), shop.tasks.add("/note")
        assert kept.result is None
        shop.tasks.drain()
        assert kept.result is not None
        assert (kept.result.status, kept.result.json, kept.result.headers["content-type"]) == (
            200,
            {"noted": "nothing"},
            "text/html; charset=utf-8",
        )
        assert forgotten.result is None

    @pytest.mark.parametrize("transactional", [False, True])
    def test_progress_is_told(self, shop: Bench, transactional: bool) -> None:
        """While the handler runs, or with its commit."""
        seen_inside: list[Any] = []

        @shop.tasks.worker("/long", transactional=transactional)
        def long() -> None:
            current_task.progress(3, 10, "copying")
            if not transactional:
                seen_inside.append(shop.tasks.get(current_task.id).progress)
            for done, total in ((-1, None), (1, -1), (math.nan, 1), (1, math.inf), (10**400, None)):
                with pytest.raises(ValueError, match="give numbers from 0 up"):
                    current_task.progress(done, total)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="the note of progress is 5"):
                current_task.progress(1, 2, 5)  # type: ignore[arg-type]

        task = shop.run(shop.tasks.add("/long"))
        assert task.state is State.SUCCEEDED
        assert task.progress is not None
        assert (task.progress.done, task.progress.total, task.progress.note) == (3, 10, "copying")
        assert transactional or seen_inside == [task.progress]


def test_transactional_is_still_forced(shop: Bench) -> None:
    """Also for lists."""
    with shop.app.app_context():
        shop.tasks.queue("slow").add([note("a")], transactional=True)
        shop.db.session.rollback()
    assert shop.tasks.find() == []
    runtime = shop.runtime
    db, runtime.binding.db = runtime.binding.db, None
    with pytest.raises(BadTransactionStateError):
        shop.tasks.add("/note", transactional=True)
    runtime.binding.db = db


class TestHeaders:
    """The families of task headers."""

    @pytest.mark.parametrize(
        "families",
        [("appengine",), ("taskqueue", "cloudtasks"), ("taskqueue", "appengine", "cloudtasks")],
    )
    def test_those_asked_for_are_sent(
        self, sqlite_database: TestDatabase, families: tuple[str, ...]
    ) -> None:
        """With each family's own rules, after a 503, a timeout and a 404."""
        from flask import Response, request

        prefixes = {
            "taskqueue": "X-Taskqueue-",
            "appengine": "X-Appengine-",
            "cloudtasks": "X-Cloudtasks-",
        }
        heard: list[dict[str, str]] = []
        with bench(sqlite_database.url, TASKQUEUE_HEADERS=families) as one:

            @one.tasks.worker("/w")
            def w() -> Response:
                heard.append(
                    {
                        name.title(): value
                        for name, value in request.headers.items()
                        if len(name) < MAX_NAME
                    }
                )
                return Response(status=[503, 404, 200][len(heard) - 1])

            task = one.tasks.add("/w", retry={"min_backoff_seconds": 0, "max_backoff_seconds": 0})
            one.tasks.drain()
        for name, prefix in prefixes.items():
            assert (f"{prefix}Taskname" in heard[0]) is (name in families)
        for name in families:
            first, _, third = (
                {
                    key[len(prefixes[name]) :]: value
                    for key, value in each.items()
                    if key.startswith(prefixes[name])
                }
                for each in heard
            )
            assert (first["Taskname"], first["Queuename"], first["Taskretrycount"]) == (
                task.id,
                "default",
                "0",
            )
            assert "Taskpreviousresponse" not in first
            assert float(first["Tasketa"]) == pytest.approx(task.eta.timestamp(), abs=1e-5)
            assert (third["Taskretrycount"], third["Taskpreviousresponse"]) == ("2", "404")
            assert third["Taskexecutioncount"] == ("1" if name == "cloudtasks" else "2")
            assert (
                third["Taskretryreason"]
                == {"taskqueue": "failure", "appengine": "App Error", "cloudtasks": ""}[name]
            )


class TestCommands:
    """flask taskqueue queues, pause, resume, purge, configure."""

    def invoke(self, shop: Bench, *arguments: str) -> str:
        """Run a command and return what it says."""
        result = shop.app.test_cli_runner().invoke(args=["taskqueue", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    def test_queues_are_shown(self, shop: Bench) -> None:
        """As a table, and as JSON."""
        shop.tasks.add("/note", queue="mail")
        self.invoke(shop, "pause", "slow")
        table = self.invoke(shop, "queues")
        assert "20/m" in table
        assert "paused by" in table
        found = {load["queue"]: load for load in json.loads(self.invoke(shop, "queues", "--json"))}
        assert (found["mail"]["scheduled"], found["slow"]["max_concurrent"]) == (1, 1)

    def test_a_queue_is_worked_on(self, shop: Bench) -> None:
        """Each says what it did, and what was so already."""
        assert self.invoke(shop, "pause", "mail") == "Paused mail.\n"
        assert "already" in self.invoke(shop, "pause", "mail")
        assert self.invoke(shop, "resume", "mail") == "Resumed mail.\n"
        assert "rate 5/s, bucket size 9, max concurrent 2." in self.invoke(
            shop,
            "configure",
            "mail",
            "--rate",
            "5/s",
            "--bucket-size",
            "9",
            "--max-concurrent",
            "2",
        )
        assert "rate -" in self.invoke(
            shop, "configure", "mail", "--rate", "none", "--max-concurrent", "none"
        )
        shop.tasks.add("/note", queue="mail")
        assert self.invoke(shop, "purge", "mail", "--yes") == "Cancelled 1 task.\n"

    def test_mistakes_are_explained(self, shop: Bench) -> None:
        """Without a traceback, with a code."""
        runner = shop.app.test_cli_runner()
        for arguments in (
            ["pause", "male"],
            ["configure", "mail", "--rate", "fast"],
            ["configure", "mail", "--max-concurrent", "few"],
        ):
            result = runner.invoke(args=["taskqueue", *arguments])
            assert result.exit_code in (1, 2, 3)
            assert "Error" in result.output
        shop.tasks.add("/note", queue="mail")
        assert runner.invoke(args=["taskqueue", "purge", "mail"], input="n\n").exit_code == 1
        assert shop.tasks.queue("mail").statistics().tasks == 1


def test_tasks_are_found_by_what_became_of_them(shop: Bench) -> None:
    """Last status, age, attempts and text, in the words of people; what cannot be meant is
    refused.
    """
    find = shop.tasks.find
    bad = shop.run(shop.tasks.add(note("bad", name="Ana")))
    good = shop.run(shop.tasks.add(note("good")))
    assert (
        [one.id for one in find(status=422)]
        == [one.id for one in find(status="permanent")]
        == [bad.id]
    )
    assert [one.id for one in find(status="2xx", attempts_at_least=1)] == [good.id]
    assert [one.id for one in find(search="ana", since=timedelta(minutes=5))] == [bad.id]
    assert find(since=datetime.now(UTC) + timedelta(minutes=5)) == []
    with pytest.raises(ValueError, match="naive"):
        find(since=datetime.now())  # noqa: DTZ005 - which is what is refused
    with pytest.raises(ValueError, match="such as 502"):
        find(status="bad")
