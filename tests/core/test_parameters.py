"""How a handler's named parameters are filled."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import parse_qs
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue.core.arguments.arguments import Arguments
from flask_taskqueue.core.arguments.refusals import Misfit
from flask_taskqueue.core.errors import InvalidTaskError
from flask_taskqueue.core.tasks.request import build_request


class Colour(Enum):
    """An enumeration to convert to."""

    RED = "r"
    BLUE = "b"


class Options(TypedDict, total=False):
    """Named arguments, each with a type of its own."""

    number: int


def everything(
    text: str,
    number: int,
    ratio: float,
    flag: bool,
    at: datetime,
    day: date,
    key: UUID,
    amount: Decimal,
    colour: Colour,
    mode: Literal["fast", "slow"],
    many: list[int],
    maybe: int | None = None,
    plain="x",
) -> None:
    """A handler with a parameter of each kind."""


def bound(
    function: Callable[..., Any], values: dict[str, Any], *, form: bool = True, **options: Any
) -> dict[str, Any]:
    """The arguments that a task's values give, all of them by name."""
    args, kwargs = Arguments(function).bind(values, form=form, **options)
    assert args == []
    return kwargs


def test_each_type_is_converted() -> None:
    """A form's texts become what the annotations say."""
    values = {
        "text": ["a"],
        "number": ["-3"],
        "ratio": ["1.5"],
        "flag": ["On"],
        "at": ["2026-01-02T03:04:05Z"],
        "day": ["2026-01-02"],
        "key": ["12345678-1234-5678-1234-567812345678"],
        "amount": ["1.10"],
        "colour": ["b"],
        "mode": ["fast"],
        "many": ["1", "2"],
        "plain": ["y"],
    }
    assert bound(everything, values) == {
        "text": "a",
        "number": -3,
        "ratio": 1.5,
        "flag": True,
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "key": UUID("12345678-1234-5678-1234-567812345678"),
        "amount": Decimal("1.10"),
        "colour": Colour.BLUE,
        "mode": "fast",
        "many": [1, 2],
        "plain": "y",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", "1.5"),
        ("number", True),
        ("number", 1.5),
        ("ratio", "x"),
        ("flag", "maybe"),
        ("at", "now"),
        ("at", 5),
        ("day", "tomorrow"),
        ("key", "1234"),
        ("amount", "ten"),
        ("colour", "green"),
        ("mode", "medium"),
        ("many", "x"),
        ("text", {"a": 1}),
    ],
)
def test_a_value_that_does_not_fit_is_told(name: str, value: Any) -> None:
    """It names the parameter and the handler."""
    others = dict.fromkeys(everything.__annotations__.keys() - {name})
    for form in (True, False):
        with pytest.raises(Misfit, match=f"'{name}' of handler everything has a value that is no"):
            Arguments(everything).bind({name: value}, form=form, filled=others)


def test_a_missing_value_is_told() -> None:
    """Unless it has a default or may be None."""

    def handler(needed: int, optional: int | None, other: int = 5) -> None: ...

    with pytest.raises(Misfit, match=r"'needed' of handler .* is missing"):
        bound(handler, {})
    assert bound(handler, {"needed": "1"}) == {"needed": 1, "optional": None}


def test_the_rest_goes_to_keyword_arguments_and_url_variables_are_left() -> None:
    """**kwargs takes what is not named; what the URL fills is passed on, whatever the body says."""

    def handler(number: int, **rest: str) -> None: ...

    assert bound(
        handler, {"a": ["1"], "number": ["2"], "shop": ["3"]}, filled={"number": 7, "shop": 8}
    ) == {"number": 7, "shop": 8, "a": "1"}


def call(function: Callable[..., Any], values: dict[str, Any], *, form: bool) -> Any:
    """What the function returns when a task with these values calls it."""
    args, kwargs = Arguments(function).bind(values, form=form)
    return function(*args, **kwargs)


def starred(first: int, /, second: str = "b", *rest: int, key: bool = True, **more: date) -> Any:
    """A handler with a parameter of each kind, which returns what it got."""
    return first, second, rest, key, more


