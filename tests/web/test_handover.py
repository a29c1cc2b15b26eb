"""The reply of a task, handed to the task that follows it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Response, request, send_file

from flask_taskqueue import REPLY, InvalidTaskError, State, Task, TaskSpec, task_dead
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase

KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
CAP = 1000


class Chain(Bench):
    """An application whose tasks record what they were given."""

    got: list[Any]
    takes: Any


@pytest.fixture(params=["plain", "encrypted"])
def chain(request: pytest.FixtureRequest, database: TestDatabase) -> Iterator[Chain]:
    """Tasks that reply, and tasks that take a reply; with keys and without."""
    keys = [KEY] if request.param == "encrypted" else None
    options = {"TASKQUEUE_ENCRYPTION_KEYS": keys, "TASKQUEUE_REPLY_EXCERPT": CAP}
    with bench(database.url, TASKQUEUE_MAX_BODY=2 * CAP, **options) as one:
        yield prepared(Chain(one.app, one.db, one.tasks, one.Counter))


def prepared(one: Chain) -> Chain:
    """Routes and functions, which put what they were given into ``got``."""
    one.got = []

    @one.tasks.worker("/says")
    def says(
        what: str = "", kind: str = "application/json", status: int = 200, times: int = 1
    ) -> Response:
        return Response(what * times, status, mimetype=kind)

    @one.tasks.worker("/file", transactional=True)
    def file() -> Response:
        one.db.session.get(one.Counter, 1).count += 1
        return send_file(io.BytesIO(b"\xff\x00 png"), mimetype="image/png")

    @one.tasks.worker("/number", transactional=True)
    def number() -> dict[str, int]:
        one.db.session.get(one.Counter, 1).count += 1
        return {"n": 42}

    @one.tasks.worker("/takes")
    def takes(reply: Any = "nothing", other: int = 0) -> None:
        one.got.append((reply, other))

    one.takes = takes

    @one.tasks.worker("/form")
    def form() -> None:
        one.got.append((request.mimetype, request.form.to_dict(flat=False)))

    @one.tasks.worker("/body")
    def body() -> None:
        one.got.append((request.content_type, request.get_data()))

    return one


def says(what: str, kind: str = "application/json", times: int = 1, **then: Any) -> TaskSpec:
    """A task that replies."""
    return TaskSpec("/says", {"what": what, "kind": kind, "times": times}, **then)


def run(chain: Chain, spec: TaskSpec) -> Task:
    """Add a task, run all that is due, and return the task."""
    task = chain.tasks.add(spec.url, spec.params, **spec.options)
    chain.tasks.drain()
    return task


def dead(chain: Chain) -> list[str]:
    """Why tasks are dead."""
    return [str(task.last_error) for task in chain.tasks.find(state="dead")]


class TestPlaces:
    """Where the reply can go."""

    def test_the_reply_is_an_argument_of_the_next_task(self, chain: Chain) -> None:
        """Of a function, of a worker, of a URL's JSON and form, and as the whole body."""

        @chain.tasks.task
        def total(a: int, b: int) -> int:
            return a + b

        @chain.tasks.task
        def note(sum: int) -> None:
            chain.got.append(sum)

        total.options(then=note.spec(REPLY)).enqueue(1, 2)
        total.options(then=note.spec(sum=REPLY)).enqueue(3, 4)
        chain.tasks.drain()
        assert sorted(chain.got) == [3, 7]
        for then, given in (
            (chain.takes.spec(reply=REPLY, other=5), (["ä"], 5)),
            (TaskSpec("/takes", json={"reply": REPLY, "other": 6}), (["ä"], 6)),
            (TaskSpec(chain.takes, json={"reply": REPLY}), (["ä"], 0)),
            (TaskSpec("/body", payload=REPLY), ("application/json", '["ä"]'.encode())),
            (
                TaskSpec("/body", payload=REPLY, headers={"Content-Type": "text/x-own"}),
                ("text/x-own", '["ä"]'.encode()),
            ),
        ):
            chain.got.clear()
            run(chain, says('["ä"]', then=then))
            assert chain.got == [given]
        assert not dead(chain)

    def test_the_reply_is_a_field_of_a_form(self, chain: Chain) -> None:
        """As the same value in params would be: a list repeats its name."""
        form = "application/x-www-form-urlencoded"
        for what, values in (('"ä&b"', ["ä&b"]), ("7", ["7"]), ('["a", "b"]', ["a", "b"])):
            chain.got.clear()
            run(chain, says(what, then=TaskSpec("/form", {"reply": REPLY})))
            run(chain, says(what, then=TaskSpec("/form", {"id": 7, "reply": REPLY})))
            assert chain.got == [(form, {"reply": values}), (form, {"id": ["7"], "reply": values})]

    @pytest.mark.parametrize(
        ("what", "kind", "status", "value"),
        [
            ("null", "application/json", 200, None),
            ('{"a": [1, 2.5]}', "application/problem+json; charset=utf-8", 200, {"a": [1, 2.5]}),
            ("5", "text/plain", 200, "5"),
            ("", "text/html", 200, ""),
            ("", "text/html", 204, None),
        ],
    )
    def test_what_a_reply_says(
        self, chain: Chain, what: str, kind: str, status: int, value: Any
    ) -> None:
        """The value of JSON, the text of anything else, None for no content."""
        then = TaskSpec("/takes", json={"reply": REPLY})
        run(chain, TaskSpec("/says", {"what": what, "kind": kind, "status": status}, then=then))
        assert chain.got == [(value, 0)]

    def test_a_chain_hands_each_reply_to_the_next(self, chain: Chain) -> None:
        """And to several at once; each gets the reply of the task just before it."""

        @chain.tasks.task
        def double(n: int) -> int:
            chain.got.append(n)
            return 2 * n

        then = [double.spec(REPLY), double.spec(n=REPLY)]
        double.options(then=double.options(then=then).spec(REPLY)).enqueue(1)
        chain.tasks.drain()
        assert chain.got == [1, 2, 4, 4]

    def test_a_long_chain_runs_to_its_end(self, chain: Chain) -> None:
        """What follows takes as much room as its tasks, however many follow each other."""

        @chain.tasks.task
        def step(n: int) -> int:
            chain.got.append(n)
            return n + 1

        spec = step.spec(REPLY)
        for _ in range(98):
            spec = step.options(then=spec).spec(REPLY)
        step.options(then=spec).enqueue(0)
        table = chain.store.database.tables.task
        with chain.store.reading() as connection:
            stored = connection.execute(sa.select(table.c.follow_up)).scalar_one()
        assert len(stored) < 100_000
        chain.tasks.drain()
        assert chain.got == list(range(100))

    def test_a_chain_that_is_too_long_is_refused(self, chain: Chain) -> None:
        """With what to do instead, however long it is, and once."""
        spec = TaskSpec("/takes")
        for _ in range(1000):
            spec = TaskSpec("/takes", then=spec)
        sentence = "^more than 100 tasks follow each other by then: have one of them add the next$"
        with pytest.raises(InvalidTaskError, match=sentence):
            chain.tasks.add("/takes", then=spec)
        with pytest.raises(InvalidTaskError, match=sentence):
            chain.tasks.batch([TaskSpec("/takes")], on_finish=spec)
        assert chain.tasks.find() == []

    def test_what_a_transactional_handler_replied(self, chain: Chain) -> None:
        """A dict, and a file; the task's result is the same."""
        run(chain, TaskSpec("/number", then=TaskSpec("/takes", json={"reply": REPLY})))
        task = run(chain, TaskSpec("/file", then=TaskSpec("/body", payload=REPLY)))
        assert chain.got == [({"n": 42}, 0), ("image/png", b"\xff\x00 png")]
        assert task.result is not None
        assert task.result.body == b"\xff\x00 png"
        assert chain.count() == 2

    def test_over_http(self, chain: Chain) -> None:
        """The same, by handlers with and without a transaction."""
        takes = TaskSpec("/takes", json={"reply": REPLY})
        chain.tasks.add("/says", {"what": "[1]"}, then=takes)
        chain.tasks.add("/number", then=takes)
        chain.tasks.add("/file", then=TaskSpec("/body", payload=REPLY))
        with served(chain.app) as url:
            chain.runtime.drain(transport="http", base_url=url)
        assert sorted(chain.got, key=repr) == sorted(
            [([1], 0), ({"n": 42}, 0), ("image/png", b"\xff\x00 png")], key=repr
        )


