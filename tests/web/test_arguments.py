"""What add() takes arrives as it was, or is refused at the call: through an application."""

from __future__ import annotations

import enum
import functools
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from flask import Blueprint, request
from markupsafe import Markup
from werkzeug.datastructures import CombinedMultiDict, ImmutableMultiDict, MultiDict

from flask_taskqueue import InvalidScheduleError, InvalidTaskError, InvalidUrlError, State, TaskSpec
from tests.apps import Bench


class Colour(enum.Enum):
    """An enumeration that is no text and no number."""

    RED = "r"


class Mode(enum.StrEnum):
    """One that is a text."""

    FAST = "fast"


class Shown:
    """What has a text, and is none."""

    def __repr__(self) -> str:
        return "Shown()"

    def __str__(self) -> str:
        return "shown"


@pytest.fixture
def got(on_sqlite: Bench) -> list[Any]:
    """What an ordinary view at /form got, as texts by name."""
    found: list[Any] = []

    def view() -> str:
        found.append(request.form.to_dict(flat=False) or request.args.to_dict(flat=False))
        return "ok"

    on_sqlite.app.add_url_rule("/form", "form", view, methods=["GET", "POST"])
    return found


@pytest.mark.parametrize(
    ("params", "arrived"),
    [
        ({"a": "x", "b": "é\r\n"}, {"a": ["x"], "b": ["é\r\n"]}),
        ({"a": 1, "b": 1.5, "c": True}, {"a": ["1"], "b": ["1.5"], "c": ["True"]}),
        ({"a": Decimal("1.10"), "b": UUID(int=1)}, {"a": ["1.10"], "b": [str(UUID(int=1))]}),
        ({"a": Decimal("1E+400")}, {"a": ["1E+400"]}),
        ({"a": datetime(2026, 1, 2, tzinfo=UTC)}, {"a": ["2026-01-02T00:00:00+00:00"]}),
        (
            {"a": b"x", "b": Mode.FAST, "c": Markup("<b>")},
            {"a": ["x"], "b": ["fast"], "c": ["<b>"]},
        ),
        ({"a": [1, 2], "b": ("x",), "c": range(2)}, {"a": ["1", "2"], "b": ["x"], "c": ["0", "1"]}),
        (MultiDict([("a", "1"), ("a", "2"), ("b", "3")]), {"a": ["1", "2"], "b": ["3"]}),
        (ImmutableMultiDict([("a", "1"), ("a", "2")]), {"a": ["1", "2"]}),
        (CombinedMultiDict([MultiDict([("a", "1")]), MultiDict([("a", "2")])]), {"a": ["1", "2"]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_params_are_what_a_form_says(
    on_sqlite: Bench, got: list[Any], params: Any, arrived: Any, method: str
) -> None:
    """Repeated values arrive repeated, in a form and in a query."""
    on_sqlite.run(on_sqlite.tasks.add("/form", params, method=method))
    assert got == [arrived]


def test_params_may_be_read_only_once(on_sqlite: Bench, got: list[Any]) -> None:
    """Those of a schedule are kept."""
    on_sqlite.run(on_sqlite.tasks.add("/form", {"a": (one for one in "xy")}))
    on_sqlite.tasks.schedule("s", "/form", "every 5 minutes", {"a": (one for one in "xy")})
    for _ in range(2):
        on_sqlite.tasks.get_schedule("s").run_now()
        on_sqlite.tasks.drain()
    assert got == [{"a": ["x", "y"]}] * 3


def test_the_form_of_a_request_is_added_whole(on_sqlite: Bench, got: list[Any]) -> None:
    """And the query of one."""
    tasks = on_sqlite.tasks
    with on_sqlite.app.test_request_context(
        "/?q=1&q=2", method="POST", data={"tag": ["a", "b"], "to": "ana"}
    ):
        tasks.add("/form", request.form)
        tasks.add("/form", request.args)
    tasks.drain()
    assert sorted(map(str, got)) == sorted(
        map(str, [{"tag": ["a", "b"], "to": ["ana"]}, {"q": ["1", "2"]}])
    )


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"a": None}, "'a' is None.* use json="),
        ({"a": []}, "'a' is empty.* use json="),
        ({"a": {}}, "type dict"),
        ({"a": [[1]]}, "type list"),
        ({"a": [None]}, "'a' is None"),
        ({"a": Shown()}, "type Shown"),
        ({"a": Colour.RED}, "type Colour"),
        ({"a": timedelta(1)}, "type timedelta"),
        ({"a": bytearray(b"x")}, "type bytearray"),
        ({"a": 1j}, "type complex"),
        ({"a": datetime(2026, 1, 2)}, "naive"),  # noqa: DTZ001 - the naive one that is refused
        ({"a": float("nan")}, "no finite number"),
        ({"a": Decimal("Infinity")}, "no finite number"),
        ({"a": Decimal("sNaN")}, "no finite number"),
        ({"a": b"\xff"}, "no UTF-8"),
        ({"a": "\ud800"}, "surrogate"),
        ({"\ud800": "a"}, "no text that can be sent"),
        ({1: "a"}, "name of type int"),
        ("a=1", "must be a mapping"),
    ],
    ids=ascii,
)
def test_params_that_a_form_cannot_say_are_refused(
    on_sqlite: Bench, got: list[Any], params: Any, words: str
) -> None:
    """With the param's name; nothing is stored."""
    with pytest.raises(InvalidTaskError, match=words):
        on_sqlite.tasks.add("/form", params)
    with pytest.raises(InvalidTaskError, match=words):
        on_sqlite.tasks.schedule("s", "/form", "every 5 minutes", params)
    assert on_sqlite.tasks.find() == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("\ud800", "surrogate"),
        ({"\ud800": 1}, "surrogate"),
        ({1: "a"}, "key of type int"),
        ([{"a": {None: 1}}], "key of type NoneType"),
        (MultiDict([("a", 1), ("a", 2)]), "several values"),
        (float("inf"), "JSON"),
    ],
    ids=ascii,
)
def test_json_that_would_be_read_as_another_is_refused(
    on_sqlite: Bench, got: list[Any], value: Any, words: str
) -> None:
    """A key that becomes a text, a value that is lost."""
    with pytest.raises(InvalidTaskError, match=words):
        on_sqlite.tasks.add("/form", json=value)