@pytest.mark.parametrize(
    ("args", "kwargs", "stored"),
    [
        ((1,), {}, {"first": 1}),
        ((1, "x"), {"key": False}, {"first": 1, "second": "x", "key": False}),
        ((1, "x", 2, 3), {}, {"first": 1, "second": "x", "*rest": [2, 3]}),
        ((1,), {"z": date(2026, 1, 2)}, {"first": 1, "z": "2026-01-02"}),
        (
            (1,),
            {"rest": date(2026, 1, 2), "more": date(2026, 1, 3)},
            {"first": 1, "rest": "2026-01-02", "more": "2026-01-03"},
        ),
    ],
    ids=str,
)
def test_each_kind_of_parameter_is_carried_by_name(
    args: Any, kwargs: Any, stored: dict[str, Any]
) -> None:
    """By JSON and by a form alike, so that one added later does not invalidate stored tasks."""
    arguments = Arguments(starred)
    assert arguments.write_json(args, kwargs) == stored
    form, body = arguments.write(args, kwargs)
    assert body is None
    request = build_request("/w", form, max_body=10**6)
    texts = parse_qs(request.body.decode(), keep_blank_values=True)
    for values, as_form in ((stored, False), (texts, True)):
        assert call(starred, values, form=as_form) == starred(*args, **kwargs)


def test_a_default_stands_before_the_rest_of_the_positional_arguments() -> None:
    """Where a task that was stored earlier brings no value for it."""
    assert call(starred, {"first": 1, "*rest": [2]}, form=False) == (1, "b", (2,), True, {})


@pytest.mark.parametrize("name", ["first", "*rest"])
def test_two_arguments_of_one_name_are_refused(name: str) -> None:
    """Python allows them where one is positional only; a task has one value for a name."""
    with pytest.raises(InvalidTaskError, match="not the only argument of that name"):
        Arguments(starred).write_json((1,), {name: date(2026, 1, 2)})


def test_a_decorator_may_add_what_the_task_does_not_bring() -> None:
    """Defaults are left to the function, and all else is passed by name."""

    def function(number: int, client: object = None) -> Any:
        return number, client

    @functools.wraps(function)
    def with_client(*args: Any, **kwargs: Any) -> Any:
        return function(*args, client="made here", **kwargs)

    assert call(with_client, {"number": 7}, form=False) == (7, "made here")


def test_an_annotation_that_no_task_can_fill_is_refused() -> None:
    """At once, where it is declared, unless the parameter has a default."""

    def plain(a: complex) -> None: ...
    def positional(*a: complex) -> None: ...
    def named(**a: complex) -> None: ...
    def options(**a: Unpack[Options]) -> None: ...

    for function, name in ((plain, "a"), (positional, "*a"), (named, "**a"), (options, "**a")):
        with pytest.raises(TypeError, match=rf"'{re.escape(name)}' of handler .* cannot be conv"):
            Arguments(function)


def test_a_call_that_does_not_fit_is_a_type_error() -> None:
    """handler.add() checks its arguments as a call of the handler would."""
    with pytest.raises(TypeError, match="number"):
        Arguments(everything).write(("a",), {})


@given(
    st.builds(
        dict,
        text=st.text(st.characters(exclude_categories=["Cs"])),
        number=st.integers(),
        ratio=st.floats(allow_nan=False, allow_infinity=False),
        flag=st.booleans(),
        at=st.datetimes(timezones=st.just(UTC))
        | st.datetimes().map(lambda naive: naive.replace(fold=0)),
        day=st.dates(),
        key=st.uuids(),
        amount=st.decimals(allow_nan=False, allow_infinity=False),
        colour=st.sampled_from(Colour),
        mode=st.sampled_from(["fast", "slow"]),
        many=st.lists(st.integers(), min_size=1, max_size=5),
        maybe=st.none() | st.integers(),
    )
)
def test_what_is_added_is_what_arrives(arguments: dict[str, Any]) -> None:
    """Every value of every type is the same: in a form, or in JSON if one of them is None."""
    form, body = Arguments(everything).write((), arguments)
    assert (body is None) == (arguments["maybe"] is not None)
    if body is None:
        request = build_request("/w", form, max_body=10**6)
        values = parse_qs(request.body.decode(), keep_blank_values=True)
    else:
        values = json.loads(build_request("/w", json=body, max_body=10**6).body)
    assert bound(everything, values, form=body is None) == arguments
