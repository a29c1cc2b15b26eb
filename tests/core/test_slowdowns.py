"""Slowdowns of receivers: the decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue.core.queues.slowdowns import (
    Slowdown,
    SlowHost,
    UnknownHosts,
    enforced,
    slowdown_target,
    slowed,
)
from flask_taskqueue.core.times import SECOND

NOW = 1_700_000_000 * SECOND
HOST = "a.example:443"


def at(rate: float, *, empty_at: int = NOW) -> Slowdown:
    """A receiver that is slowed to a rate."""
    return Slowdown(HOST, NOW, NOW, 429, 1.0, rate, empty_at)


@pytest.mark.parametrize(
    ("url", "target", "found"),
    [
        ("https://A.example/x?y=1", None, "a.example:443"),
        ("http://a.example", None, "a.example:80"),
        ("http://a.example.:8000/", None, "a.example:8000"),
        ("http://[::1]:8000/", None, "[::1]:8000"),
        ("/x", "https://b.example/base", "b.example:443"),
        ("/x", None, "/mail"),
        ("http://a b/", None, ""),
    ],
)
def test_a_receiver_is_a_host_and_port_or_the_app_in_a_queue(
    url: str, target: str | None, found: str
) -> None:
    """However its URL is written."""
    assert slowdown_target("mail", url, target) == found


def test_who_asks_is_given_less_and_recovers() -> None:
    """Half each time, twice as much every half minute, and as fast as ever in the end."""
    first = slowed(None, HOST, NOW, 429, 0.0)
    assert (first.rate, first.said, first.tokens(NOW)) == (10.0, "429, Retry-After 0 s", 0)
    again = slowed(first, HOST, NOW + 2 * SECOND, 503, 0.0)
    assert again.rate == pytest.approx(10 * 2 ** (2 / 30) / 2)
    assert (again.slowed_at, again.asked_at, again.status) == (NOW, NOW + 2 * SECOND, 503)
    assert [at(125.0).rate_at(NOW + after * SECOND) for after in (0, 30, 60, 90)] == [
        125,
        250,
        500,
        500,
    ]
    assert at(125.0).over_at == NOW + 60 * SECOND
    assert slowed(at(0.1), HOST, NOW + 2 * SECOND, 429, 0.0).rate == 0.1
    assert slowed(None, "/mail", NOW, 503, 30.0).rate == 250.0


def test_what_comes_within_a_second_is_one_complaint() -> None:
    """As of requests that were under way; the latest is what it said."""
    first = slowed(None, HOST, NOW, 429, 5.0)
    second = slowed(first, HOST, NOW + SECOND // 2, 503, 20.0)
    assert (second.rate, second.asked_at, second.said) == (10.0, NOW, "503, Retry-After 20 s")
    assert slowed(second, HOST, NOW + SECOND, 429, 1.0).rate == pytest.approx(5.0, abs=0.2)


def test_a_slow_host_has_half_of_the_slots() -> None:
    """What is put off is looked at again soon, later the more there is of it."""
    one = SlowHost(3, 4)
    assert (one.tokens(NOW), one.taken(NOW, 2).tokens(NOW)) == (3, 1)
    assert [one.due_at(NOW, position) - NOW for position in (1, 4, 100, 10_000)] == [
        SECOND,
        2 * SECOND,
        26 * SECOND,
        30 * SECOND,
    ]


@given(
    st.floats(0.1, 250),
    st.lists(st.tuples(st.integers(0, 5 * SECOND), st.integers(1, 300)), max_size=60),
)
def test_no_more_is_sent_than_the_rate_allows(rate: float, steps: list[tuple[int, int]]) -> None:
    """A second's worth at once, and never more than the rate that recovers."""
    one, now, sent, allowed = at(rate), NOW, 0, max(1.0, rate)
    for passed, wanted in steps:
        allowed += passed / SECOND * one.rate_at(now + passed)
        now += passed
        number = min(wanted, one.tokens(now))
        if number:
            one = one.taken(now, number)
        sent += number
        assert sent <= allowed * 1.5 + max(1.0, one.rate_at(now)) + 1


@given(st.floats(0.1, 250), st.integers(1, 10_000))
def test_those_that_wait_have_their_turns_one_after_the_other(rate: float, position: int) -> None:
    """In order, later than now, no sooner than the rate allows."""
    one = at(rate)
    assert NOW < one.due_at(NOW, position) <= one.due_at(NOW, position + 1)
    assert one.due_at(NOW, 1) <= NOW + 10.1 * SECOND


def test_what_is_enforced_is_told_of_queues() -> None:
    """Of the application's own routes."""
    own = {"/mail": slowed(None, "/mail", NOW, 503, 1.0)}
    assert enforced(None, "mail", own, NOW) == 250.0
    assert enforced(5.0, "mail", own, NOW) == 5.0
    assert enforced(None, "default", own, NOW) is None
    assert own["/mail"].name == "the app's own routes in queue mail"


def test_unknown_hosts_share_what_slow_ones_leave() -> None:
    """Those of which a quick reply is known, and the app's own routes, are not among them."""
    unknown = UnknownHosts(3, 4, {"quick.example:443"})
    assert unknown.covers(HOST)
    assert not unknown.covers("quick.example:443")
    assert not unknown.covers("/mail")
    assert unknown.taken(NOW, 2).tokens(NOW) == 1
    turns = [unknown.due_at(NOW, position) - NOW for position in (1, 31, 32, 2000)]
    assert turns == [SECOND, SECOND, 2 * SECOND, 30 * SECOND]
