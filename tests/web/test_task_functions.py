"""Task functions: plain functions that are run as tasks."""

from __future__ import annotations

import enum
import io
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from flask import Response
from werkzeug.exceptions import NotFound

from flask_taskqueue import (
    InvalidTaskError,
    InvalidTaskNameError,
    PermanentFailure,
    Retry,
    State,
    TaskSpec,
    current_task,
)
from flask_taskqueue.core.arguments.arguments import Arguments
from flask_taskqueue.core.arguments.refusals import Misfit
from tests.apps import Bench


class Size(enum.Enum):
    """An enumeration."""

    SMALL = "s"
    LARGE = 2


@dataclass
class Order:
    """A dataclass with another inside."""

    number: UUID
    total: Decimal
    placed_at: datetime
    size: Size = Size.SMALL
    following: Order | None = None


ORDER = Order(
    UUID(int=7),
    Decimal("1.50"),
    datetime(2026, 1, 1, tzinfo=UTC),
    Size.LARGE,
    Order(UUID(int=8), Decimal(2), datetime(2026, 1, 2, tzinfo=UTC)),
)
VALUES: list[tuple[Any, Any]] = [
    (int, 7),
    (str, "é\U0001f600"),
    (float, 1.5),
    (bool, False),
    (bytes, b"\x00\xff"),
    (datetime, datetime(2026, 1, 1, 12, 30, 0, 5, tzinfo=UTC)),
    (date, date(2026, 1, 1)),
    (time, time(12, 30)),
    (timedelta, timedelta(days=1, microseconds=5)),
    (UUID, UUID(int=7)),
    (Decimal, Decimal("1.10")),
    (Size, Size.LARGE),
    (Order, ORDER),
    (Order | None, None),
    (list[Order], [ORDER]),
    (dict[str, Decimal], {"a": Decimal(1)}),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (Any, {"a": [1, None, "x"]}),
    (int | str, "7"),
]


def hiding(function: Callable[[], Any]) -> Callable[[], Any]:
    """A task function that returns what another returns."""

    def call() -> Any:
        return function()

    return call


def function_of(hint: Any) -> Any:
    """A function with one parameter."""

    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": hint}
    return function


@pytest.mark.parametrize(("hint", "value"), VALUES, ids=lambda one: str(one)[:30])
def test_a_value_of_its_type_comes_back_the_same(hint: Any, value: Any) -> None:
    """Through JSON."""
    arguments = Arguments(function_of(hint))
    loaded = arguments.bind(arguments.write_json((value,), {}))[1]["value"]
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "7"),
        (str, 7),
        (int, 1.5),
        (Any, (1, 2)),
        (Any, ORDER),
        (Any, {1}),
        (float, math.nan),
        (Order, {"number": 1}),
        (Any, object()),
        (UUID, 7),
    ],
    ids=lambda one: str(one).partition(" at 0x")[0][:30],
)
def test_a_value_that_would_change_is_refused_at_the_call(hint: Any, value: Any) -> None:
    """With the name of the parameter."""
    with pytest.raises(InvalidTaskError, match="parameter 'value' of handler"):
        Arguments(function_of(hint)).write_json((value,), {})


