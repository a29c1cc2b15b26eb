"""What is given arrives as it was: the converter of arguments, by table and by property."""

from __future__ import annotations

import enum
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import parse_qs
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue.core.arguments import equality as sameness
from flask_taskqueue.core.arguments.arguments import Arguments
from flask_taskqueue.core.arguments.equality import same
from flask_taskqueue.core.arguments.refusals import Misfit
from flask_taskqueue.core.errors import InvalidTaskError
from flask_taskqueue.core.tasks.request import build_request


class Size(enum.Enum):
    """Values of two types that look alike, and one that JSON has not."""

    ONE = 1
    TEXT = "1"
    PAIR = (1, 2)


class Number(enum.IntEnum):
    """A number too."""

    ONE = 1


class Name(str):
    """A text too."""


class Rights(enum.Flag):
    """Members may be put together."""

    READ = 1
    WRITE = 2


@dataclass
class Part:
    """A dataclass."""

    number: int
    names: list[str] = field(default_factory=list)
    at: datetime | None = None


@dataclass
class Spare(Part):
    """One below it."""


@dataclass
class Scaled:
    """One that is made with a value that it does not keep as such."""

    number: int
    factor: InitVar[int] = 1

    def __post_init__(self, factor: int) -> None:
        self.result = self.number * factor


NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
NAIVE = datetime(2026, 1, 2)  # noqa: DTZ001 - the naive one


def one(hint: Any = None) -> Any:
    """A function with one parameter, annotated so; not at all without."""

    def handler(value: Any = "the default") -> None: ...

    handler.__annotations__ = {} if hint is None else {"value": hint}
    return handler


def needing(hint: Any) -> Any:
    """A function with one parameter, annotated so, that has no default."""

    def handler(value: Any) -> None: ...

    handler.__annotations__ = {"value": hint}
    return handler


def sent(function: Any, *args: Any, **options: Any) -> Any:
    """What the function gets of its only argument, through a request; and whether that was a
    form.
    """
    arguments = Arguments(function)
    form, body = arguments.write(args, {}, **options)
    if body is None:
        request = build_request("/w", form, max_body=10**6)
        texts = parse_qs(request.body.decode(), keep_blank_values=True)
        return arguments.bind(texts, form=True)[1]["value"], True
    request = build_request("/w", json=body, max_body=10**6)
    return arguments.bind(json.loads(request.body))[1]["value"], False


