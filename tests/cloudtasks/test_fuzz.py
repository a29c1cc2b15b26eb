"""No JSON is an error of the server: whatever is sent is answered by a reply or a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_taskqueue.cloudtasks.rpc import Rpc
from flask_taskqueue.cloudtasks.rpcs import RPCS
from flask_taskqueue.core.rpc import messages
from flask_taskqueue.core.rpc.messages import Choice, Dictionary, Kind, Message, Repeated
from tests.apps import Bench, bench
from tests.cloudtasks.doors import BASE, PARENT, QUEUE, SETTINGS, TOKEN

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()))
    | st.sampled_from([QUEUE, PARENT, f"{QUEUE}/tasks/x", f"{BASE}/worker", "1e400", "-1s", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_PLAUSIBLE: dict[int, st.SearchStrategy[Any]] = {
    id(messages.TEXT): st.sampled_from(
        [QUEUE, f"{QUEUE}/tasks/a", f"{BASE}/worker", "https://api.example.com/", "/worker", "a"]
    )
    | st.text(max_size=20),
    id(messages.BYTES): st.sampled_from(["", "AAEC", "_-8", "x"]) | st.text(max_size=8),
    id(messages.DURATION): st.from_regex(r"-?[0-9]{1,13}(\.[0-9]{1,10})?s", fullmatch=True),
    id(messages.TIMESTAMP): st.datetimes().map(lambda when: f"{when.isoformat()}Z")
    | st.from_regex(r"[0-9]{4}-1[0-9]-[0-3][0-9]T[0-2][0-9]:00:00[+-][0-9]{2}:[0-9]{2}"),
    id(messages.INTEGER): st.integers(-(2**65), 2**65) | st.sampled_from(["1", "-1", 1.0, 1.5]),
    id(messages.LONG): st.integers(-(2**65), 2**65).map(str),
    id(messages.DECIMAL): st.floats() | st.sampled_from(["NaN", "7", "1e5", 10**400]),
    id(messages.BOOLEAN): st.booleans(),
}


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Values for a field: mostly such as it may have, and sometimes anything else."""
    if isinstance(kind, Message):
        named = {name: values(field) for name, field in kind.fields.items()}
        likely: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional=named)
    elif isinstance(kind, Choice):
        likely = st.sampled_from([*kind.numbers, *kind.numbers.values(), 99])
    elif isinstance(kind, Repeated):
        likely = st.lists(values(kind.of), max_size=3)
    elif isinstance(kind, Dictionary):
        likely = st.dictionaries(st.sampled_from(["X-A", "Host", "a b", "é"]), values(kind.of))
    elif isinstance(kind, messages.Mask):
        likely = st.sampled_from(
            ["rateLimits", "retry_config,x", "*", ",", "stats", *kind.of.fields]
        )
    else:
        likely = _PLAUSIBLE[id(kind)]
    return st.integers(0, 9).flatmap(lambda number: ANYTHING if number == 0 else likely)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """An app that answers whatever it is sent."""
    folder = tmp_path_factory.mktemp("fuzz")
    with bench(f"sqlite:///{folder / 'fuzz.db'}", **SETTINGS, PROPAGATE_EXCEPTIONS=True) as one:
        one.tasks.worker("/worker", methods=["POST", "GET", "PUT"])(lambda: None)
        yield one


def query(message: dict[str, Any]) -> dict[str, bytes]:
    """The fields of a message as a query."""
    return {
        name: str(one).encode("utf-8", "replace") for name, one in message.items() if name.isascii()
    }


RPC = [rpc for version in RPCS.values() for rpc in version.values()]


@pytest.mark.parametrize("rpc", RPC, ids=lambda rpc: f"{rpc.version}-{rpc.name}")
def test_no_json_is_an_error_of_the_server(fuzzed: Bench, rpc: Rpc) -> None:
    """For each rpc, with a resource that is there: nothing but a reply or a refusal."""
    resource = rpc.form.replace("projects/*", "projects/guests").replace(
        "locations/*", "locations/here"
    )
    resource = resource.replace("queues/*", "queues/default").replace("/*", "/x")
    path = f"/taskqueue/api/{rpc.version}/{resource}{rpc.suffix}"
    whole = values(rpc.request if rpc.body in ("*", None) else rpc.request.fields[str(rpc.body)])

    @settings(
        max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
    )
    @given(whole)
    def answered(message: Any) -> None:
        options: dict[str, Any] = {}
        if rpc.body is not None:
            options = {"data": json.dumps(message), "content_type": "application/json"}
        elif isinstance(message, dict):
            options = {"query_string": query(message)}
        reply = fuzzed.app.test_client().open(
            path, method=rpc.verb, headers={"Authorization": f"Bearer {TOKEN}"}, **options
        )
        assert reply.status_code in (200, 400, 404, 409, 501), reply.text
        document = json.loads(reply.data)
        assert (reply.status_code == 200) != ("error" in document and "status" in document["error"])

    answered()
