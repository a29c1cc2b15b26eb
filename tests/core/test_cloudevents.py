"""CloudEvents: read from and written for the official SDK."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent as Theirs
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue import CloudEvent, InvalidTaskError
from flask_taskqueue.core.arguments.refusals import Misfit
from flask_taskqueue.core.states import Record
from flask_taskqueue.core.tasks.cloudevents import (
    event_headers,
    identity_of,
    is_event,
    read_event,
    with_event,
)

NEEDED = {"id": "1", "source": "/shop", "type": "order.placed"}
BINARY = {"ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-specversion": "1.0"}
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50)
ATTRIBUTES = st.fixed_dictionaries(
    {"id": TEXTS, "source": TEXTS, "type": TEXTS},
    optional={
        "subject": TEXTS,
        "dataschema": TEXTS,
        "time": st.datetimes(timezones=st.just(UTC)),
        "shopnumber": TEXTS,
    },
)
JSON = st.dictionaries(st.text(max_size=5), st.integers() | TEXTS | st.none(), max_size=3)


def same(ours: CloudEvent, theirs: Theirs) -> bool:
    """Whether two events are one."""
    attributes: Any = theirs.get_attributes()
    found = {
        "id": ours.id,
        "source": ours.source,
        "type": ours.type,
        "specversion": ours.specversion,
        "time": ours.time,
        "subject": ours.subject,
        "datacontenttype": ours.datacontenttype,
        "dataschema": ours.dataschema,
        **ours.extensions,
    }
    return {name: value for name, value in found.items() if value is not None} == attributes


@given(ATTRIBUTES, JSON)
def test_what_the_sdk_sends_in_either_mode_is_read(attributes: Any, data: Any) -> None:
    """With every attribute, whatever its characters, and the data."""
    theirs = Theirs({**attributes, "datacontenttype": "application/json"}, data)
    for message in (http.to_binary_event(theirs), http.to_structured_event(theirs)):
        ours = read_event(message.headers, message.body)
        assert same(ours, theirs)
        assert ours.data == data


@given(st.binary(min_size=1, max_size=50))
def test_bytes_arrive_as_bytes_in_either_mode(data: bytes) -> None:
    """In structured mode by way of base64."""
    theirs = Theirs({**NEEDED, "datacontenttype": "application/octet-stream"}, data)
    for message in (http.to_binary_event(theirs), http.to_structured_event(theirs)):
        assert read_event(message.headers, message.body).data == data


STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}


@pytest.mark.parametrize(
    ("given", "data"),
    [
        ({"data": {"n": 1}}, {"n": 1}),
        ({"data": "<a/>", "datacontenttype": "application/xml"}, b"<a/>"),
        ({"data": {"n": 1}, "datacontenttype": "text/plain"}, b'{"n": 1}'),
        ({"data": "a", "datacontenttype": "text/json"}, "a"),
        ({"data_base64": "eyJuIjoxfQ==", "datacontenttype": "application/json"}, {"n": 1}),
        ({"data_base64": "eyJuIjoxfQ==", "datacontenttype": "a/b"}, b'{"n":1}'),
        ({"data_base64": "eyJuIjoxfQ=="}, b'{"n":1}'),
        ({"data": None, "datacontenttype": "a/b", "subject": None, "shopnumber": None}, None),
    ],
)
def test_data_is_json_or_bytes_by_its_content_type(given: dict[str, Any], data: Any) -> None:
    """However structured mode carries it; what is null is absent."""
    body = json.dumps({**NEEDED, "specversion": "1.0", **given}).encode()
    event = read_event(STRUCTURED, body)
    assert (event.data, event.extensions) == (data, {})


def test_each_spelling_of_json_and_of_an_instant_is_read() -> None:
    """Media types by their subtypes, and RFC 3339 in lower case."""
    headers = {**BINARY, "ce-time": "2026-11-30t12:00:00z"}
    for content_type in ("text/json", "Application/JSON; charset=utf-8", "a/b+json"):
        event = read_event({**headers, "content-type": content_type}, b"[1]")
        assert (event.data, event.time) == ([1], datetime(2026, 11, 30, 12, tzinfo=UTC))


@given(ATTRIBUTES)
def test_the_sdk_reads_what_we_send(attributes: Any) -> None:
    """And the id and the time are those of the task, unless the event has a time."""
    record = Record(*[0 if name == "created_at" else "T1" for name in Record._fields])
    del attributes["id"]
    headers = event_headers(attributes)
    headers |= identity_of(record, headers) | {"content-type": "application/json"}
    theirs = http.from_http_event(http.HTTPMessage(headers, b'{"n": 1}'))
    assert theirs.get_id() == "T1"
    assert theirs.get_time() == attributes.get("time", datetime(1970, 1, 1, tzinfo=UTC))
    for name, value in attributes.items():
        assert theirs.get_attributes()[name] == value
    assert theirs.get_data() == {"n": 1}
    assert same(read_event(headers, b'{"n": 1}'), theirs)


def test_values_that_are_no_text_are_written_as_the_specification_says() -> None:
    """Numbers, truths and instants, each as its canonical text."""
    at = datetime(2026, 11, 30, 12, tzinfo=timezone(timedelta(hours=1)))
    assert event_headers(
        {"type": "a b", "source": '/"é%', "time": at, "flag": True, "number": -7, "subject": None}
    ) == {
        "ce-type": "a%20b",
        "ce-source": "/%22%C3%A9%25",
        "ce-time": "2026-11-30T12:00:00+01:00",
        "ce-flag": "true",
        "ce-number": "-7",
        "ce-specversion": "1.0",
    }


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ("order.placed", "must be a mapping"),
        ({}, "needs 'type'"),
        ({"type": "t", "source": ""}, "needs 'source'"),
        ({"type": "t", "source": "/s", "specversion": "0.3"}, "specversion '0.3'"),
        ({"type": "t", "source": "/s", "id": "7"}, "it is the task's id"),
        ({"type": "t", "source": "/s", "data": {}}, "it is the body"),
        ({"type": "t", "source": "/s", "datacontenttype": "text/xml"}, "it is the Content-Type"),
        ({"type": "t", "source": "/s", "my_own": "x"}, "'my_own' of an event must be"),
        ({"type": "t", "source": "/s", 7: "x"}, "attribute 7 of an event must be"),
        ({"type": "t", "source": "/s", "time": "now"}, "give an aware datetime"),
        ({"type": "t", "source": "/s", "time": datetime(2026, 1, 1)}, "give an aware"),  # noqa: DTZ001
        ({"type": "t", "source": "/s", "subject": "a\nb"}, "control characters"),
        ({"type": "t", "source": "/s", "subject": "\ud800"}, "give a text"),
        ({"type": "t", "source": "/s", "subject": ""}, "'subject' of an event is empty"),
        ({"type": "t", "source": "/s", "price": 1.5}, "give a text"),
        ({"type": "t", "source": "/s", "number": 2**31}, "32 bits"),
    ],
)
def test_an_event_that_cannot_be_sent_is_refused(event: Any, told: str) -> None:
    """With the attribute and what to do."""
    with pytest.raises(InvalidTaskError, match=told):
        event_headers(event)


def test_an_event_goes_with_other_headers_but_not_with_its_own() -> None:
    """Nor with a method that has no body."""
    event = {"type": "t", "source": "/s"}
    assert with_event({"X-A": "1"}, event, "POST") == {
        "X-A": "1",
        "ce-type": "t",
        "ce-source": "/s",
        "ce-specversion": "1.0",
    }
    with pytest.raises(InvalidTaskError, match="belongs to the event"):
        with_event({"CE-Type": "other"}, event, "POST")
    with pytest.raises(InvalidTaskError, match="body is an event with its attributes"):
        with_event({"content-type": "application/cloudevents+json"}, event, "POST")
    with pytest.raises(InvalidTaskError, match="GET has no body"):
        with_event(None, event, "GET")


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({}, b"{}", "'id' is missing"),
        ({**BINARY, "ce-type": ""}, b"{}", "'type' is missing"),
        ({**BINARY, "ce-specversion": "0.3"}, b"{}", "specversion '0.3'"),
        ({**BINARY, "ce-time": "yesterday"}, b"{}", "time of the event"),
        ({**BINARY, "ce-time": "2026-01-01T00:00:00"}, b"{}", "without an offset"),
        ({**BINARY, "content-type": "application/json"}, b"{", "no JSON"),
        ({"content-type": "application/cloudevents+json"}, b"[]", "is a JSON object"),
        ({"content-type": "application/cloudevents+json"}, b"[" * 99_999, "no JSON"),
        ({"content-type": "application/cloudevents+json"}, b'{"id": 1}', "'id' is missing"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", "is a batch"),
        ({"content-type": "application/cloudevents+xml"}, b"", "only application/cloudevents"),
        (
            {"content-type": "application/cloudevents+json"},
            json.dumps({**NEEDED, "specversion": "1.0", "data_base64": "?"}).encode(),
            "no base64",
        ),
        (
            {"content-type": "application/cloudevents+json"},
            json.dumps({**NEEDED, "specversion": "1.0", "data": 1, "data_base64": "AA=="}).encode(),
            "both data and data_base64",
        ),
        (
            {"content-type": "application/cloudevents+json"},
            json.dumps({**NEEDED, "data": "\ud800", "datacontenttype": "text/plain"}).encode(),
            "half of a surrogate pair",
        ),
        (
            {"content-type": "application/cloudevents+json"},
            json.dumps({**NEEDED, "specversion": "1.0", "subject": 7}).encode(),
            "'subject' of the event is no text",
        ),
    ],
)
def test_what_is_no_event_is_a_misfit(headers: dict[str, str], body: bytes, told: str) -> None:
    """It says what is missing or malformed."""
    with pytest.raises(Misfit, match=told):
        read_event(headers, body)


@given(
    st.dictionaries(st.sampled_from([*BINARY, "ce-time", "content-type"]), st.text()),
    st.binary(max_size=100),
)
def test_whatever_arrives_is_an_event_or_a_misfit(headers: dict[str, str], body: bytes) -> None:
    """Nothing else is raised."""
    with suppress(Misfit):
        assert read_event(headers, body).specversion == "1.0"


def test_a_quoted_header_is_read_as_the_specification_says() -> None:
    """Though nobody should write one."""
    assert read_event({**BINARY, "ce-type": r'"a \"b\" %2541"'}, b"").type == 'a "b" %41'
    assert is_event({"CE-SpecVersion": "1.0"})
