"""Commands on receivers that keep failing: circuits, close-circuit."""

from __future__ import annotations

from tests.circuits import open_circuit
from tests.cli.conftest import Console


def test_open_circuits_are_listed(console: Console) -> None:
    """With what fails, since when, and when the next probe is sent."""
    assert console.run("circuits").stderr == "No circuit is open.\n"
    open_circuit(console.bench.store, "a.example:443")
    head, line = console.run("circuits").stdout.splitlines()
    assert head.split()[:2] == ["RECEIVER", "FAILURES"]
    assert line.split()[:5] == ["a.example:443", "5", "the", "connection", "failed"]
    (document,) = console.json("circuits")
    assert (document["target"], document["failure"]) == ("a.example:443", "the connection failed")
    assert document["next_probe_at"].endswith("Z")


def test_one_is_closed_by_its_url_or_its_name(console: Console) -> None:
    """The audit log has who did it; what is no receiver is refused with what to write."""
    open_circuit(console.bench.store, "a.example:443")
    told = console.run("close-circuit", "https://A.example/hook")
    assert told.stdout == "Closed the circuit of https://A.example/hook.\n"
    assert console.run("circuits").stdout == ""
    assert console.json("close-circuit", "a.example:443") == {
        "action": "close-circuit",
        "name": "a.example:443",
        "changed": False,
    }
    refused = console.run("close-circuit", "a.example")
    assert refused.exit_code != 0
    assert "such as 'example.com:443'" in refused.stderr
    store = console.bench.store
    with store.reading() as connection:
        assert {row.action for row in store.audit.latest(connection, 10)} == {"close-circuit"}
