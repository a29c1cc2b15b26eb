"""The transports, by which requests go out."""

from __future__ import annotations

from typing import Protocol

from ...core.delivery.delivery import Delivery
from ...core.delivery.verdict import OutgoingRequest, Reply


class Transport(Protocol):
    """A way for a request to go out and its reply to come back."""

    proves: bool
    """Whether it proves by itself where a request comes from, so that a signature adds nothing."""

    def send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Send the request and return what came back before ``delivery.expires``.

        Trouble on the way is reported in the reply, not raised.
        """

    def close(self) -> None:
        """Close the connections."""

    def reset(self) -> None:
        """Forget connections without closing them, because after a fork they are the parent's."""