@pytest.mark.parametrize(
    "options",
    [
        *(
            {"payload": "\ud800"},
            {"headers": {"X-A": "\ud800"}},
            {"headers": {"\ud800": "a"}},
            {"name": "\ud800"},
        ),
        *(
            {"unique_key": "\ud800"},
            {"serial_key": "\ud800"},
            {"target": "\ud800"},
            {"method": "\ud800"},
            {"countdown": "\ud800"},
        ),
        *(
            {"deadline": 10**5000},
            {"expires": 10**5000},
            {"countdown": 10**5000},
            {"priority": 10**5000},
            {"method": 5},
        ),
        *(
            {"keep_result": None},
            {"then": "/form"},
            {"then": 5},
            {"target": 5},
            {"countdown": timedelta.min},
        ),
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_that_nothing_can_hold_are_refused(
    on_sqlite: Bench, got: list[Any], options: Any
) -> None:
    """By a sentence that can be printed, never by another error."""
    with pytest.raises(InvalidTaskError) as refusal:
        on_sqlite.tasks.add("/form", **options)
    assert str(refusal.value).encode()


def test_an_expiry_after_the_last_day_of_the_calendar_is_that_day(
    on_sqlite: Bench, got: list[Any]
) -> None:
    """So that "never" can be said anywhere west of Greenwich; a row that was stored before this
    rule is read.
    """
    never = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    task = on_sqlite.tasks.add("/form", expires=never)
    assert on_sqlite.tasks.get(task.id).expires_at == datetime.max.replace(tzinfo=UTC)
    store = on_sqlite.store
    table = store.database.tables.task
    store.transact(lambda connection: connection.execute(sa.update(table).values(expires_at=2**60)))
    assert on_sqlite.tasks.find()[0].expires_at == datetime.max.replace(tzinfo=UTC)


def test_a_handler_gets_none_and_empty_lists(on_sqlite: Bench) -> None:
    """Not its defaults."""
    seen: list[Any] = []

    @on_sqlite.tasks.worker("/w")
    def handler(ids: list[int], limit: int | None = 10, plain="x") -> None:
        seen.append((ids, limit, plain))

    for arguments in (([], None, None), ([1, 2], 3, "y"), ([7], 10, ["a", "b"])):
        on_sqlite.run(handler.add(*arguments))
        assert seen.pop() == arguments


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_handlers_and_task_functions_take_the_same(on_sqlite: Bench, method: str) -> None:
    """Each kind of parameter, naive datetimes, and what a form cannot say where there is JSON."""
    seen: list[Any] = []

    def function(
        first: int, /, at: datetime | None = None, *rest: int, key: bool = True, **more: Any
    ) -> None:
        seen.append((first, at, rest, key, more))

    handler = on_sqlite.tasks.worker("/w", methods=(method,))(function)
    task = on_sqlite.tasks.task(function)
    naive = datetime(2026, 1, 2)  # noqa: DTZ001 - the naive one
    for args, kwargs in (
        ((1,), {}),
        ((1, naive), {"key": False}),
        ((1, naive, 2, 3), {"rest": "x"}),
        *([((1, None), {"more": [{"a": None}]})] if method == "POST" else []),
    ):
        on_sqlite.run(handler.add(*args, **kwargs))
        on_sqlite.run(task.enqueue(*args, **kwargs))
        assert seen.pop() == seen.pop()
        function(*args, **kwargs)
        on_sqlite.run(handler.add(*args, **kwargs))
        assert seen.pop() == seen.pop()


def test_handlers_and_task_functions_refuse_the_same(on_sqlite: Bench) -> None:
    """In the same words, where they are declared and where they are called."""

    def function(at: datetime, *rest: int, client: complex = 1j) -> None: ...

    def unusable(number: complex) -> None: ...

    handler = on_sqlite.tasks.worker("/w")(function)
    task = on_sqlite.tasks.task(function)
    for args, kwargs in (
        (("today",), {}),
        ((datetime(2026, 1, 2, fold=1),), {}),  # noqa: DTZ001 - what is naive twice
        ((datetime.now(UTC), 2.5), {}),
        ((datetime.now(UTC),), {"client": 2j}),
    ):
        said = []
        for add in (handler.add, task.enqueue):
            with pytest.raises(InvalidTaskError, match="of handler") as refusal:
                add(*args, **kwargs)
            said.append(str(refusal.value))
        assert said[0] == said[1]
    for declare in (on_sqlite.tasks.worker("/v"), on_sqlite.tasks.task):
        with pytest.raises(TypeError, match=r"'number' of handler .*complex.* cannot be converted"):
            declare(unusable)


def test_the_variables_of_a_url_may_be_positional_only(on_sqlite: Bench) -> None:
    """Beside arguments of the body."""
    seen: list[Any] = []

    @on_sqlite.tasks.worker("/item/<int:item>")
    def handler(item: int, /, *tags: str) -> None:
        seen.append((item, tags))

    on_sqlite.run(handler.add(7, "a", "b"))
    assert seen == [(7, ("a", "b"))]


def test_a_body_of_its_own_may_be_beside_the_variables_of_a_url(on_sqlite: Bench) -> None:
    """Nothing is read from it if the URL fills every parameter."""
    seen: list[Any] = []

    @on_sqlite.tasks.worker("/item/<int:item>")
    def handler(item: int) -> None:
        seen.append((item, request.get_json()))

    on_sqlite.run(handler.options(json=[1, 2]).add(7))
    assert seen == [(7, [1, 2])]


def test_who_adds_by_url_is_understood_as_before(on_sqlite: Bench) -> None:
    """A form is converted by annotation, also one that an earlier release stored; the last of
    several values is the value.
    """
    seen: list[Any] = []

    @on_sqlite.tasks.worker("/w")
    def handler(n: int, many: list[int], name="x") -> None:
        seen.append((n, many, name))

    on_sqlite.run(on_sqlite.tasks.add("/w", {"n": ["1", "2"], "many": "7", "other": "?"}))
    on_sqlite.run(on_sqlite.tasks.add(handler, {"n": 3, "many": [4, 5], "name": "y"}))
    on_sqlite.run(on_sqlite.tasks.add("/w", json={"n": "5", "many": 6}))
    assert seen == [(2, [7], "x"), (3, [4, 5], "y"), (5, [6], "x")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_query_says_what_a_form_says(on_sqlite: Bench, method: str) -> None:
    """The rest is refused where the method has no body, also when the call chooses it."""
    seen: list[Any] = []

    @on_sqlite.tasks.worker("/w", methods=(method, "POST"))
    def handler(ids: list[int], name: str | None = "x") -> None:
        seen.append((ids, name))

    on_sqlite.run(handler.add([1, 2], "y"))
    for arguments in (([],), ([1], None)):
        with pytest.raises(InvalidTaskError, match=f"the query of a {method} cannot say"):
            handler.add(*arguments)
        on_sqlite.run(handler.options(method="POST").add(*arguments))
    assert seen == [([1, 2], "y"), ([], "x"), ([1], None)]


def test_the_variables_of_a_url_arrive_as_they_were(on_sqlite: Bench) -> None:
    """Beside a form, beside JSON, and from the prefix of a blueprint."""
    seen: list[Any] = []
    blueprint = Blueprint("shop", __name__, url_prefix="/<int:shop>")

    @on_sqlite.tasks.worker("/item/<uuid:item>/<path:place>", blueprint=blueprint)
    def handler(shop: int, item: UUID, place: str, ids: list[int] | None = None) -> None:
        seen.append((shop, item, place, ids))

    on_sqlite.app.register_blueprint(blueprint)
    for ids in (None, [], [1]):
        on_sqlite.run(handler.add(7, UUID(int=1), "a b/é", ids))
        assert seen.pop() == (7, UUID(int=1), "a b/é", ids)


@pytest.mark.parametrize(
    "number",
    [-1, True, "5", 5.0, None, 10**5000],
    ids=lambda it: str(it)[:5] if it != 10**5000 else "large",
)
def test_a_variable_that_would_be_another_is_refused(on_sqlite: Bench, number: Any) -> None:
    """What the rule's converter would not give back, or has no URL for."""
    handler = on_sqlite.tasks.worker("/item/<int:number>")(lambda number: None)
    with pytest.raises(InvalidUrlError):
        handler.add(number)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "\ud800", Markup("x")], ids=ascii)
def test_a_part_of_a_path_that_would_be_another_is_refused(on_sqlite: Bench, name: str) -> None:
    """Such as one that HTTP takes away."""
    handler = on_sqlite.tasks.worker("/page/<name>")(lambda name: None)
    with pytest.raises(InvalidUrlError):
        handler.add(name)


def test_a_url_that_another_handler_answers_is_refused(on_sqlite: Bench) -> None:
    """Two rules may share some URLs; what is added for one never runs the other."""
    seen: list[Any] = []
    on_sqlite.tasks.worker("/item/<int:number>", endpoint="number")(
        lambda number: seen.append(number)
    )
    by_name = on_sqlite.tasks.worker("/item/<name>", endpoint="name")(
        lambda name: seen.append(name)
    )
    on_sqlite.run(by_name.add("a"))
    with pytest.raises(InvalidUrlError, match=r"answered by endpoint 'taskqueue\.number'"):
        by_name.add("7")
    assert seen == ["a"]


def test_a_multidict_has_one_value_for_a_variable(on_sqlite: Bench) -> None:
    """Of several none is chosen."""
    seen: list[Any] = []
    handler = on_sqlite.tasks.worker("/item/<int:number>")(
        lambda number, tag: seen.append((number, tag))
    )
    on_sqlite.run(on_sqlite.tasks.add(handler, MultiDict([("number", "7"), ("tag", "a")])))
    assert seen == [(7, "a")]
    with pytest.raises(InvalidUrlError, match="2 values"):
        on_sqlite.tasks.add(handler, MultiDict([("number", "7"), ("number", "8")]))


def test_a_content_type_that_is_not_the_bodys_is_refused(on_sqlite: Bench) -> None:
    """The handler would not find its arguments."""
    seen: list[Any] = []
    handler = on_sqlite.tasks.worker("/w")(lambda value=None: seen.append(value))
    with pytest.raises(InvalidTaskError, match="Content-Type"):
        handler.options(headers={"content-type": "text/plain"}).add("x")
    with pytest.raises(InvalidTaskError, match="exclude each other"):
        handler.options(json={"value": 1}).add("x")
    on_sqlite.run(handler.options(headers={"Content-Type": "application/json"}).add(1))
    on_sqlite.run(handler.options(json={"value": 2}).add())
    assert seen == [1, 2]


def test_the_applications_own_json_changes_nothing(on_sqlite: Bench) -> None:
    """What was tried at the call is what reads the body."""
    seen: list[Any] = []
    handler = on_sqlite.tasks.worker("/w")(lambda value: seen.append(value))
    on_sqlite.app.json.loads = lambda *_, **__: {"value": "altered"}  # type: ignore[method-assign]
    on_sqlite.run(handler.add([1.5]))
    assert seen == [[1.5]]


def test_every_argument_of_add_is_an_option(on_sqlite: Bench) -> None:
    """transactional too: as the option says, unless the call says otherwise."""
    handler = on_sqlite.tasks.worker("/w")(lambda value=None: None)
    function = on_sqlite.tasks.task(name="f")(lambda value=None: None)
    handler.options(transactional=True).add("x")
    function.options(transactional=True).enqueue("x")
    on_sqlite.tasks.add(TaskSpec("/w", transactional=True))
    on_sqlite.tasks.queue("default").add(handler.options(transactional=True).spec())
    on_sqlite.db.session.rollback()
    assert on_sqlite.tasks.find() == []
    on_sqlite.tasks.add(handler.options(transactional=True).spec(), transactional=False)
    on_sqlite.db.session.rollback()
    assert len(on_sqlite.tasks.find()) == 1


def test_what_is_added_together_is_transactional_together(on_sqlite: Bench) -> None:
    """One of them cannot say it, nor what follows a task, nor a schedule."""
    handler = on_sqlite.tasks.worker("/w")(lambda value=None: None)
    spec = handler.options(transactional=True).spec()
    for add in (
        lambda: on_sqlite.tasks.batch([spec]),
        lambda: on_sqlite.tasks.add_many([spec]),
        lambda: on_sqlite.tasks.queue("default").add([spec]),
        lambda: on_sqlite.tasks.add("/w", then=spec),
    ):
        with pytest.raises(InvalidTaskError, match="transactional"):
            add()
    with pytest.raises(InvalidScheduleError, match="transactional"):
        on_sqlite.tasks.schedule("s", "/w", "every 5 minutes", transactional=True)


def hiding(function: Any) -> Any:
    """A plain decorator, which hides what kind of function it wraps."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def test_what_is_to_be_awaited_is_awaited(on_sqlite: Bench) -> None:
    """Though a decorator hides that the function is async; in transactional ones too."""
    counter, seen = on_sqlite.Counter, []

    async def bump(by: int) -> None:
        on_sqlite.db.session.get(counter, 1).count += by
        seen.append(by)

    on_sqlite.tasks.worker("/w", transactional=True)(hiding(bump)).add(1)
    on_sqlite.tasks.task(name="bump", transactional=True)(hiding(bump)).enqueue(10)
    on_sqlite.tasks.drain()
    assert (sorted(seen), on_sqlite.count()) == ([1, 10], 11)


def test_a_generator_that_is_returned_does_not_count_as_done(on_sqlite: Bench) -> None:
    """A task function's is a permanent failure; a handler's runs to its end, within its
    transaction, before it is the reply.
    """
    counter = on_sqlite.Counter

    def generate() -> Any:
        on_sqlite.db.session.get(counter, 1).count += 1
        yield "made"

    async def generate_async() -> Any:
        yield "made"

    lazy = {"a": hiding(generate), "b": hiding(generate_async), "e": contextmanager(generate)}
    functions = [on_sqlite.tasks.task(name=name)(one) for name, one in lazy.items()]
    streaming = on_sqlite.tasks.worker("/a", endpoint="c", transactional=True)(hiding(generate))
    unusable = on_sqlite.tasks.worker("/b", endpoint="d")(hiding(generate_async))
    for never in (*(function.enqueue() for function in functions), unusable.add()):
        dead = on_sqlite.run(never)
        assert (dead.state, "whose work has not run" in str(dead.last_error)) == (State.DEAD, True)
    done = on_sqlite.run(streaming.options(keep_result=True).add())
    assert done.result is not None
    assert (done.result.text, on_sqlite.count()) == ("made", 1)