def test_a_value_that_contains_itself_is_refused() -> None:
    """Like any other that JSON cannot hold."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidTaskError, match="'value'"):
        Arguments(function_of(Any)).write_json((value,), {})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "'value' of handler .* is missing"),
        ({"value": "x"}, "'value' of handler .* has a value that is no int"),
    ],
)
def test_a_stored_task_that_no_longer_fits_is_told(values: dict[str, Any], words: str) -> None:
    """Saying which parameter."""
    with pytest.raises(Misfit, match=words):
        Arguments(function_of(int)).bind(values)


def test_a_stored_task_with_an_argument_too_many_is_told() -> None:
    """As one that a newer release has added; the function would ignore it."""
    with pytest.raises(Misfit, match=r"handler .* has no parameter 'old', which the task brings"):
        Arguments(function_of(int)).check_names({"value": 1, "old": 2})


def a_failed_future() -> Future[None]:
    future: Future[None] = Future()
    future.set_exception(ValueError("failed in the pool"))
    return future


@dataclass
class Report:
    """A result with a part."""

    rows: Any


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    "make",
    [
        lambda: map(str, "ab"),
        lambda: filter(None, "ab"),
        lambda: {"lines": [chain("ab"), 1]},
        lambda: ((letter for letter in "ab"), 1j),
        lambda: Report(zip("a", "b", strict=True)),
        lambda: {(1, 2): {1}, "sent": [a_failed_future()]},
        a_failed_future,
        lambda: coroutine,
    ],
)
def test_a_result_whose_work_has_not_run_is_a_permanent_failure(
    on_sqlite: Bench, make: Callable[[], Any]
) -> None:
    """Wherever in the result it is, and whatever JSON says of the rest; also a function that was
    not called.
    """
    dead = on_sqlite.run(on_sqlite.tasks.task(name="lazy")(lambda: make()).enqueue())
    assert (dead.state, dead.attempts) == (State.DEAD, 1)
    assert re.search(r"returned a \w+( in a \w+)?, whose work has not run", str(dead.last_error))


def test_coroutines_in_a_result_are_a_permanent_failure(on_sqlite: Bench) -> None:
    """Only a result that is itself awaitable is awaited."""
    made: list[Any] = []

    @on_sqlite.tasks.task
    async def several() -> list[Any]:
        made.extend((coroutine(), coroutine()))
        return made

    dead = on_sqlite.run(several.enqueue())
    for one in made:
        one.close()
    assert (dead.state, "a coroutine in a list" in str(dead.last_error)) == (State.DEAD, True)


def test_what_a_function_returns_by_the_way_changes_nothing(on_sqlite: Bench) -> None:
    """Rows, also as dataclasses whose session is gone, results of statements, files, objects,
    and containers of them.
    """
    db, counter = on_sqlite.db, on_sqlite.Counter

    class Gone:
        def __get__(self, row: Any, kind: Any) -> str:
            if row is None:
                return ""
            raise LookupError("the session is gone")

    @dataclass
    class Row:
        name: str = Gone()  # type: ignore[assignment]

        def __init__(self) -> None: ...

    results: list[Callable[[], Any]] = [
        lambda: db.session.get(counter, 1),
        lambda: db.session.execute(sa.select(counter)),
        lambda: db.session.scalars(sa.select(counter)),
        lambda: io.StringIO("a"),
        lambda: [object(), {1j}],
        lambda: Response,
        Row,
    ]
    functions = [
        on_sqlite.tasks.task(name=f"f{number}")(hiding(result))
        for number, result in enumerate(results)
    ]
    tasks = [on_sqlite.run(function.enqueue()) for function in functions]
    assert {task.state for task in tasks} == {State.SUCCEEDED}


def test_a_response_of_a_task_function_is_judged_by_its_status(on_sqlite: Bench) -> None:
    """As a view's: alone, or first in a tuple; its body runs to its end. Another tuple is JSON."""
    ran: list[str] = []

    def rows() -> Iterator[str]:
        yield "made"
        ran.append("rows")

    results: dict[str, Callable[[], Any]] = {
        "streams": lambda: Response(rows()),
        "fails": lambda: Response("the mail server is away", 500),
        "tuple": lambda: (Response("the mail server is away"), 503),
        "exception": lambda: NotFound("no such user"),
        "pair": lambda: ("sent", 500),
    }
    functions = {
        name: on_sqlite.tasks.task(name=name, keep_result=True)(hiding(result))
        for name, result in results.items()
    }
    found = {name: on_sqlite.run(function.enqueue()) for name, function in functions.items()}
    assert {name: task.last_status for name, task in found.items()} == {
        "streams": 200,
        "fails": 500,
        "tuple": 503,
        "exception": 404,
        "pair": 200,
    }
    assert ran == ["rows"]
    result = found["streams"].result
    assert result is not None
    assert result.text == "made"
    assert getattr(found["pair"].result, "json", None) == ["sent", 500]


def test_a_function_is_enqueued_called_and_its_result_kept(on_sqlite: Bench) -> None:
    """It stays callable, and knows its task."""
    seen: list[Any] = []

    @on_sqlite.tasks.task
    def total(order: Order, times: int = 1) -> Decimal:
        seen.append((order, current_task.attempt))
        return order.total * times

    done = on_sqlite.run(
        total.options(keep_result=True, queue="default", priority=3).enqueue(ORDER, times=2)
    )
    assert done.state is State.SUCCEEDED
    assert done.result is not None
    assert done.result.json == "3.00"
    assert seen == [(ORDER, 1)]
    assert done.url == "/_taskqueue/task/total"


