"""Proto3 JSON, resource names and statuses."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf import duration_pb2, field_mask_pb2, json_format, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue.core.rpc import wire
from flask_taskqueue.core.rpc.messages import TEXT, Choice, Dictionary, Message, Repeated
from flask_taskqueue.core.rpc.resource_names import queue_name, task_name
from flask_taskqueue.core.rpc.status import Code, RpcError, of_reply
from flask_taskqueue.core.times import to_datetime


@given(st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)))
def test_durations_are_those_of_protobuf(amount: timedelta) -> None:
    """Read and written, to the microsecond."""
    message = duration_pb2.Duration()
    message.FromTimedelta(amount)
    text = json_format.MessageToDict(message)
    assert wire.duration(text) == amount
    assert wire.duration_text(amount.total_seconds()) == text


@given(st.integers(0, 253_000_000_000_000_000))
def test_timestamps_are_those_of_protobuf(micros: int) -> None:
    """Read and written, to the microsecond, from 1970 to the end of the calendar."""
    instant = to_datetime(micros)
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(instant)
    text = json_format.MessageToDict(message)
    assert wire.timestamp(text) == instant
    assert wire.timestamp_text(micros) == text


@given(st.binary())
def test_bytes_are_read_in_both_alphabets(data: bytes) -> None:
    """Padded or not, as protobuf's parsers do."""
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert wire.data(text) == wire.data(text.rstrip("=")) == data
    assert wire.data_text(data) == base64.b64encode(data).decode()


def test_masks_are_compared_without_case_and_underscores() -> None:
    """As Python sends the one spelling, and Node the other."""
    mask = field_mask_pb2.FieldMask(paths=["rate_limits.max_burst_size", "retry_config"])
    camel = json_format.MessageToDict(mask)
    assert wire.mask(camel) == wire.mask(",".join(mask.paths))


@pytest.mark.parametrize(
    ("read", "value"),
    [
        *((wire.duration, value) for value in ("1", "s", "1.s", "1.0000000001s", "1e3s", 5, None)),
        (wire.duration, "315576000001s"),
        *((wire.timestamp, value) for value in ("2026-01-01", "2026-01-01T00:00:00", 0, "", "Z")),
        *((wire.timestamp, value) for value in ("2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z")),
        (wire.timestamp, "0001-01-01T00:00:00+23:00"),
        *((wire.data, value) for value in ("a", "é", "a b=", b"x", None)),
        *((wire.integer, value) for value in (True, 1.5, "1.0", "", None, 2**63, "9" * 20)),
        *((wire.decimal, value) for value in (True, "NaN", "Infinity", float("inf"), 10**400, "")),
        *((wire.string, value) for value in (1, None, "\ud800")),
        *((wire.boolean, value) for value in (0, "true", None)),
    ],
)
def test_other_values_are_refused(read: Any, value: Any) -> None:
    """By ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message is made where the field is known
        read(value)


COLOUR = Choice({"UNSPECIFIED": 0, "RED": 1})
FRUIT = Message(
    "Fruit",
    {"mainColour": COLOUR, "otherNames": Repeated(TEXT), "notes": Dictionary(TEXT), "id": TEXT},
    output=frozenset({"id"}),
)


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ({}, {}),
        ({"mainColour": "RED"}, {"mainColour": "RED"}),
        ({"main_colour": 1}, {"mainColour": "RED"}),
        ({"mainColour": "1"}, {"mainColour": "RED"}),
        ({"mainColour": 0, "otherNames": None}, {}),
        (
            {"otherNames": ["a", ""], "notes": {"k": "v"}},
            {"otherNames": ["a", ""], "notes": {"k": "v"}},
        ),
        ({"id": 7}, {}),
    ],
)
def test_messages_are_read_as_protobuf_reads_them(given: Any, parsed: Any) -> None:
    """Both spellings, null for nothing, enums by name or number; output fields are ignored."""
    assert FRUIT.parse(given) == parsed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "must be an object"),
        ({"colour": 1}, "no field 'colour'"),
        ({"mainColour": "BLUE"}, "mainColour is 'BLUE'; it must be one of RED"),
        ({"mainColour": 2}, "must be one of RED"),
        ({"otherNames": "a"}, "must be a list"),
        ({"otherNames": [1]}, r"otherNames\[0\] is 1"),
        ({"notes": {"k": 1}}, r"notes\['k'\] is 1"),
        ({"notes": []}, "must be an object"),
    ],
)
def test_what_is_no_such_message_is_refused(given: Any, said: str) -> None:
    """With the place where it is wrong."""
    with pytest.raises(RpcError, match=said) as raised:
        FRUIT.parse(given)
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "name",
    [
        *("", "projects/p", "projects/p/locations/l/queues/a_b", "projects/p/locations/l/queues/"),
        *("/projects/p/locations/l/queues/q", "projects/p/locations/l/queues/q\n"),
    ],
)
def test_names_of_another_form_are_refused(name: str) -> None:
    """The error shows the form."""
    with pytest.raises(RpcError, match="projects/PROJECT_ID"):
        queue_name(name)
    with pytest.raises(RpcError, match="projects/PROJECT_ID"):
        task_name(name)


def test_a_name_is_written_as_it_was_read() -> None:
    """Domains and colons may be in a project."""
    name = "projects/example.com:p-1/locations/l/queues/q/tasks/t_1"
    assert str(task_name(name)) == name


def test_codes_are_those_of_grpc() -> None:
    """Whose numbers they have."""
    grpc = pytest.importorskip("grpc")
    for code in Code:
        assert getattr(grpc.StatusCode, code.name).value[0] == code.number
    assert of_reply(200) == (0, "OK")
    assert of_reply(404) == (5, "NOT_FOUND")
    assert of_reply(418) == (2, "UNKNOWN")