@pytest.mark.parametrize(
    ("hint", "value", "form"),
    [
        (str, "a", True),
        (str, "é\r\n&=+%", True),
        (str, "", True),
        (int, 2**70, True),
        (float, -0.0, True),
        (bool, False, True),
        (datetime, NOW, True),
        (datetime, NAIVE, True),
        (datetime | None, NAIVE, True),
        (list[datetime], [NAIVE, NOW], True),
        (date, date(2026, 1, 2), True),
        (Decimal, Decimal("1.10"), True),
        (UUID, UUID(int=7), True),
        (Size, Size.ONE, False),
        (Size, Size.TEXT, True),
        (Size, Size.PAIR, False),
        (Number, Number.ONE, True),
        (Rights, Rights.READ | Rights.WRITE, True),
        (Literal["1", 1], 1, False),
        (list[int], [1, 2], True),
        (list[int], [], False),
        (list[int] | None, None, False),
        (int | None, None, False),
        (int | str, "7", True),
        (int | str, 7, False),
        (int | list[int], 7, False),
        (int | list[int], [7], False),
        (list[int | None], [1, None], False),
        (list[list[int]], [[1], []], False),
        (tuple[int, str], (1, "a"), True),
        (set[int], {1, 2}, True),
        (dict, {"a": {"b": None}}, False),
        (dict[int, date], {1: date(2026, 1, 2)}, False),
        (bytes, b"\x00\xff", False),
        (time, time(12, 30, tzinfo=UTC), True),
        (timedelta, timedelta(days=1, microseconds=5), False),
        (Part, Part(1, ["a"], NOW), False),
        (list[Part], [Part(1)], False),
        (Scaled, Scaled(2), False),
        (deque, deque([1, 2]), False),
        (None, "text", True),
        (None, 7, False),
        (None, True, False),
        (None, ["a", "b"], False),
        (None, {"a": [1, None, {"b": []}]}, False),
        (object, [1, [2]], False),
    ],
    ids=lambda it: str(it)[:30],
)
def test_a_value_arrives_as_it_was(hint: Any, value: Any, form: bool) -> None:
    """In a form where that says it exactly, otherwise in JSON; never by way of the default."""
    arrived, as_form = sent(one(hint), value)
    assert same(value, arrived)
    assert as_form is form


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (str, 7, "annotated str"),
        (str, ["a", "b"], "annotated str"),
        (str, Name("a"), "of type str"),
        (int, True, "annotated int"),
        (int, "7", "of type int"),
        (int, 2.0, "of type int"),
        (int, Number.ONE, "of type int"),
        (int, 10**5000, "more digits"),
        (float, 2**53 + 1, "annotated float"),
        (float, float("nan"), "annotated float"),
        (datetime, NAIVE.replace(fold=1), "naive, and its fold would be lost; attach its time"),
        (list[datetime], [NAIVE.replace(fold=1)], r"list\[datetime"),
        (list[int], [1, None], r"list\[int\]"),
        (list[int], (1, 2), "of type list"),
        (list[int], [True], "annotated"),
        (Sequence[int], [1], "of type tuple"),
        (time, time(12, tzinfo=ZoneInfo("Europe/Berlin")), "no offset"),
        (Part, Spare(1), "of type Part"),
        (Part, {"number": 1}, "annotated Part"),
        (Part, Part("x"), "annotated Part"),  # type: ignore[arg-type]
        (Scaled, Scaled(2, 3), "annotated Scaled"),
        (deque, deque([1, 2], maxlen=2), "annotated deque"),
        (dict[str, Any], {1: "a"}, "annotated"),
        (dict, {1: "a", "1": "b"}, "annotated dict"),
        (None, b"abc", "no annotation"),
        (None, object(), "no annotation"),
        (None, (1, 2), "of type list"),
        (None, {1}, "no annotation"),
        (None, NOW, "no annotation"),
        (None, [float("inf")], "no annotation"),
        (None, "\ud800", "surrogate"),
        (None, {"a": ["\ud800"]}, "no annotation"),
        (None, {"\ud800": 1}, "no annotation"),
    ],
    ids=lambda it: ascii(it).partition(" at 0x")[0][:30] if it != 10**5000 else "very large",
)
def test_a_value_that_would_be_another_is_refused(hint: Any, value: Any, words: str) -> None:
    """At the call, with the parameter's name and the reason; not with the value, which may be a
    secret.
    """
    for write in (Arguments(one(hint)).write, Arguments(one(hint)).write_json):
        with pytest.raises(InvalidTaskError, match=rf"parameter 'value' of handler .* {words}"):
            write((value,), {})


@pytest.mark.parametrize("value", [None, [], [[1]], {"a": 1}, 7, Part(1)], ids=str)
def test_what_a_query_cannot_say_is_refused_where_there_is_no_body(value: Any) -> None:
    """Saying which it is, and what to do."""
    with pytest.raises(
        InvalidTaskError, match=r"'value' .* the query of a GET cannot say.* a body"
    ):
        Arguments(one()).write((value,), {}, form="the query of a GET")


def test_a_value_that_contains_itself_is_refused() -> None:
    """So is one that is nested deeper than a reader may go."""
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(150):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(InvalidTaskError, match="'value'"):
            sent(one(), value)


def test_an_int_is_taken_for_a_float() -> None:
    """As type checkers do; it arrives as one."""
    assert sent(one(float), 7) == (7.0, True)


def test_a_row_of_the_database_is_no_annotation() -> None:
    """What arrived would be a copy."""

    class Row:
        __mapper__ = "SQLAlchemy's"

    for hint in (Row, list[Row], Row | None, complex, dict[str, complex], tuple[complex, ...]):
        with pytest.raises(TypeError, match="cannot be converted"):
            Arguments(needing(hint))


def test_an_annotation_that_cannot_be_read_is_refused() -> None:
    """As one of a name that only type checkers import."""
    with pytest.raises(TypeError, match=r"'Nowhere' is not defined.*not for type checkers only"):
        Arguments(one("Nowhere"))


