"""How a handler's named parameters are filled."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from urllib.parse import parse_qs
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue.core.arguments.parameters import Parameters
from flask_taskqueue.core.arguments.refusals import Misfit
from flask_taskqueue.core.tasks.request import build_request


class Colour(Enum):
    """An enumeration to convert to."""

    RED = "r"
    BLUE = "b"


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


def bound(function: Callable[..., Any], values: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The arguments that a task's values give."""
    return Parameters.of(function).bind(values, **options)


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
        ("at", "2026-01-02T03:04:05"),
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
    others = everything.__annotations__.keys() - {name}
    with pytest.raises(Misfit, match=f"'{name}' of handler everything"):
        Parameters.of(everything).bind({name: value}, skip=others)


def test_a_missing_value_is_told() -> None:
    """Unless it has a default or may be None."""

    def handler(needed: int, optional: int | None, other: int = 5) -> None: ...

    with pytest.raises(Misfit, match=r"'needed' of handler .* is missing"):
        bound(handler, {})
    assert bound(handler, {"needed": "1"}) == {"needed": 1, "optional": None}


def test_the_rest_goes_to_keyword_arguments_and_url_variables_are_left() -> None:
    """**kwargs takes what is not named; what the URL fills is skipped."""

    def handler(number: int, **rest: str) -> None: ...

    assert bound(handler, {"a": ["1"]}, skip={"number"}) == {"a": "1"}


def test_functions_that_cannot_be_filled_by_name_are_refused() -> None:
    """At once, where they are declared."""

    def positional(a: int, /) -> None: ...

    def starred(*a: int) -> None: ...

    def odd(a: complex) -> None: ...

    for function, word in ((positional, "'a'"), (starred, "'a'"), (odd, "cannot be converted")):
        with pytest.raises(TypeError, match=word):
            Parameters.of(function)


def test_a_call_that_does_not_fit_is_a_type_error() -> None:
    """handler.add() checks its arguments as a call of the handler would."""
    with pytest.raises(TypeError, match="number"):
        Parameters.of(everything).write(("a",), {})


@given(
    st.builds(
        dict,
        text=st.text(st.characters(exclude_categories=["Cs"])),
        number=st.integers(),
        ratio=st.floats(allow_nan=False, allow_infinity=False),
        flag=st.booleans(),
        at=st.datetimes(timezones=st.just(UTC)),
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
    form, body = Parameters.of(everything).write((), arguments)
    assert (body is None) == (arguments["maybe"] is not None)
    if body is None:
        request = build_request("/w", form, max_body=10**6)
        values = parse_qs(request.body.decode(), keep_blank_values=True)
    else:
        values = json.loads(build_request("/w", json=body, max_body=10**6).body)
    assert bound(everything, values, form=body is None) == arguments
