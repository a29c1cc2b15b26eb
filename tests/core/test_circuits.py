"""Circuits of receivers: the decisions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue.core.queues.circuits import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    OPENS_AT,
    Circuit,
    CircuitChange,
    OpenCircuit,
    Result,
    Waiting,
    first_failure,
)
from flask_taskqueue.core.times import SECOND, to_datetime

NOW = 1_700_000_000 * SECOND
HOST = "a.example:443"
FAILED = Result("task", False, NOW, 20_000, "503")
ANSWERED = Result("task", True)
NOTHING = Result("task", None)


def after(circuit: Circuit | None, *results: Result, now: int = NOW) -> Circuit:
    """The circuit after some attempts, which is not well."""
    found = (circuit or first_failure(HOST, now)).after(results, now)
    assert found is not None
    return found


def opened() -> Circuit:
    """A circuit that has just opened."""
    return after(None, *[FAILED] * OPENS_AT)


def test_five_failures_in_a_row_open_it() -> None:
    """Whether they are told of one by one or together; four do not."""
    circuit = first_failure(HOST, NOW)
    for number in range(1, OPENS_AT):
        circuit = after(circuit, FAILED, now=NOW + number)
        assert (circuit.failures, circuit.opened_at) == (number, None)
    last = after(circuit, FAILED, now=NOW + 9)
    assert (last.failing_since, last.opened_at) == (NOW, NOW + 9)
    assert last.probe_at == NOW + 9 + FIRST_PAUSE
    assert opened().opened_at == NOW
    assert last.said == "the reply was 503"


def test_an_answer_ends_the_row_and_closes_it() -> None:
    """Of a probe, or of an attempt that was under way; also among failures."""
    for circuit in (first_failure(HOST, NOW), opened()):
        assert circuit.after([FAILED, ANSWERED, FAILED], NOW) is None
    assert after(after(None, FAILED), NOTHING).failures == 1


def test_failures_of_attempts_that_began_before_an_answer_do_not_count() -> None:
    """It is closed, and they tell nothing new, however late they end."""
    answered = replace(first_failure(HOST, NOW), probe_at=NOW + SECOND)
    found = after(answered, *[FAILED] * 9, now=NOW + 30 * SECOND)
    assert (found.failures, found.opened_at) == (0, None)
    later = [FAILED._replace(began=NOW + 2 * SECOND)] * OPENS_AT
    assert after(answered, *later).is_open


def test_failures_of_what_was_under_way_do_not_put_the_probe_off() -> None:
    """Only a probe that fails does, by twice the time each time, up to five minutes."""
    circuit = replace(opened(), probe_id="probe")
    same = after(circuit, FAILED, FAILED, now=NOW + SECOND)
    assert (same.probe_at, same.probes, same.probe_id) == (circuit.probe_at, 0, "probe")
    pauses = []
    for _ in range(9):
        failed = after(replace(circuit, probe_id="probe"), FAILED._replace(task_id="probe"))
        pauses.append(failed.probe_at - NOW)
        circuit = failed
    assert pauses[:4] == [FIRST_PAUSE * factor for factor in (2, 4, 8, 16)]
    assert pauses[-1] == LONGEST_PAUSE
    assert circuit.probe_id == ""


def test_a_probe_that_shows_nothing_is_no_answer() -> None:
    """The circuit stays open, and the next probe waits as long as the one before."""
    circuit = replace(opened(), probe_id="probe", probes=2)
    found = after(circuit, NOTHING._replace(task_id="probe"), now=NOW + SECOND)
    assert found.opened_at is not None
    assert (found.probes, found.probe_id) == (2, "")
    assert found.probe_at == NOW + SECOND + 4 * FIRST_PAUSE


def test_one_probe_at_a_time_may_be_sent() -> None:
    """When its time has come and none is under way."""
    circuit = opened()
    assert circuit.tokens(circuit.probe_at - 1) == 0
    assert circuit.tokens(circuit.probe_at) == 1
    assert replace(circuit, probing=True).tokens(circuit.probe_at + FIRST_PAUSE) == 0


@given(st.lists(st.integers(-SECOND * 90_000, 0), min_size=2), st.booleans())
def test_what_waits_keeps_its_order(etas: list[int], probing: bool) -> None:
    """The first is due for the probe, the others after it in the order of their etas, however
    often they are put off.
    """
    circuit = replace(opened(), probing=probing)
    turns = [circuit.due_at(NOW, 2, NOW + eta) for eta in sorted(etas)]
    assert turns == sorted(turns)
    first = circuit.due_at(NOW, 1, NOW + max(etas))
    assert first <= min(turns) or probing
    assert all(turn > NOW for turn in (first, *turns))


def test_those_that_wait_are_looked_at_when_the_probe_should_have_ended() -> None:
    """As long after it as the last one took, and a second; a minute at most."""
    for took, margin in ((20_000, 20_000), (30 * SECOND, 30 * SECOND), (900 * SECOND, 60 * SECOND)):
        circuit = replace(opened(), probe_took=took)
        turn = circuit.due_at(NOW, 2, NOW)
        assert SECOND <= turn - circuit.probe_at - margin <= 2 * SECOND


def test_every_other_probe_is_for_a_url_that_has_not_failed() -> None:
    """Or for the one that failed longest ago; those in between are what waits longest."""
    ago = [NOW - number * SECOND for number in range(10)]
    failing = opened()
    waiting = [
        Waiting("bad", "https://a.example/bad", ago[9], ago[3]),
        Waiting("bad too", "https://a.example/bad", ago[8], None),
        Waiting("worse", "https://a.example/worse", ago[9], ago[5]),
        Waiting("good", "https://a.example/good", ago[1], None),
        Waiting("good too", "https://a.example/fine", ago[0], None),
    ]
    assert failing.chosen(waiting, []) == "good"
    assert failing.chosen(waiting[:3], []) == "worse"
    assert replace(failing, probes=1).chosen(waiting, []) == "bad too"
    ended = Result("dead", False, ago[2], 0, "503", "https://a.example/good")
    assert failing.chosen(waiting, [ended]) == "good too"
    assert failing.chosen([], [ended]) == ""


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
def test_every_task_has_its_turn_as_a_probe(paths: list[str]) -> None:
    """Whatever the URLs are, and although new ones come for each probe."""
    circuit = opened()
    waiting = [Waiting(str(n), path, NOW + n, None) for n, path in enumerate(paths)]
    first, sent = {item.task_id for item in waiting}, set()
    for probe in range(2 * len(paths)):
        now = NOW + (probe + 1) * SECOND
        waiting.append(Waiting(f"new {probe}", f"new {probe}", now, None))
        chosen = circuit.chosen(waiting, [])
        sent.add(chosen)
        waiting = [
            item._replace(tried=now + 1) if item.task_id == chosen else item for item in waiting
        ]
        circuit = replace(circuit, probes=circuit.probes + 1)
    assert first <= sent


def test_what_was_chosen_goes_first() -> None:
    """Others are due after it, also the first of a look."""
    chosen = replace(opened(), probe_id="chosen")
    assert chosen.due_at(NOW, 1, NOW) > chosen.probe_at + SECOND


def test_people_are_told_what_happened() -> None:
    """In the log, and by the objects they ask for."""
    circuit = replace(opened(), failure="connection")
    assert str(CircuitChange(circuit, True)) == (
        "the circuit of a.example:443 is open: 5 attempts in a row have failed (the connection "
        "failed); its tasks wait, and one at a time is sent as a probe"
    )
    assert "is closed" in str(CircuitChange(circuit, False))
    told = OpenCircuit.of(circuit)
    assert (told.target, told.failures, told.failure) == (HOST, 5, "the connection failed")
    assert told.opened_at == to_datetime(NOW)
