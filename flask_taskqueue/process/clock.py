"""The clock of leases, which goes on while the machine is suspended."""

from __future__ import annotations

import time

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def lease_clock() -> float:
    """Return the seconds by which this process judges whether its leases still hold.

    Other machines go on while this one sleeps, so the clock counts that time too. Only Linux has
    such a clock; elsewhere it is the monotonic one.
    """
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)
