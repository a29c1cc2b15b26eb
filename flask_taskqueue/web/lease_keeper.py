"""The keeper of the leases of deliveries that this process serves, without a dispatcher of its own.

It does for them what a dispatcher's heartbeat and its watch of deadlines do there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError
from ..core.times import lease_clock
from ..process.interrupts import interrupt
from ..process.logs import get_logger
from ..process.threads import start_thread
from ..store import Store

_logger = get_logger()

_TICK = 1.0
"""The seconds between two looks at deadlines."""


class LeaseKeeper:
    """A keeper that renews the leases of deliveries until they are over.

    Its thread runs while there are any. A handler whose lease is lost, or may be, is told so; one
    that has reached its deadline is interrupted.
    """

    def __init__(self, store: Store, lease: float) -> None:
        self._store = store
        self._lease = lease
        self._kept: dict[tuple[str, str], Delivery] = {}
        self._counting = threading.Lock()
        self._works = False

    @contextmanager
    def keeping(self, delivery: Delivery, since: float) -> Iterator[None]:
        """Keep the lease, taken at ``since`` (clock of leases), of a delivery in this block.

        Raises `NoThreadError`.
        """
        delivery.hold(since, self._lease)
        with self._counting:
            self._kept[delivery.lease] = delivery
            begins, self._works = not self._works, True
        try:
            if begins:
                self._begin()
            yield
        finally:
            with self._counting:
                del self._kept[delivery.lease]

    def _begin(self) -> None:
        started = False
        try:
            start_thread(self._work, name="taskqueue-leases")
            started = True
        finally:
            if not started:
                self._works = False

    def _work(self) -> None:
        renewed_at = lease_clock()
        while True:
            time.sleep(min(_TICK, self._lease / 3))
            with self._counting:
                kept = list(self._kept.values())
                if not kept:
                    self._works = False
                    return
            now = time.monotonic()
            for delivery in kept:
                if now >= delivery.expires:
                    interrupt(delivery)
            since = lease_clock()
            if since - renewed_at >= self._lease / 3:
                renewed_at = since
                self._renew(kept, since)

    def _renew(self, kept: list[Delivery], since: float) -> None:
        held = [delivery.lease for delivery in kept if not delivery.over]
        try:
            renewed, lost = self._store.renew(held, self._lease) if held else (set(), set())
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            _logger.warning("leases could not be renewed: %s", error)
            renewed, lost = set(), set()
        for delivery in kept:
            if delivery.lease in renewed:
                delivery.hold(since, self._lease)
            elif delivery.lease in lost and not delivery.over:
                delivery.cancelled = True
            else:
                delivery.fence(lease_clock())