def test_its_tasks_are_spelled_like_any_other(on_sqlite: Bench) -> None:
    """In batches, after others, with its own queue's settings, transactional."""
    counter = on_sqlite.Counter

    @on_sqlite.tasks.task(
        name="bump", transactional=True, deadline=9, retry={"task_retry_limit": 0}
    )
    def add_one(step: int) -> None:
        on_sqlite.db.session.get(counter, 1).count += step

    on_sqlite.tasks.batch(
        [add_one.spec(1), add_one.spec(2)], on_finish=add_one.options(countdown=0).spec(10)
    )
    on_sqlite.tasks.add("/_taskqueue/task/bump", json={"step": 100})
    on_sqlite.tasks.add(TaskSpec(add_one.worker, json={"step": 1000}))
    on_sqlite.tasks.drain()
    assert on_sqlite.count() == 1113
    assert add_one.worker.route.deadline == 9


def test_an_unknown_option_is_refused_where_it_is_given(on_sqlite: Bench) -> None:
    """By workers and by functions, with a hint, and nothing is stored."""
    tasks = on_sqlite.tasks

    @tasks.worker("/w")
    def handler() -> None:
        pass

    @tasks.task
    def function() -> None:
        pass

    misspelt: Any = {"countdwn": 3}
    for options in (handler.options, function.options):
        with pytest.raises(TypeError, match="no argument 'countdwn'; did you mean countdown"):
            options(**misspelt)
    assert tasks.find() == []


def test_failures_of_a_function_are_those_of_a_handler(on_sqlite: Bench) -> None:
    """Retry, permanent failure, arguments that do not fit, a body that is none."""

    @on_sqlite.tasks.task
    def fragile(how: str) -> None:
        raise Retry(after=60) if how == "retry" else PermanentFailure("no")

    assert on_sqlite.run(fragile.enqueue("retry")).state is State.SCHEDULED
    assert on_sqlite.run(fragile.enqueue("permanent")).last_error == "no"
    misfit = on_sqlite.run(
        on_sqlite.tasks.add("/_taskqueue/task/fragile", json={"how": 7, "who": 1})
    )
    assert "no parameter 'who'" in str(misfit.last_error)
    assert "not a JSON object" in str(
        on_sqlite.run(on_sqlite.tasks.add("/_taskqueue/task/fragile", json=[1])).last_error
    )
    with pytest.raises(InvalidTaskError, match="'how'"):
        fragile.enqueue(7)  # type: ignore[arg-type]


def test_nobody_else_reaches_it(on_sqlite: Bench) -> None:
    """Its route is guarded like every worker's."""

    @on_sqlite.tasks.task
    def secret() -> None: ...

    assert on_sqlite.app.test_client().post("/_taskqueue/task/secret", json={}).status_code == 403


def test_a_row_names_a_function_only_by_its_registered_name(on_sqlite: Bench) -> None:
    """A URL that is changed in the table leads to a route or to nothing, never to an import."""

    @on_sqlite.tasks.task
    def harmless() -> None: ...

    task = harmless.enqueue()
    table = on_sqlite.store.database.tables.task
    store = on_sqlite.store
    store.transact(
        lambda connection: connection.execute(
            sa.update(table).values(url="/_taskqueue/task/os.system")
        )
    )
    assert on_sqlite.run(task).last_status == 404


def test_two_functions_of_one_name_are_refused(on_sqlite: Bench) -> None:
    """But one that is declared again, as by a factory, takes the place of the former."""

    def declare() -> Any:
        @on_sqlite.tasks.task
        def again() -> str:
            return "again"

        return again

    declare()
    again = declare()
    assert on_sqlite.run(again.enqueue()).state is State.SUCCEEDED
    with pytest.raises(ValueError, match="give one another endpoint or name"):
        on_sqlite.tasks.task(name="again")(lambda: None)
    with pytest.raises(InvalidTaskNameError):
        on_sqlite.tasks.task(name="a b")(lambda: None)


def test_it_stays_the_function_it_was(on_sqlite: Bench) -> None:
    """Called directly, with its name and its documentation."""

    @on_sqlite.tasks.task
    def documented(number: int) -> int:
        """Doubles."""
        return number * 2

    assert documented(4) == 8
    assert (documented.__name__, documented.__doc__) == ("documented", "Doubles.")


def test_a_view_for_every_path_is_no_task_function(on_sqlite: Bench) -> None:
    """As of a release that does not have the function yet, but a page for whatever is asked:
    the task waits for one that has it.
    """
    on_sqlite.app.add_url_rule(
        "/<path:rest>", "page", lambda rest: "hello", methods=["GET", "POST"]
    )
    task = on_sqlite.run(on_sqlite.tasks.add("/_taskqueue/task/of-the-next-release", json={}))
    assert task.state is State.SCHEDULED
    assert "no route for the task" in str(task.last_error)
    assert on_sqlite.run(on_sqlite.tasks.add("/elsewhere")).state is State.SUCCEEDED