def test_a_handler_may_have_a_parameter_that_no_task_fills() -> None:
    """One with a default; a task that brings it is refused."""

    def handler(number: int, client: complex = 1j) -> None: ...

    arguments = Arguments(handler)
    assert arguments.bind(arguments.write_json((1,), {})) == ([], {"number": 1})
    for write in (arguments.write, arguments.write_json):
        with pytest.raises(InvalidTaskError, match="'client'"):
            write((1, 2j), {})
    with pytest.raises(Misfit, match="'client'"):
        arguments.bind({"number": 1, "client": 1})


@pytest.mark.parametrize(
    ("hint", "raw"),
    [
        (list[list[str]], ["abc"]),
        (dict[str, set[str]], {"a": "abc"}),
        (Part, {"number": 1, "names": "ab"}),
        (bool, "maybe"),
        (bytes, "x"),
        (int, 1.5),
        (timedelta, 1e300),
    ],
    ids=str,
)
def test_what_only_looks_like_it_is_not_taken(hint: Any, raw: Any) -> None:
    """A text is no list of its characters, half a number no number."""
    with pytest.raises(Misfit, match="'value'"):
        Arguments(one(hint)).bind({"value": raw})


def test_one_value_where_a_list_is_asked_for_is_a_list_of_it() -> None:
    """For who writes the body by hand, in a form and in JSON."""
    arguments = Arguments(one(list[str]))
    assert arguments.bind({"value": ["abc"]}, form=True) == ([], {"value": ["abc"]})
    assert arguments.bind({"value": "abc"}) == ([], {"value": ["abc"]})


@pytest.mark.parametrize(
    ("given", "arrived"),
    [
        (True, 1),
        (1.0, 1),
        (1, True),
        (0.0, -0.0),
        ([1], (1,)),
        ([True], [1]),
        ({1}, {True}),
        ({"a": 1}, {"a": True}),
        ({1: "a"}, {True: "a"}),
        (Decimal("1.1"), Decimal("1.10")),
        (NAIVE, NAIVE.replace(fold=1)),
        (NAIVE, NAIVE.replace(tzinfo=UTC)),
        (NOW, NOW.astimezone(timezone(timedelta(hours=1)))),
        (NOW.date(), NAIVE),
        (Part(1), Part(True)),
        (Part(1), Spare(1)),
    ],
    ids=str,
)
def test_equal_is_not_the_same(given: Any, arrived: Any) -> None:
    """Types count, all through, and signs, digits and offsets."""
    assert not same(given, arrived)
    assert same(given, given)


def test_an_instant_is_the_same_without_the_name_of_its_zone() -> None:
    """Also in the hour that comes twice, of which Python says that it is equal to no other."""
    twice = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    arrived, _ = sent(one(datetime), twice)
    assert same(twice, arrived)
    assert arrived.utcoffset() == timedelta(hours=1)


def test_a_frozen_clock_is_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests put a class of their own in the place of datetime."""

    class FakeDatetime(datetime):
        pass

    monkeypatch.setattr(sameness, "datetime", FakeDatetime)
    assert sent(one(datetime), FakeDatetime(2026, 1, 2, tzinfo=UTC))[0] == datetime(
        2026, 1, 2, tzinfo=UTC
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)
ANYTHING = (
    JSON
    | st.text()
    | st.binary()
    | st.floats()
    | st.datetimes()
    | st.sets(st.integers())
    | st.tuples(JSON, JSON)
    | st.timedeltas()
)


@pytest.mark.slow
@given(JSON)
def test_all_that_json_has_arrives_without_annotation(value: Any) -> None:
    """Types and all."""
    assert same(value, sent(one(), value)[0])


@given(
    st.sampled_from(
        [
            None,
            str,
            int,
            float,
            bool,
            bytes,
            datetime,
            timedelta,
            list,
            list[int],
            dict,
            set[int],
            int | None,
            Size,
            Part,
            Any,
        ]
    ),
    ANYTHING,
)
def test_whatever_is_given_arrives_or_is_refused(hint: Any, value: Any) -> None:
    """There is no third way: no other value, no default, no other error."""
    try:
        arrived, _ = sent(one(hint), value)
    except InvalidTaskError:
        return
    assert same(value, arrived)


@given(
    st.builds(
        Part, st.integers(), st.lists(TEXTS), st.none() | st.datetimes(timezones=st.timezones())
    )
)
def test_dataclasses_arrive(part: Part) -> None:
    """Whatever is in them."""
    assert same([part], sent(one(list[Part]), [part])[0])