class TestFailures:
    """Replies that cannot be handed over."""

    @pytest.mark.parametrize(
        ("reply", "then", "why"),
        [
            (("x" * (CAP + 1), "text/plain"), "json", "is longer than the 1000 bytes of it that"),
            (("{", "application/json"), "json", "is said to be JSON and cannot be read as such"),
            (("NaN", "application/json"), "json", "does not fit: "),
            (("[" * 120 + "]" * 120, "application/json"), "json", "nested more than 100 levels"),
            (('{"a": 1}', "application/json"), "params", "has a value of type dict, which a form"),
            (("null", "application/json"), "params", "is None, which a form cannot say"),
            (("ÿ", "text/plain", 400), "json", "would have 24"),
        ],
    )
    def test_the_next_task_is_dead_and_says_why(
        self, chain: Chain, reply: tuple[Any, ...], then: str, why: str
    ) -> None:
        """It never runs without the reply, even if it is requeued, and what hears of dead tasks
        hears of it; the task before has succeeded.
        """
        heard: list[str] = []

        def hear(_: object, record: Any, outcome: Any) -> None:
            heard.append(outcome.error)

        with task_dead.connected_to(hear):
            task = run(chain, says(*reply, then=TaskSpec("/takes", **{then: {"reply": REPLY}})))
        assert chain.tasks.get(task.id).state is State.SUCCEEDED
        (following,) = chain.tasks.find(state="dead")
        assert str(following.last_error).startswith(
            f"the reply of task {task.id}, which this task was to get, "
        )
        assert why in str(following.last_error)
        assert heard == [following.last_error]
        assert chain.run(following.requeue()).state is State.DEAD
        assert chain.got == []

    def test_bytes_that_are_no_text(self, chain: Chain) -> None:
        """Only a payload can be such bytes."""
        run(chain, TaskSpec("/file", then=TaskSpec("/takes", {"reply": REPLY})))
        (error,) = dead(chain)
        assert error.endswith("is no UTF-8 text: give payload=REPLY, which passes on any bytes")

    @pytest.mark.parametrize(
        ("then", "words"),
        [
            (lambda: TaskSpec("/takes", json=REPLY), "json is REPLY: give payload=REPLY"),
            (lambda: TaskSpec("/takes", json={"a": REPLY, "b": REPLY}), "a task has REPLY once"),
            (lambda: TaskSpec("/takes", json=[REPLY]), "REPLY is deeper inside of json: .*whole"),
            (lambda: TaskSpec("/takes", json={"a": [REPLY]}), "REPLY is deeper inside of json"),
            (lambda: TaskSpec("/takes", json={"a": {"b": REPLY}}), "is deeper inside of json"),
            (lambda: TaskSpec("/takes", json={REPLY: 1}), "REPLY is deeper inside of json"),
            (lambda: TaskSpec("/takes", {"a": [REPLY]}), "REPLY is deeper inside of params"),
            (lambda: TaskSpec("/takes", {"a": REPLY}, method="PUT"), "part of the URL of a PUT"),
            (lambda: TaskSpec("/takes", {"a": REPLY}, payload="x"), "exclude each other"),
            (lambda: TaskSpec("/takes", payload=REPLY, json={}), "exclude each other"),
        ],
    )
    def test_what_cannot_be_is_refused_at_the_call(
        self, on_sqlite: Bench, then: Callable[[], TaskSpec], words: str
    ) -> None:
        """With a sentence, and nothing is stored."""
        prepared(Chain(on_sqlite.app, on_sqlite.db, on_sqlite.tasks, on_sqlite.Counter))

        @on_sqlite.app.put("/takes")
        def put() -> str:
            return ""

        with pytest.raises(InvalidTaskError, match=f"then, task 0: .*{words}"):
            on_sqlite.tasks.add("/says", then=then())
        assert on_sqlite.tasks.find() == []

    def test_an_argument_with_a_reply_inside_of_it(self, on_sqlite: Bench) -> None:
        @on_sqlite.tasks.task
        def function(pages: list[str]) -> None: ...

        with pytest.raises(InvalidTaskError, match=r"'pages' of .*REPLY inside of it"):
            function.spec([REPLY])

    def test_what_holds_itself_is_no_reply(self, on_sqlite: Bench) -> None:
        on_sqlite.tasks.worker("/w")(lambda: None)
        around: list[Any] = []
        around.append(around)
        with pytest.raises(InvalidTaskError, match="json cannot be encoded"):
            on_sqlite.tasks.add("/w", then=TaskSpec("/w", json=around))

    def test_a_task_that_follows_none_has_no_reply(self, on_sqlite: Bench) -> None:
        """Alone, in lists, as the callback of a batch, and by its handler."""
        tasks = on_sqlite.tasks

        @tasks.worker("/w")
        def handler(reply: str = "") -> None: ...

        @tasks.worker("/w/<name>")
        def named(name: str) -> None: ...

        @tasks.task
        def function(reply: str) -> None: ...

        follows_none = pytest.raises(InvalidTaskError, match="it follows none: it can stand only")
        for add in (
            lambda: tasks.add("/w", {"reply": REPLY}),
            lambda: tasks.add("/w", json={"reply": REPLY}),
            lambda: tasks.add("/w", payload=REPLY),
            lambda: tasks.add("/w", json=REPLY),
            lambda: tasks.add_many([("/w", {"reply": REPLY})]),
            lambda: tasks.batch([TaskSpec("/w")], on_finish=TaskSpec("/w", {"reply": REPLY})),
            lambda: handler.add(reply=REPLY),
            lambda: function.enqueue(REPLY),
        ):
            with follows_none:
                add()
        with pytest.raises(InvalidTaskError, match="part of the URL, which REPLY cannot be"):
            tasks.add("/w", then=named.spec(REPLY))
        assert tasks.find() == []


def test_what_is_handed_over_is_encrypted(sqlite_database: TestDatabase) -> None:
    """In the log of the attempt and in the next task."""
    with bench(sqlite_database.url, TASKQUEUE_ENCRYPTION_KEYS=[KEY]) as one:
        chain = prepared(Chain(one.app, one.db, one.tasks, one.Counter))
        run(chain, says('"secret"', then=TaskSpec("/takes", json={"reply": REPLY})))
        assert chain.got == [("secret", 0)]
        tables = one.store.database.tables
        with one.store.reading() as connection:
            for table in (tables.task, tables.attempt):
                for row in connection.execute(sa.select(table)):
                    assert "secret" not in repr(tuple(row))
