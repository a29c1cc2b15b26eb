"""``flask taskqueue circuits`` and ``close-circuit``."""

from __future__ import annotations

from dataclasses import asdict

import click
from flask.cli import with_appcontext

from ..api.receivers import close_circuit as close
from ..api.receivers import open_circuits
from ..core.times import utc
from .audit import logged
from .options import current_runtime, json_option
from .output import chatter, echo_change, echo_json, echo_table


@click.command("circuits")
@json_option
@with_appcontext
def circuits(as_json: bool) -> None:
    """List the receivers that keep failing, to which only probes are sent."""
    found = open_circuits(current_runtime())
    if as_json:
        echo_json([asdict(circuit) for circuit in found])
        return
    if not found:
        chatter("No circuit is open.")
        return
    echo_table(
        ["RECEIVER", "FAILURES", "LAST FAILURE", "FAILING SINCE", "NEXT PROBE"],
        [
            [
                circuit.target,
                str(circuit.failures),
                circuit.failure,
                utc(circuit.failing_since),
                utc(circuit.next_probe_at),
            ]
            for circuit in found
        ],
    )


@click.command("close-circuit")
@click.argument("target")
@json_option
@with_appcontext
def close_circuit(target: str, as_json: bool) -> None:
    """Send tasks to the receiver TARGET, a URL or host:port, again at once."""
    runtime = current_runtime()
    with logged(runtime, "close-circuit", target):
        changed = close(runtime, target)
    echo_change(
        "close-circuit",
        target,
        changed,
        as_json,
        f"Closed the circuit of {target}." if changed else f"The circuit of {target} is not open.",
    )
