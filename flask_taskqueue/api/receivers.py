"""Receivers: the hosts that tasks are sent to, their secrets and their circuits."""

from __future__ import annotations

from functools import partial

from ..core.delivery.signatures import webhook_secret
from ..core.queues.circuits import OpenCircuit
from ..core.urls import named_receiver
from ..runtime import Runtime
from .changes import make_change
from .tasks import Tasks


class Receivers(Tasks):
    """What can be asked of receivers, by the URL that tasks are sent to or its host and port."""

    def webhook_secret(self, target: str) -> str:
        """Return the secret (``whsec_…``) with which another host verifies deliveries.

        Verification follows Standard Webhooks. ``target`` is the URL that tasks are sent to, or its
        host and port. Each host and port has its own secret, so that no host can sign for another.
        Raises `InvalidUrlError`.
        """
        return webhook_secret(self._runtime.keys.webhook, target)

    def open_circuits(self) -> list[OpenCircuit]:
        """Return the receivers that keep failing, to which only probes are sent, by name."""
        return open_circuits(self._runtime)

    def close_circuit(self, target: str) -> bool:
        """Close the circuit of a receiver, and return whether it was open.

        The tasks that wait for it are due now, in the order of their etas, unless they are more
        than ten thousand; the others follow within five minutes. If the receiver still fails, the
        circuit opens again. ``target`` is the URL that tasks are sent to, or its host and port.
        Raises `InvalidUrlError`.
        """
        return close_circuit(self._runtime, target)


def open_circuits(runtime: Runtime) -> list[OpenCircuit]:
    """Return the open circuits, by receiver."""
    store = runtime.store
    return store.read(
        lambda connection: [
            OpenCircuit.of(circuit) for circuit in store.circuits.open(connection).values()
        ]
    )


def close_circuit(runtime: Runtime, target: str) -> bool:
    """Close a circuit; see `Receivers.close_circuit`."""
    receiver = named_receiver(target)
    closed, _ = make_change(
        runtime,
        partial(runtime.store.circuits.close, target=receiver),
        False,
        name=lambda _: [f"the circuit of {receiver}"],
    )
    return closed is not None
